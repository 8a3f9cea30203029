"""Which deliveries are sent next, by whom, and what comes of each: compare-and-set on the delivery's lease.

    pending, due at next_at -> claimed: next_at is the lease's end -> delivered
         ^                               |-> pending, due later
         |                               '-> failed, when the attempts were enough, or the endpoint is gone
         '---- replay, from any of them -----

Attempts are counted at the claim. A sender that dies lets its lease run out, and the event is sent again: receivers
get each event at least once.
"""

import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, Min, Q, QuerySet

from batches.core import webhooks
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.webhooks import sending
from batches.webhooks.sending import Message, Outcome
from tenants import clock, holding
from tenants.sealed import Unopened

LEASE = timedelta(seconds=30)  # twice the deadline of a POST
IN_FLIGHT, OF_TENANT = 64, 4  # at once; of an endpoint one
LOG_KEPT = timedelta(days=30)
AT_ONCE = 1_000  # rows given up, or forgotten

GONE = 410
PENDING = WebhookDelivery.State.PENDING


@dataclass(frozen=True)
class Claim:
    """A delivery in hand, to be sent by `end` on the monotonic clock."""

    pk: int
    endpoint: int
    tenant: int
    token: str
    attempts: int
    end: float
    message: Message


def due(now: datetime) -> QuerySet[WebhookDelivery]:
    """Deliveries that may be sent. Those of a suspended tenant wait; while the service holds, all do."""
    rows = WebhookDelivery.objects.filter(state=PENDING, next_at__lte=now, attempts__lt=webhooks.MAX_ATTEMPTS)
    return rows.filter(holding.working(), endpoint__disabled_reason="", endpoint__tenant__suspended=False)


def held(now: datetime) -> bool:
    """Whether somebody sends now, and so will see what is due by himself."""
    return WebhookDelivery.objects.filter(state=PENDING, next_at__gt=now).exclude(lease_token="").exists()


def waiting(now: datetime) -> bool:
    """Whether something is due to be sent or given up."""
    given_up = Q(attempts__gte=webhooks.MAX_ATTEMPTS) | ~Q(endpoint__disabled_reason="")
    return due(now).exists() or WebhookDelivery.objects.filter(given_up, state=PENDING, next_at__lte=now).exists()


def claim(token: str, in_flight: Collection[Claim]) -> list[Claim]:
    """Lease what goes next, beside what is `in_flight`: the first of every tenant before the second of any."""
    now, end = clock.now(), time.monotonic() + sending.TOTAL
    busy = {each.endpoint for each in in_flight}
    firsts = due(now).exclude(endpoint__in=busy).values_list("endpoint", "tenant")
    places = Counter(each.tenant for each in in_flight)
    ranked = []
    for first, tenant in sorted((first, tenant) for _, tenant, first in firsts.annotate(first=Min("pk"))):
        if places[tenant] < OF_TENANT:
            ranked.append((places[tenant], first))
            places[tenant] += 1
    chosen = [first for _, first in sorted(ranked)[: max(IN_FLIGHT - len(in_flight), 0)]]
    won = [pk for pk in chosen if _lease(pk, token, now)]
    rows = WebhookDelivery.objects.filter(pk__in=won, lease_token=token).select_related("endpoint")
    return [claimed for row in rows if (claimed := _claim(row, token, end, now))]


def _lease(delivery: int, token: str, now: datetime) -> bool:
    rows = WebhookDelivery.objects.filter(pk=delivery, state=PENDING, next_at__lte=now)
    return rows.update(lease_token=token, next_at=now + LEASE, attempts=F("attempts") + 1) == 1


def _claim(row: WebhookDelivery, token: str, end: float, now: datetime) -> Claim | None:
    """None for one that can't be signed: that was a failed attempt, and others follow."""
    at = int(row.created_at.timestamp())
    body = webhooks.render(row.event_id, row.event_type, at, row.subject)
    try:
        message = written(row.endpoint, row.event_id, body, now)
    except Unopened as error:
        unsigned = Message(row.endpoint.url, body, {})
        settle(_as_claim(row, token, end, unsigned), Outcome(None, error.code))
        return None
    return _as_claim(row, token, end, message)


