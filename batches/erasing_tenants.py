"""Deletion on request of all that a tenant has here. What the law keeps stays, without content: ledger, invoices,
usage; and the audit trail, which nobody can change, with the names and e-mail addresses in it.

First the tenant is suspended under its lock, so that nothing comes any more; at the end it gets another name. In
between each step is a transaction of its own and can be done again: a crash is cured by asking again, by the old name.
"""

from typing import Any, NamedTuple

from django.db import transaction

from batches import erasing, files
from batches.core.states import ACTIVE, RUN
from batches.models import Batch, File, Submission, WebhookEndpoint
from batches.scrubbing import scrub
from tenants import admission, clock, sessions, trail
from tenants.errors import Refused
from tenants.models import ApiKey, Invitation, Membership, Tenant, User
from tenants.paging import by_pk


class Gone(NamedTuple):
    """What was deleted by this call."""

    batches: int
    files: int
    keys: int
    webhooks: int
    seats: int
    people: int


def erase(tenant: Tenant, actor: str, **details: Any) -> Gone:
    """Delete all of it and close the tenant for good; of one that was erased before nothing is left to do.

    Raises Refused 409 while batches are active or being sealed.
    """
    keys = _close(tenant)
    batches = 0
    for batch in by_pk(Batch.objects.filter(tenant=tenant)):
        if batch.erased_at is None or erasing.keeps_input(batch):
            batches += erasing.remove(batch, actor, **details)
    removed = sum(files.remove(file) for file in by_pk(File.objects.filter(tenant=tenant, deleted_at=None)))
    seats, people = _end_seats(tenant)
    with transaction.atomic():
        row = admission.lock(tenant.pk)
        File.objects.filter(tenant=row).update(filename=erasing.ERASED)
        Submission.objects.filter(tenant=row).delete()
        Invitation.objects.filter(tenant=row).delete()
        endpoints = WebhookEndpoint.objects.filter(tenant=row).delete()[1].get("batches.WebhookEndpoint", 0)
        ApiKey.objects.filter(tenant=row).update(name="erased")
        gone = Gone(batches, removed, keys, endpoints, seats, people)
        if row.name != (name := f"erased-{row.public_id}"):
            Tenant.objects.filter(pk=row.pk).update(name=name)
            trail.record(row, actor, "tenant.erased", row.public_id, **details, **gone._asdict())
    scrub()
    return gone


def refusal(tenant: Tenant) -> Refused | None:
    """Why it can't be done now, if it can't."""
    rows = Batch.objects.filter(tenant=tenant)
    if rows.filter(status__in=ACTIVE).exists():
        message = "It has batches that have not ended: cancel them first, or wait."
        return Refused(409, "batch_not_complete", message)
    if rows.filter(status__in=RUN, receipts_file=None).exists():
        return Refused(409, "receipts_not_ready", "Receipts of its batches are being written: ask again in a moment.")
    return None


def _close(tenant: Tenant) -> int:
    """Suspend it, revoke its keys; how many. What asks to be let in under the lock from now on is refused."""
    with transaction.atomic():
        row = admission.lock(tenant.pk)
        if why := refusal(row):
            raise why
        Tenant.objects.filter(pk=row.pk).update(suspended=True)
        return ApiKey.objects.filter(tenant=row, revoked_at=None).update(revoked_at=clock.now())


def _end_seats(tenant: Tenant) -> tuple[int, int]:
    """Everybody's place; and the account of who has no other, but for staff. Returns how many of each."""
    seats = people = 0
    for user in User.objects.filter(memberships__tenant=tenant):
        with transaction.atomic():
            seats += Membership.objects.filter(tenant=tenant, user=user).delete()[0]
            if not user.is_staff and not Membership.objects.filter(user=user).exists():
                sessions.end(user)
                user.delete()
                people += 1
    return seats, people
