"""An end of a batch becomes events: in the transaction of that end, so that none is missed or told of twice."""

from datetime import datetime

from batches import tasks
from batches.core.states import Status
from batches.models import Batch, WebhookDelivery, WebhookEndpoint, event_id


def announce(batch: int, status: Status, moment: datetime) -> None:
    """Write a delivery to each endpoint that wants this end, and ring. One query when there is none."""
    kind = f"batch.{status}"
    tenant = Batch.objects.filter(pk=batch).values("tenant")
    rows = WebhookEndpoint.objects.filter(tenant__in=tenant, disabled_reason="").only("tenant", "event_types")
    locked = rows.select_for_update(no_key=True).order_by("pk")  # none of them is deleted before the commit
    wanted = [endpoint for endpoint in locked if kind in endpoint.event_types.split()]
    if not wanted:
        return
    subject, event = Batch.objects.values_list("public_id", flat=True).get(pk=batch), event_id()
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
        for endpoint in wanted
    )
    tasks.ring_deliver()
