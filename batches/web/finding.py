"""How a page comes to a batch: by its tenant and this alone. A foreign one answers as one that does not exist."""

from typing import Any

from django.db.models import QuerySet

from batches.models import Batch
from tenants import observed
from tenants.errors import Refused
from tenants.models import Tenant


def batch(tenant: Tenant, batch_id: str, rows: QuerySet[Batch] | None = None) -> Any:
    """The tenant's Batch, of `rows` or with its input's and results' rows. Raises Refused 404."""
    if rows is None:
        rows = Batch.objects.select_related("input_file", "results_file")
    found = rows.filter(tenant=tenant, public_id=batch_id).first() if "\x00" not in batch_id else None
    if found is None:
        raise Refused(404, "batch_not_found", "There is no batch with this id.")
    observed.note(batch=batch_id)
    return found
