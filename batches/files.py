"""A tenant's files: stored, found, expired, deleted. A row outlives its object, since batches go on naming it.

An output file without a key belongs to a batch that runs: its lines are read from what is committed.
"""

import logging
from functools import partial

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from batches import forgetting, idempotency, keeping, objects
from batches.core.states import ACTIVE, RUN
from batches.idempotency import Attempt
from batches.models import Batch, File
from batches.uploads import Stored
from tenants import clock
from tenants.errors import Refused
from tenants.models import Tenant

log = logging.getLogger(__name__)

MAX_FILENAME = 255  # characters
UNSEALED = Q(status__in=RUN, receipts_file=None)  # batches whose input is still to be read


def store(attempt: Attempt, stored: Stored, keep: int | None) -> File:
    """The file of an upload on its own. Raises Replayed when another attempt of it made one."""
    return attempt.create(lambda tenant: create(tenant, stored, keep))


def create(tenant: Tenant, stored: Stored, keep: int | None = None) -> File:
    """The row of a stored upload, kept for `keep` seconds or the tenant's retention. Under the tenant's lock. Raises
    Refused 403 where the tenant's storage has no room for it."""
    keeping.check_room(tenant, stored.bytes)
    now = clock.now()
    return File.objects.create(
        tenant=tenant,
        purpose=File.Purpose.BATCH,
        filename=_storable(stored.filename),
        bytes=stored.bytes,
        lines=stored.lines,
        sha256=stored.sha256,
        storage_key=stored.key,
        created_at=now,
        expires_at=keeping.until(tenant, now, keep),
    )


def kept_for(file: File) -> int | None:
    """The seconds for which the file is kept; None: nobody has said."""
    return None if file.expires_at is None else round((file.expires_at - file.created_at).total_seconds())


def _storable(filename: str) -> str:
    """Any file name is taken; what no database stores (NUL, lone surrogates) is dropped from it."""
    return _nameable(filename)[:MAX_FILENAME] or "upload"


def _nameable(text: str) -> str:
    return text.encode(errors="ignore").decode().replace("\x00", "")


def of_tenant(tenant: Tenant) -> QuerySet[File]:
    """What there is: neither deleted nor past its end. Those of running batches are among them."""
    kept = Q(expires_at=None) | Q(expires_at__gt=clock.now())
    return File.objects.filter(kept, tenant=tenant, deleted_at=None)


def find(tenant: Tenant, file_id: str) -> File:
    """The tenant's file. Raises Refused 404, for a foreign one as for one that does not exist."""
    return _get(of_tenant(tenant), file_id, "file_id")


def place(tenant: Tenant, file_id: str) -> File:
    """A place in the tenant's list: a file, also one that is gone, so that who deletes each page's files comes on."""
    return _get(File.objects.filter(tenant=tenant), file_id, "after")


def _get(rows: QuerySet[File], file_id: str, param: str) -> File:
    try:
        return rows.get(public_id=_nameable(file_id))
    except File.DoesNotExist:
        raise missing(param) from None


def is_gone(file: File) -> bool:
    """Whether an ended batch's file is not served any more: deleted, or past its end."""
    late = file.expires_at is not None and file.expires_at <= clock.now()
    return late or file.deleted_at is not None or not file.storage_key


def missing(param: str) -> Refused:
    return Refused(404, "file_not_found", "There is no file with this id.", param=param)


def input_of(tenant: Tenant, file_id: str, lock: bool = True) -> File:
    """The tenant's file as a batch's input, in a transaction locked: it can't be deleted before the batch is there."""
    rows = of_tenant(tenant).select_for_update(no_key=True) if lock else of_tenant(tenant)
    file = rows.filter(public_id=_nameable(file_id)).first()
    if file is None:
        raise missing("input_file_id")
    if file.purpose != File.Purpose.BATCH:
        message = f"The file's purpose is {file.purpose}: a batch's input is uploaded with purpose=batch."
        raise Refused(400, "invalid_input_file", message, param="input_file_id")
    return file


def batch_of(file: File) -> Batch | None:
    """The running batch whose output it is, if it is one's."""
    return Batch.objects.filter(output_file=file).first() if not file.storage_key else None


def begin_output(batch: Batch) -> File:
    """The row of a starting batch's output: named while it runs, filled at its end."""
    return File.objects.create(
        tenant_id=batch.tenant_id,
        purpose=File.Purpose.BATCH_OUTPUT,
        filename=f"{batch.public_id}_output.jsonl",
        bytes=0,
        lines=0,
        created_at=clock.now(),
    )


def delete(tenant: Tenant, file_id: str) -> File:
    """Remove the file and its object. Raises Refused 404; 409 while an active batch uses it."""
    file = find(tenant, file_id)
    if not remove(file):
        find(tenant, file_id)  # another request was first
        raise Refused(409, "file_in_use", "A batch that has not ended uses this file: cancel it, or wait for its end.")
    return file


def used() -> Exists:
    """By a batch that has not ended, as its input or output."""
    named = Q(input_file=OuterRef("pk")) | Q(output_file=OuterRef("pk"))
    return Exists(Batch.objects.filter(named, status__in=ACTIVE))


def remove(file: File) -> bool:
    """Remove the file and its object; False when it is in use, or gone already. Its delivered or failed lines stand in
    the batch's results, too: these go with it. The object of an input whose batch is being sealed goes when that is
    done: `let_go`."""
    with transaction.atomic():
        locked = File.objects.select_for_update(no_key=True).filter(pk=file.pk, deleted_at=None)
        if locked.first() is None or File.objects.filter(used(), pk=file.pk).exists():
            return False
        whole = Batch.objects.filter(Q(output_file=file) | Q(error_file=file)).values("results_file")
        gone = list(File.objects.filter(Q(pk=file.pk) | Q(pk__in=whole), deleted_at=None))
        File.objects.filter(pk__in=[each.pk for each in gone]).update(deleted_at=clock.now())
        forgetting.quotes(file)
        keys = [let_go(each) for each in gone]
        idempotency.forget(file.tenant_id, file.public_id)
        for key in keys:
            transaction.on_commit(partial(discard, key))  # of the caller's transaction too, where it has one
    return True


def let_go(file: File) -> str:
    """The key of a deleted file's object, from now on named by no row; empty while a batch is still to be sealed with
    it, or nobody deleted it. Under the file's lock."""
    released = File.objects.filter(~Exists(Batch.objects.filter(UNSEALED, input_file=OuterRef("pk"))), pk=file.pk)
    return file.storage_key if released.exclude(deleted_at=None).update(storage_key="") else ""


def discard(key: str) -> None:
    """Remove an object that no row names; a storage that fails at that leaves it to the sweep of orphans."""
    try:
        objects.delete(key)
    except OSError as error:
        log.error("object %s could not be removed, the sweep of orphans will: %s", key, error)
