"""A tenant's endpoints: made, changed, their secrets rotated, tried out."""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q

from batches.core import webhooks
from batches.idempotency import Attempt
from batches.models import WebhookEndpoint, batch_id, event_id
from batches.webhooks import leasing, sending
from batches.webhooks.sending import Outcome, Sender
from tenants import clock
from tenants.errors import Refused, busy
from tenants.models import Tenant

MAX_ENDPOINTS = 10  # of a tenant
OVERLAP = timedelta(hours=24)
TESTS = 8  # at once in a process

_tests = threading.BoundedSemaphore(TESTS)


def create(attempt: Attempt, columns: dict[str, Any]) -> WebhookEndpoint:
    """A new endpoint with a secret of its own. Raises Refused 400 when the tenant has enough of them, Replayed when
    another attempt of it made one."""

    def make(tenant: Tenant) -> WebhookEndpoint:
        if WebhookEndpoint.objects.filter(tenant=tenant).count() >= MAX_ENDPOINTS:
            message = f"A tenant has at most {MAX_ENDPOINTS} webhook endpoints. Delete one first."
            raise Refused(400, "too_many_webhooks", message)
        now = clock.now()
        return WebhookEndpoint.objects.create(
            tenant=tenant, secret=webhooks.new_secret(), created_at=now, updated_at=now, **columns
        )

    return attempt.create(make)


def update(endpoint: WebhookEndpoint, columns: dict[str, Any]) -> None:
    """Change these columns alone."""
    if columns:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(**columns, updated_at=clock.now())


def rotate(endpoint: WebhookEndpoint, overlap: bool) -> str:
    """The new secret. With `overlap` the former one goes on signing, too, for 24 hours; else it ends at once.

    Raises Refused 409 when two secrets are live and both would have to be kept: a third one never is.
    """
    now = clock.now()
    rows = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    former: dict[str, Any] = {"previous_secret": "", "previous_until": None}
    if overlap:
        rows = rows.filter(Q(previous_until=None) | Q(previous_until__lte=now))
        former = {"previous_secret": F("secret"), "previous_until": now + OVERLAP}
    secret = webhooks.new_secret()
    if not rows.update(**former, secret=secret, updated_at=now):
        message = "The secret before this one is still live. Wait until it has ended, or rotate without keeping one."
        raise Refused(409, "secret_rotating", message)
    return secret


def forget_secrets() -> None:
    """Remove former secrets that sign no more."""
    ended = WebhookEndpoint.objects.filter(previous_until__lte=clock.now())
    if ended.exists():
        ended.update(previous_secret="", previous_until=None)


def delete(endpoint: WebhookEndpoint) -> None:
    """Remove it with its log. Locked before its deliveries are: an event that is being written waits, or is first."""
    with transaction.atomic():
        if locked := WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).first():
            locked.delete()


def try_out(endpoint: WebhookEndpoint, kind: str) -> Outcome:
    """Post a sample event of something that does not exist, now and once; it is not in the log.

    Raises Refused 503 while too many do so.
    """
    if not _tests.acquire(blocking=False):
        raise busy()
    try:
        now, event = clock.now(), event_id()
        subject = webhooks.alert(now.date(), 50) if kind == webhooks.SPENDING else batch_id()
        body = webhooks.render(event, kind, int(now.timestamp()), subject)
        message = leasing.written(endpoint, event, body, now)
        return asyncio.run(Sender().send(message, time.monotonic() + sending.TOTAL))
    finally:
        _tests.release()