def _as_claim(row: WebhookDelivery, token: str, end: float, message: Message) -> Claim:
    return Claim(row.pk, row.endpoint.pk, row.tenant_id, token, row.attempts, end, message)


def written(endpoint: WebhookEndpoint, event: str, body: bytes, now: datetime) -> Message:
    """An event as it goes to an endpoint, signed by its secret, and for a while after a rotation also by the former.

    Raises Unopened.
    """
    live = [endpoint.secret.open()]
    if endpoint.previous_until is not None and now < endpoint.previous_until:
        live.append(endpoint.previous_secret.open())
    return Message(endpoint.url, body, webhooks.headers(live, event, int(now.timestamp()), body))


def settle(claimed: Claim, outcome: Outcome) -> bool:
    """Record what came of an attempt, unless another one has the delivery now. An endpoint that is gone is disabled."""
    now = clock.now()
    mine = WebhookDelivery.objects.filter(pk=claimed.pk, lease_token=claimed.token, state=PENDING)
    log = {"lease_token": "", "last_at": now, "last_status": outcome.status, "last_error": outcome.error}
    gone = outcome.status == GONE
    wait = None if gone else webhooks.next_attempt(claimed.attempts)
    if not outcome.error:
        return mine.update(**log, state=WebhookDelivery.State.DELIVERED, next_at=None) == 1
    if wait is not None:
        return mine.update(**log, next_at=now + timedelta(seconds=wait)) == 1
    with transaction.atomic():
        WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=claimed.endpoint).first()  # as a delete does
        settled = mine.update(**log, state=WebhookDelivery.State.FAILED, next_at=None) == 1
        if gone and settled:
            known = WebhookEndpoint.objects.filter(pk=claimed.endpoint, disabled_reason="", url=claimed.message.url)
            known.update(disabled_reason=WebhookEndpoint.Disabled.GONE, updated_at=now)
    return settled


def bury() -> None:
    """Give up what nobody will settle: the last attempt's sender died, or the endpoint was disabled meanwhile."""
    free = WebhookDelivery.objects.filter(state=PENDING, next_at__lte=clock.now())
    disabled = WebhookEndpoint.objects.exclude(disabled_reason="").values("pk")
    _give_up(free.filter(attempts__gte=webhooks.MAX_ATTEMPTS), "sender_died")
    _give_up(free.filter(endpoint__in=disabled), "endpoint_disabled")


def _give_up(rows: QuerySet[WebhookDelivery], error: str) -> None:
    with transaction.atomic():
        _some(rows).update(state=WebhookDelivery.State.FAILED, next_at=None, lease_token="", last_error=error)


def _some(rows: QuerySet[WebhookDelivery]) -> QuerySet[WebhookDelivery]:
    """Some of these rows, locked. What another transaction holds is left for the next time: an endpoint's delete locks
    its deliveries in an order of its own, and two that wait for each other would not end."""
    unlocked = rows.select_for_update(skip_locked=True).order_by("pk").values_list("pk", flat=True)
    return rows.filter(pk__in=list(unlocked[:AT_ONCE]))


def replay(delivery: WebhookDelivery) -> bool:
    """Send it (again) from now on, as if it were new; False when it is being sent at this moment."""
    now = clock.now()
    free = ~Q(state=PENDING) | Q(lease_token="") | Q(next_at__lte=now)
    rows = WebhookDelivery.objects.filter(free, pk=delivery.pk)
    return rows.update(state=PENDING, attempts=0, next_at=now, lease_token="") == 1


def prune() -> None:
    """Forget some of what came to an end long ago."""
    ended = WebhookDelivery.objects.exclude(state=PENDING)
    oldest = ended.order_by("pk").values_list("created_at", flat=True).first()
    limit = clock.now() - LOG_KEPT
    if oldest is None or oldest >= limit:
        return
    with transaction.atomic():
        _some(ended.filter(created_at__lt=limit)).delete()
