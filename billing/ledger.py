"""The ledger: one charge a batch, however often it is asked for."""

from billing.models import LedgerEntry


def charge_batch(tenant_id: int, batch: str, pico: int) -> bool:
    """Post the charge of the batch with public id `batch`; False when it was posted before."""
    _, posted = LedgerEntry.objects.get_or_create(
        kind=LedgerEntry.Kind.BATCH_CHARGE, reference=batch, defaults={"tenant_id": tenant_id, "amount": pico}
    )
    return posted
