"""Deletion on request of an ended batch's data: what its tenant sent and what was answered. Its account stays.

Gone are the objects (input, output, errors, results, receipts) and what rows say in the tenant's own words: custom_ids,
metadata, errors of the input, the input's file name. Kept are ids, states, times, counts, tokens, cost, and the signed
manifest, which has hashes alone. Each step is a transaction of its own, and all can be done again: a crash in between
is cured by asking again. docs/decisions/0037-erasing.md
"""

from typing import Any

from django.db import transaction

from batches import files, forgetting, results
from batches.core import states
from batches.core.states import RUN, TERMINAL, Status
from batches.models import Batch, File, Submission
from batches.scrubbing import scrub
from tenants import clock, trail
from tenants.errors import Refused

ERASED = "erased.jsonl"  # in place of a file name
SOON = "2"  # seconds


def erase(batch: Batch, actor: str, **details: Any) -> bool:
    """Delete the batch's data; whether this call was the first. Its input stays while a batch that has not ended uses
    it: to ask again later deletes it, too.

    Raises Refused 409 while it has not ended, or its receipts are being written.
    """
    first = remove(batch, actor, **details)
    scrub()
    return first


def remove(batch: Batch, actor: str, **details: Any) -> bool:
    """The same, for who erases many: `scrub` is theirs to call, once."""
    row = Batch.objects.select_related("tenant").get(pk=batch.pk)  # it may have ended since it was looked for
    if refused := refusal(row):
        raise refused
    results.drop_scaffolding(row.pk)
    for file in _files(row):
        files.remove(file)
    return _forget(row, actor, details)


def refusal(batch: Batch) -> Refused | None:
    """Why its data can't be deleted yet, if it can't: 409."""
    if batch.status not in TERMINAL:
        shown = states.shown(Status(batch.status), batch.cancelling_at is not None)
        message = f"The batch is {shown}: cancel it first, or wait until it has ended. Then delete its data."
        return Refused(409, "batch_not_complete", message)
    if batch.status in RUN and batch.receipts_file_id is None:
        message = "The batch has ended, and its receipts are being written: ask again in a moment."
        return Refused(409, "receipts_not_ready", message, headers={"Retry-After": SOON})
    return None


def keeps_input(batch: Batch) -> bool:
    """Whether its input is still there, in use by another batch."""
    return File.objects.filter(pk=batch.input_file_id, deleted_at=None).exists()


def _files(batch: Batch) -> list[File]:
    named = ("output_file_id", "error_file_id", "results_file_id", "receipts_file_id", "input_file_id")
    return list(File.objects.filter(pk__in=[pk for name in named if (pk := getattr(batch, name))], deleted_at=None))


def _forget(batch: Batch, actor: str, details: dict[str, Any]) -> bool:
    forgetting.names(batch.pk)
    with transaction.atomic():
        File.objects.filter(pk=batch.input_file_id).exclude(deleted_at=None).update(filename=ERASED)
        Submission.objects.filter(tenant_id=batch.tenant_id, object_id=batch.public_id).delete()
        rows = Batch.objects.filter(pk=batch.pk, erased_at=None)
        first = rows.update(erased_at=clock.now(), metadata="{}", errors="") == 1
        if first:
            trail.record(batch.tenant, actor, "batch.erased", batch.public_id, **details)
    return first
