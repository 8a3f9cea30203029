"""How a request comes to a tenant's batch: by this alone. A foreign one answers exactly as one that does not exist."""

from django.db.models import QuerySet
from rest_framework.request import Request

from batches.api import serializers
from batches.core import states
from batches.core.states import Status
from batches.models import Batch
from tenants import observed
from tenants.authentication import tenant_of
from tenants.errors import Refused


def of_tenant(request: Request) -> QuerySet[Batch]:
    """The tenant's batches, as the serializers want them."""
    return Batch.objects.filter(tenant=tenant_of(request)).annotate(**serializers.NAMED)


def batch(request: Request, batch_id: str, param: str = "batch_id") -> Batch:
    """The tenant's batch. Raises Refused 404."""
    try:
        found = of_tenant(request).get(public_id=batch_id if "\x00" not in batch_id else "")
    except Batch.DoesNotExist:
        raise Refused(404, "batch_not_found", "There is no batch with this id.", param=param) from None
    observed.note(batch=found.public_id)
    return found


def not_complete(found: Batch, cure: str = "") -> Refused:
    """The refusal of what there is at a batch's end alone."""
    shown = states.shown(Status(found.status), found.cancelling_at is not None)
    return Refused(409, "batch_not_complete", f"The batch is {shown}: wait until it has ended.{cure}")
