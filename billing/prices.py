"""Price versions: setting a new one, and the rates in force at a moment."""

from collections.abc import Iterable
from datetime import datetime

from django.db import transaction

from billing import money
from billing.models import Price, TenantDiscount
from tenants import clock, trail


def set_price(
    model: str,
    input_usd: str,
    output_usd: str,
    cached_input_usd: str | None = None,
    discount: int | None = None,
    actor: str = trail.OPERATOR,
) -> Price:
    """A new version of `model`'s standard price, USD per million tokens, in force from now. `discount` is the percent
    that batches are spared; None: as before. Raises ValueError."""
    rate = money.rate(input_usd)
    cached = rate if cached_input_usd is None else money.rate(cached_input_usd)
    output = money.rate(output_usd)
    if discount is None:
        before = now_in_force(model)
        discount = before.discount if before else money.LEAST_DISCOUNT
    return add(Price(model=model, input=rate, cached_input=cached, output=output, discount=discount), actor)


def add(version: Price, actor: str) -> Price:
    """Store a new version, in force from now, on the operators' trail."""
    with transaction.atomic():
        before = now_in_force(version.model)
        version.save(force_insert=True)
        told = {"before": said(before) if before else {}, "after": said(version)}
        trail.record(None, actor, "price.created", version.model, **told)
    return version


def said(price: Price) -> dict[str, str]:
    """A price for people: USD per million tokens, and percent."""
    rates = {"input_usd": price.input, "cached_input_usd": price.cached_input, "output_usd": price.output}
    return {name: money.per_million(rate) for name, rate in rates.items()} | {"discount": f"{price.discount}%"}


def now_in_force(model: str) -> Price | None:
    return in_force([model], clock.now()).get(model)


def in_force(models: Iterable[str], moment: datetime) -> dict[str, Price]:
    """The standard prices in force at `moment`, by model; a model without a price is left out."""
    rows = Price.objects.filter(model__in=set(models), effective_at__lte=moment).order_by("effective_at", "pk")
    return {price.model: price for price in rows}


def own_discount(tenant: int, moment: datetime) -> int | None:
    """The percent that the tenant is spared of every price at `moment`; None: each model's own."""
    versions = TenantDiscount.objects.filter(tenant_id=tenant, effective_at__lte=moment)
    return versions.order_by("-effective_at", "-pk").values_list("discount", flat=True).first()


def rates(price: Price, own: int | None) -> money.Rates:
    """What a batch pays by `price`; `own` is the tenant's discount."""
    discount = price.discount if own is None else own
    return money.Rates(
        input=money.discounted(price.input, discount),
        cached_input=money.discounted(price.cached_input, discount),
        output=money.discounted(price.output, discount),
        discount=discount,
    )


def rates_at(tenant: int, models: Iterable[str], moment: datetime) -> dict[str, money.Rates]:
    """The batch rates in force for the tenant at `moment` by model; a model without a price is free."""
    wanted = set(models)
    return dict.fromkeys(wanted, money.FREE) | priced_at(tenant, wanted, moment)


def priced_at(tenant: int, models: Iterable[str], moment: datetime) -> dict[str, money.Rates]:
    """The same, of those models alone that have a price."""
    own = own_discount(tenant, moment)
    return {price.model: rates(price, own) for price in in_force(models, moment).values()}
