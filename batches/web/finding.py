"""How a page comes to a batch: by its tenant and this alone. A foreign one answers as one that does not exist."""

from batches.models import Batch
from tenants.errors import Refused
from tenants.models import Tenant


def batch(tenant: Tenant, batch_id: str) -> Batch:
    """The tenant's batch with its files' rows. Raises Refused 404."""
    rows = Batch.objects.select_related("input_file", "results_file").filter(tenant=tenant)
    found = rows.filter(public_id=batch_id).first() if "\x00" not in batch_id else None
    if found is None:
        raise Refused(404, "batch_not_found", "There is no batch with this id.")
    return found
