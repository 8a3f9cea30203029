"""Enqueued tokens: the estimated work of a tenant's running batches that is not done, and the limit on it."""

from django.db.models import Sum

from batches.core.requests import Fault
from batches.core.states import Status
from batches.models import Slice
from tenants import admission
from tenants.models import Tenant


def tokens(tenant: int) -> int:
    """Estimated tokens, input and output, of slices that are not done: of batches in progress, also paused ones."""
    waiting = Slice.objects.filter(batch__tenant_id=tenant, batch__status=Status.IN_PROGRESS)
    waiting = waiting.filter(state__lt=Slice.State.DONE)
    return int(waiting.aggregate(tokens=Sum("tokens"))["tokens"] or 0)


def refusal(tenant: int, wanted: int) -> Fault | None:
    """Why a batch of `wanted` tokens may not start now; None when it may.

    Locks the row of a tenant that has a limit: call it in the transaction that inserts the slices, so that of
    batches that start at once each counts what the others wrote.
    """
    limited = Tenant.objects.filter(pk=tenant, enqueued_token_limit__isnull=False).exists()
    return shortage(admission.lock(tenant), wanted) if limited else None


def shortage(tenant: Tenant, wanted: int) -> Fault | None:
    """The same of the row as it is."""
    limit = tenant.enqueued_token_limit
    if limit is None:
        return None
    used = tokens(tenant.pk)
    if used + wanted <= limit:
        return None
    cure = "Submit it again when others have ended, or cancel one" if wanted <= limit else "Split it"
    return Fault(
        "token_limit_exceeded",
        f"The batch has an estimated {wanted:,} tokens, and {used:,} of your running batches wait already: at most "
        f"{limit:,} may be enqueued. {cure}; or ask the operator for a higher limit.",
    )
