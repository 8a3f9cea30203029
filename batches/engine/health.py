"""How each upstream does now, as its runners see it: told by them at each heartbeat, read in one query."""

from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Case, Count, F, Q, QuerySet, Sum, When

from batches.models import Upstream
from tenants import clock

SUMMED = ("in_flight", "answers", "throttled", "errors", "tokens")
COLUMNS = ("max_in_flight", "cut", "takes", "users", *(f"sum_{name}" for name in SUMMED))


class Health(NamedTuple):
    """Figures no older than a heartbeat; those of a runner whose lease is over count nothing."""

    max_in_flight: int  # the operator's
    limit: int  # how many it takes at once, as far as runners have learned: fewer, where it refused more
    runners: int  # live ones that hold slots or have used it in the last minute
    in_flight: int
    answers: int  # of the last minute, as all below: it did its work
    throttled: int  # 429, 503
    errors: int  # no answer, an unreadable one, 5xx, the key refused
    tokens: int  # input and output of what was delivered


def of_upstreams(some: QuerySet[Upstream] | None = None) -> dict[int, Health]:
    """By the upstreams' ids, of these or of all. One query, and one for the time."""
    rows = annotated((Upstream.objects.all() if some is None else some).values_list("pk"), clock.now())
    return {pk: read(*row) for pk, *row in rows.values_list("pk", *COLUMNS)}


def annotated(rows: Any, now: datetime) -> Any:
    """These rows of Upstream with COLUMNS, of which `read` makes a Health."""
    live = Q(permits__runner__lease_until__gt=now)
    used = Q(permits__slots__gt=0) | Q(permits__in_flight__gt=0)
    for name in ("answers", "throttled", "errors"):
        used |= Q(**{f"permits__{name}__gt": 0})
    cut = Q(permits__limit__gt=0, permits__limit__lt=F("max_in_flight"))
    takes = Case(When(cut, then="permits__limit"), default="permits__slots")
    return rows.annotate(
        cut=Count("permits", filter=live & used & cut),
        takes=Sum(takes, filter=live & used, default=0),
        users=Count("permits", filter=live & used),
        **{f"sum_{name}": Sum(f"permits__{name}", filter=live, default=0) for name in SUMMED},
    )


def read(most: int, cut: int, takes: int, runners: int, *sums: int) -> Health:
    """Of a row's COLUMNS."""
    return Health(most, min(takes, most) if cut else most, runners, *sums)
