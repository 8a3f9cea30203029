"""Who sends: live runners by host; and the queue that calls them and does the chores."""

from datetime import datetime, timedelta
from typing import NamedTuple

from django.db.models import Sum

from batches.models import Runner


class Host(NamedTuple):
    """The runners of one machine."""

    name: str
    live: int = 0  # that take new work
    draining: int = 0  # that finish what they have: a successor took their place
    lost: int = 0  # whose lease is over: what they held goes to others
    in_flight: int = 0


class Line(NamedTuple):
    """Of one of django-q2's clusters: the rows that no worker has taken, and for how long the first has waited."""

    cluster: str
    rows: int
    oldest: timedelta


class Queue(NamedTuple):
    """django-q2's queue, as `provocative` sees it."""

    lines: list[Line]
    failed: int = 0  # tasks, in the last day

    def line(self, cluster: str) -> Line:
        found = (line for line in self.lines if line.cluster == cluster)
        return next(found, Line(cluster, 0, timedelta()))


def hosts(now: datetime) -> list[Host]:
    """By name. One query."""
    found: dict[str, Host] = {}
    rows = Runner.objects.order_by("host").annotate(Sum("permits__in_flight", default=0))
    for name, until, draining, in_flight in rows.values_list(
        "host", "lease_until", "draining", "permits__in_flight__sum"
    ):
        host, is_live = found.get(name, Host(name)), until > now
        found[name] = host._replace(
            live=host.live + (is_live and not draining),
            draining=host.draining + (is_live and draining),
            lost=host.lost + (not is_live),
            in_flight=host.in_flight + (in_flight if is_live else 0),
        )
    return list(found.values())
