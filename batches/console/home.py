"""The home of the console: its figures, read in a few queries however much there is, and what needs somebody."""

from datetime import UTC
from typing import Any, NamedTuple

from batches.console import alerts, doing, load, promises, runners, takings, troubles, use
from batches.console.alerts import Alert
from batches.console.figures import Figures
from tenants import clock, holding

# What each card needs: who may not see all of what it shows does not see the card.
NEEDS: dict[str, frozenset[str]] = {
    "promises": frozenset({alerts.BATCH}),
    "load": frozenset({alerts.BATCH, alerts.UPSTREAM}),
    "doing": frozenset({alerts.UPSTREAM}),
    "hosts": frozenset({alerts.RUNNER}),
    "queue": frozenset({alerts.QUEUE}),
    "use": frozenset({"batches.view_usage"}),
    "takings": frozenset({"billing.view_ledgerentry"}),
    "dues": frozenset({alerts.INVOICE}),
}
PERMISSIONS = frozenset().union(*NEEDS.values(), {alerts.PRICE, alerts.ENDPOINT, alerts.DELIVERY, alerts.TENANT})


class Home(NamedTuple):
    cards: frozenset[str]  # of NEEDS
    figures: Figures
    alerts: list[Alert]


def home(sees: frozenset[str], queue: runners.Queue | None = None) -> Home:
    """For somebody with these permissions, of PERMISSIONS. At most eleven queries, and one for the time."""
    cards = frozenset(card for card, needed in NEEDS.items() if needed <= sees)
    figures = _read(cards, queue if "queue" in cards else None)
    return Home(cards, figures, [alert for alert in alerts.alerts(figures) if alert.needs in sees])


def _read(cards: frozenset[str], queue: runners.Queue | None) -> Figures:
    now = clock.now().astimezone(UTC)

    def card(name: str, room: Any, *given: Any) -> Any:
        return room(*given) if name in cards else None

    upstreams = card("doing", doing.upstreams, now) or []
    return Figures(
        now=now,
        promises=card("promises", promises.promises, now),
        lanes=card("load", load.lanes, upstreams) or [],
        doing=upstreams,
        hosts=card("hosts", runners.hosts, now) or [],
        queue=queue,
        troubles=troubles.troubles(now),
        use=card("use", use.use, now),
        takings=card("takings", takings.takings, now),
        dues=card("dues", takings.dues),
        held=holding.held(),
    )
