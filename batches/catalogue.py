"""The models that a tenant can reach, and what they cost it."""

from datetime import datetime
from typing import NamedTuple

from batches import validation
from billing import money, prices
from billing.models import Price
from tenants import clock


class Offer(NamedTuple):
    """A model; without a price its lines are free."""

    model: str
    own: bool  # on upstreams of the tenant's own
    since: datetime
    standard: Price | None
    batch: money.Rates | None  # what a batch of the tenant's pays


def offers(tenant: int) -> list[Offer]:
    """By name. Three queries, and one for the time."""
    found = validation.reachable_upstreams(tenant)
    now = clock.now()
    priced, own = prices.in_force(found, now), prices.own_discount(tenant, now)
    return [
        Offer(
            model=model,
            own=rows[0].tenant_id is not None,
            since=min(row.created_at for row in rows),
            standard=(price := priced.get(model)),
            batch=prices.rates(price, own) if price else None,
        )
        for model, rows in sorted(found.items())
    ]


def standard(price: Price) -> money.Rates:
    """The standard price, pico-USD per million tokens, as the batch rates are."""
    return money.Rates(price.input * money.MILLION, price.cached_input * money.MILLION, price.output * money.MILLION, 0)
