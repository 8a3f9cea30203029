"""What a batch hands out, for the API and for people: its output, errors, receipts, manifest. Who asks has found it."""

from typing import Any

from django.http import HttpRequest, HttpResponseBase, QueryDict, StreamingHttpResponse

from batches import retries
from batches.api import downloads, fields, finding
from batches.core.states import RUN, TERMINAL, Status
from batches.models import Batch, Manifest
from tenants.errors import Refused

ALGORITHM = "ed25519"
SOON = "2"  # seconds
FLAG = "Send true or false."


def output(request: HttpRequest, found: Batch, query: QueryDict) -> HttpResponseBase:
    """Every line's result in input order; with partial=true what is committed so far, with merged=true a retry's
    original in one with it."""
    partial, merged = _asked(query)
    if merged and found.retry_of_id and found.results_file is not None:
        return downloads.stream(request, retries.merged(found), f"{found.public_id}_merged.jsonl")
    if found.results_file is not None:
        return downloads.send(request, found.results_file)
    if found.status == Status.FAILED:
        raise Refused(409, "batch_failed", "The batch never ran: see its errors. There is no output.")
    if partial:
        return downloads.partial(found)
    raise finding.not_complete(found, " Add ?partial=true for what is done so far.")


def errors(request: HttpRequest, found: Batch) -> HttpResponseBase:
    """The failed lines alone; empty when there are none."""
    if found.status not in TERMINAL:
        raise finding.not_complete(found)
    if found.status == Status.FAILED:
        raise Refused(409, "batch_failed", "The batch never ran: see its errors. There are no failed lines.")
    if found.erased_at is not None:
        raise downloads.gone()
    if found.error_file is None:
        return StreamingHttpResponse(iter(()), content_type=downloads.JSONL)
    return downloads.send(request, found.error_file)


def receipts(request: HttpRequest, found: Batch) -> HttpResponseBase:
    """A receipt for each line that was run or skipped, in the order of the input."""
    _check_ended(found)
    if found.receipts_file is None:
        raise _not_ready()
    return downloads.send(request, found.receipts_file)


def manifest(found: Batch) -> dict[str, Any]:
    """The batch's files, sums and charge as one signed text."""
    _check_ended(found)
    kept = Manifest.objects.select_related("key").filter(batch=found).first()
    if kept is None:
        raise _not_ready()
    return {
        "object": "batch.manifest",
        "signed": kept.signed,
        "algorithm": ALGORITHM,
        "signature": kept.signature,
        "key_id": kept.key.key_id,
        "public_key": kept.key.public_key,
    }


def _asked(query: QueryDict) -> tuple[bool, bool]:
    """The queries `partial` and `merged`."""
    fields.only(query, {"partial", "merged"})
    partial = _flag(query, "partial", Refused(400, "invalid_partial", FLAG, param="partial"))
    merged = _flag(query, "merged", Refused(400, "invalid_merged", FLAG, param="merged"))
    if partial and merged:
        raise Refused(400, "invalid_merged", "merged is for the end: leave partial out.", param="merged")
    return partial, merged


def _flag(query: QueryDict, name: str, refused: Refused) -> bool:
    value = query.get(name, "false")
    if value not in ("true", "false"):
        raise refused
    return value == "true"


def _check_ended(found: Batch) -> None:
    """Raises Refused 409 where there is nothing to be sealed, or not yet."""
    if found.status == Status.FAILED:
        raise Refused(409, "batch_failed", "The batch never ran: see its errors. Nothing is charged.")
    if found.status not in RUN:
        raise finding.not_complete(found)


def _not_ready() -> Refused:
    message = "The batch has ended, and its receipts are being written: ask again in a moment."
    return Refused(409, "receipts_not_ready", message, headers={"Retry-After": SOON})
