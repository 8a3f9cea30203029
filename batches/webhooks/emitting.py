"""An end of a batch and an alert become events: in the transaction of what happened, so that none is missed or told of
twice."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from batches import tasks
from batches.core import webhooks
from batches.core.states import Status
from batches.models import Batch, WebhookDelivery, WebhookEndpoint, event_id


def announce(batch: int, status: Status, moment: datetime) -> None:
    """Write a delivery to each endpoint that wants this end, and ring. One query when there is none."""
    tenant = Batch.objects.filter(pk=batch).values("tenant")
    named = Batch.objects.filter(pk=batch).values_list("public_id", flat=True)
    _write({"tenant__in": tenant}, f"batch.{status}", lambda: list(named), moment)


def alert(tenant: int, month: date, percents: list[int], moment: datetime) -> None:
    """The same of shares of the limit of a month that were reached."""
    subjects = [webhooks.alert(month, percent) for percent in percents]
    _write({"tenant": tenant}, webhooks.SPENDING, lambda: subjects, moment)


def _write(whose: dict[str, Any], kind: str, subjects: Callable[[], list[str]], moment: datetime) -> None:
    rows = WebhookEndpoint.objects.filter(**whose, disabled_reason="").only("tenant", "event_types")
    locked = rows.select_for_update(no_key=True).order_by("pk")  # none of them is deleted before the commit
    wanted = [endpoint for endpoint in locked if kind in endpoint.event_types.split()]
    if not wanted:
        return
    events = [(event_id(), subject) for subject in subjects()]
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(
            tenant_id=endpoint.tenant_id,
            endpoint=endpoint,
            event_id=event,
            event_type=kind,
            subject=subject,
            created_at=moment,
            next_at=moment,
        )
        for event, subject in events
        for endpoint in wanted
    )
    tasks.ring_deliver()
