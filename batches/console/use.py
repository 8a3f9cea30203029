"""Which tenants use the service, this month and today (UTC)."""

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import F, Q, Sum

from batches.models import Usage
from billing.fields import Total

SHOWN = 10


class Used(NamedTuple):
    """What lines took: those that were run, tokens in and out, pico-USD."""

    lines: int = 0
    tokens: int = 0
    cost: int = 0


class User(NamedTuple):
    """A tenant, by its use."""

    pk: int
    name: str
    month: Used
    today: Used


class Use(NamedTuple):
    tenants: int  # that used it this month
    month: Used  # of all of them
    today: Used
    most: list[User]  # SHOWN, by the tokens of the month


def use(now: datetime) -> Use:
    """One query; a row for each tenant."""
    today = now.date()
    rows = Usage.objects.filter(day__gte=today.replace(day=1)).order_by().values_list("tenant_id", "tenant__name")
    found = [
        User(pk, name, Used(*map(int, sums[:3])), Used(*map(_whole, sums[3:])))
        for pk, name, *sums in rows.annotate(**_sums("month", None), **_sums("day", Q(day=today)))
    ]
    most = sorted(found, key=lambda user: (-user.month.tokens, -user.month.lines, user.name))[:SHOWN]
    return Use(len(found), _all([user.month for user in found]), _all([user.today for user in found]), most)


def _sums(name: str, when: Q | None) -> dict[str, Any]:
    return {
        f"{name}_lines": Sum(F("completed") + F("failed"), filter=when),
        f"{name}_tokens": Sum(F("input_tokens") + F("output_tokens"), filter=when),
        f"{name}_cost": Total("cost", filter=when),
    }


def _whole(sum_: int | None) -> int:
    return int(sum_ or 0)


def _all(used: list[Used]) -> Used:
    return Used(*map(sum, zip(*used, strict=True))) if used else Used()
