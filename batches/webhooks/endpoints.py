"""A tenant's endpoints: found, made, changed, their secrets rotated, tried out, their events sent again.

Each change is on the tenant's trail in its own transaction, whether a person does it or a key: `actor` says who.
"""

import asyncio
import threading
import time
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from batches import tasks
from batches.core import webhooks
from batches.idempotency import Attempt
from batches.models import WebhookDelivery, WebhookEndpoint, batch_id, event_id
from batches.webhooks import addresses, leasing, sending
from batches.webhooks.sending import Outcome, Sender
from tenants import clock, trail
from tenants.errors import Refused, busy
from tenants.models import Tenant
from tenants.sealed import Unopened

MAX_ENDPOINTS = 10  # of a tenant
OVERLAP = timedelta(hours=24)
TESTS = 8  # at once in a process

_tests = threading.BoundedSemaphore(TESTS)


def of(tenant: Tenant) -> QuerySet[WebhookEndpoint]:
    """The tenant's."""
    return WebhookEndpoint.objects.filter(tenant=tenant)


def named(tenant: Tenant, endpoint_id: str) -> WebhookEndpoint:
    """The tenant's endpoint; a foreign one answers exactly as one that does not exist. Raises Refused 404."""
    try:
        return of(tenant).get(public_id=endpoint_id if "\x00" not in endpoint_id else "")
    except WebhookEndpoint.DoesNotExist:
        message = "There is no webhook endpoint with this id."
        raise Refused(404, "webhook_not_found", message, param="webhook_endpoint_id") from None


def delivery(endpoint: WebhookEndpoint, delivery_id: str) -> WebhookDelivery:
    """One of its log. Raises Refused 404."""
    try:
        return endpoint.deliveries.get(event_id=delivery_id if "\x00" not in delivery_id else "")
    except WebhookDelivery.DoesNotExist:
        message = "This endpoint has no delivery with this id."
        raise Refused(404, "delivery_not_found", message, param="delivery_id") from None


def create(attempt: Attempt, actor: str, columns: dict[str, Any]) -> WebhookEndpoint:
    """A new endpoint with a secret of its own. Raises Refused 400 when the tenant has enough of them, Replayed when
    another attempt of it made one."""

    def make(tenant: Tenant) -> WebhookEndpoint:
        if of(tenant).count() >= MAX_ENDPOINTS:
            message = f"A tenant has at most {MAX_ENDPOINTS} webhook endpoints. Delete one first."
            raise Refused(400, "too_many_webhooks", message)
        now = clock.now()
        made = WebhookEndpoint.objects.create(
            tenant=tenant, secret=webhooks.new_secret(), created_at=now, updated_at=now, **columns
        )
        trail.record(tenant, actor, "webhook.created", made.public_id, **_described(made))
        return made

    return attempt.create(make)


def update(endpoint: WebhookEndpoint, actor: str, columns: dict[str, Any], reason: str = "") -> bool:
    """Change these columns alone; False when there was nothing to change. `reason` is what staff say on the trail."""
    with transaction.atomic():
        locked = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
        if locked is None or not columns:
            return False
        before, url = _described(locked), locked.url
        for name, value in columns.items():
            setattr(locked, name, value)
        locked.updated_at = clock.now()
        locked.save(update_fields=[*columns, "updated_at"])
        after = _described(locked)
        if url != locked.url and before["url"] == after["url"]:
            after["url"] += " (another path)"
        if differences := trail.differences(before, after):
            why = {"reason": reason} if reason else {}
            trail.record(locked.tenant, actor, "webhook.changed", locked.public_id, **differences, **why)
    return bool(differences)


def _described(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """For the trail, where nothing can be removed: some URLs carry a secret in their path."""
    return {
        "url": addresses.origin(endpoint.url),
        "name": endpoint.name,
        "event_types": endpoint.event_types.split(),
        "enabled": not endpoint.disabled_reason,
    }


def hint(endpoint: WebhookEndpoint) -> str | None:
    """Its secret, masked; None when it can't be opened."""
    try:
        return webhooks.hint(endpoint.secret.open())
    except Unopened:
        return None


def rotate(endpoint: WebhookEndpoint, actor: str, overlap: bool) -> str:
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
    with transaction.atomic():
        if not rows.update(**former, secret=secret, updated_at=now):
            message = (
                "The secret before this one is still live. Wait until it has ended, or rotate without keeping one."
            )
            raise Refused(409, "secret_rotating", message)
        ends = (now + OVERLAP if overlap else now).isoformat(timespec="seconds")
        trail.record(endpoint.tenant, actor, "webhook.secret_rotated", endpoint.public_id, former_secret_ends=ends)
    return secret


def forget_secrets() -> None:
    """Remove former secrets that sign no more."""
    ended = WebhookEndpoint.objects.filter(previous_until__lte=clock.now())
    if ended.exists():
        ended.update(previous_secret="", previous_until=None)


def delete(endpoint: WebhookEndpoint, actor: str) -> None:
    """Remove it with its log. Locked before its deliveries are: an event that is being written waits, or is first."""
    with transaction.atomic():
        if locked := WebhookEndpoint.objects.select_for_update().filter(pk=endpoint.pk).first():
            trail.record(locked.tenant, actor, "webhook.deleted", locked.public_id, **_described(locked))
            locked.delete()


def replay(endpoint: WebhookEndpoint, actor: str, sent: WebhookDelivery, reason: str = "") -> None:
    """Send an event (again) from now on, with the id that it has. `reason` is what staff say on the trail.

    Raises Refused 409 when it can't be now.
    """
    if endpoint.disabled_reason:
        raise Refused(409, "webhook_disabled", "The endpoint is disabled. Enable it first: enabled = true.")
    with transaction.atomic():
        if not leasing.replay(sent):
            message = "This event is being sent now. Look at its delivery in a moment."
            raise Refused(409, "delivery_in_progress", message, headers={"Retry-After": "5"})
        why = {"reason": reason} if reason else {}
        trail.record(endpoint.tenant, actor, "delivery.replayed", sent.event_id, endpoint=endpoint.public_id, **why)
        tasks.ring_deliver()


def try_out(endpoint: WebhookEndpoint, kind: str) -> Outcome:
    """Post a sample event of something that does not exist, now and once; it is not in the log.

    Raises Refused 503 while too many do so, Unopened when it can't be signed.
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
