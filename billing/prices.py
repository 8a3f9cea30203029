"""Price versions: setting a new one, and the rates in force at a moment."""

from collections.abc import Iterable
from datetime import datetime

from billing import money
from billing.models import Price


def set_price(model: str, input_usd: str, output_usd: str, cached_input_usd: str | None = None) -> Price:
    """A new version of `model`'s standard price, USD per million tokens, in force from now. Raises ValueError."""
    rate = money.rate(input_usd)
    cached = rate if cached_input_usd is None else money.rate(cached_input_usd)
    return Price.objects.create(model=model, input=rate, cached_input=cached, output=money.rate(output_usd))


def in_force(models: Iterable[str], moment: datetime) -> dict[str, Price]:
    """The standard prices in force at `moment`, by model; a model without a price is left out."""
    rows = Price.objects.filter(model__in=set(models), effective_at__lte=moment).order_by("effective_at", "pk")
    return {price.model: price for price in rows}


def rates_at(models: Iterable[str], moment: datetime) -> dict[str, money.Rates]:
    """The batch rates in force at `moment` by model; a model without a price is free."""
    wanted = set(models)
    return dict.fromkeys(wanted, money.FREE) | priced_at(wanted, moment)


def priced_at(models: Iterable[str], moment: datetime) -> dict[str, money.Rates]:
    """The same, of those models alone that have a price."""
    return {
        price.model: money.Rates(*map(money.discounted, (price.input, price.cached_input, price.output)))
        for price in in_force(set(models), moment).values()
    }
