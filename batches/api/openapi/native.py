"""The native surface, /v1/batch: api/native.py."""

from typing import Any

from batches import codes
from batches.api.openapi import components, examples, shapes
from batches.api.openapi import operations as op
from batches.api.paging import DEFAULT_LIMIT, MAX_LIMIT
from batches.core import causes

TAG = "Batches"
FIND = {"batch_not_found"}
CAPS = {"invalid_max_cost", "invalid_max_error_rate"}
OPTIONS = {"invalid_endpoint", "invalid_metadata", "invalid_on_invalid_line", *CAPS}
SPENDING = {"insufficient_credits", "spending_limit_exceeded"}
ROOM = {"concurrent_batch_limit_exceeded", "payment_required", *SPENDING}
DOWNLOAD = FIND | {"batch_not_complete", "batch_failed", "file_expired", "range_not_satisfiable"}

SUBMISSION = shapes.fields(
    "",
    ("file",),
    file=shapes.text("The JSONL file: at most 104,857,600 bytes and 50,000 lines.", format="binary"),
    endpoint=components.ENDPOINT,
    metadata=components.METADATA | {"description": "Your own pairs, as JSON."},
    on_invalid_line=components.ON_INVALID_LINE,
    max_cost_usd=components.MAX_COST,
    max_error_rate=components.MAX_ERROR_RATE_TEXT,
)


CAUSE = f"({'|'.join([causes.UPSTREAM_ERROR, *codes.of_lines(), causes.STATUS.pattern])})"
CAUSES = shapes.listed(shapes.text(pattern=f"^{CAUSE}$"), minItems=1)
SOME = "Only lines that failed with one of these codes or HTTP statuses; null for all."


def _new_caps(max_error_rate: shapes.Shape, **others: shapes.Shape) -> shapes.Shape:
    return shapes.fields(
        max_cost_usd=shapes.maybe(components.MAX_COST, "The cap on the cost; null for none."),
        max_error_rate=shapes.maybe(max_error_rate, "The cap on the share of failed lines; null for none."),
        **others,
    )


def _caps(about: str, json: shapes.Shape, form: shapes.Shape, **example: Any) -> shapes.Shape:
    media = {op.JSON: json, op.FORM: form, op.MULTIPART: form}
    return op.takes(media, {"max_cost_usd": "20.00", **example}, required=False) | {"description": about}


RESUMED = (_new_caps(components.MAX_ERROR_RATE), _new_caps(components.MAX_ERROR_RATE_TEXT))
RETRIED = (
    _new_caps(components.MAX_ERROR_RATE, error_codes=shapes.maybe(CAUSES, SOME)),
    _new_caps(
        components.MAX_ERROR_RATE_TEXT,
        error_codes=shapes.text(f"{SOME} Commas between.", pattern=f"^{CAUSE}(,{CAUSE})*$"),
    ),
)


OPERATIONS = {
    "POST /v1/batch": op.Operation(
        "submitBatch",
        TAG,
        "Submit a batch",
        {200: op.gives("Batch", "The batch, being validated.", examples.SUBMITTED)},
        "The file is streamed to the storage and its lines are counted on the way: `total_requests` is right in this"
        " answer. Needs a `Content-Length`.",
        body=op.takes({op.MULTIPART: SUBMISSION}, {"file": examples.INPUT, "metadata": {"run": "nightly"}}),
        codes=op.UPLOAD | op.STORE | OPTIONS | ROOM | {"too_many_requests_in_batch"},
        once=True,
    ),
    "GET /v1/batch": op.Operation(
        "listBatches",
        TAG,
        "List your batches, newest first",
        {200: op.gives("BatchList", "A page of batches.", examples.page(examples.BATCH))},
        parameters=(
            op.limit(MAX_LIMIT, DEFAULT_LIMIT),
            op.AFTER,
            op.query("status", components.STATUS, "Only batches with this status."),
        ),
        codes=FIND | {"invalid_limit", "invalid_status"},
    ),
    "GET /v1/batch/{batch_id}": op.Operation(
        "readBatch",
        TAG,
        "Read a batch",
        {200: op.gives("Batch", "The batch.", examples.BATCH)},
        "Asking once a second is fine.",
        codes=FIND,
    ),
    "DELETE /v1/batch/{batch_id}": op.Operation(
        "eraseBatch",
        TAG,
        "Delete the data of an ended batch",
        {200: op.gives("Batch", "The batch: its account is kept.", examples.BATCH | examples.ERASED)},
        "Its files, metadata and errors are gone for good; counts, tokens, cost, times and the manifest stay. An input"
        " that a running batch uses stays: ask again when that has ended. Again: the same answer.",
        codes=FIND | {"batch_not_complete", "receipts_not_ready"},
    ),
    "GET /v1/batch/{batch_id}/output": op.Operation(
        "readOutput",
        TAG,
        "Results, in the order of the input",
        op.streams(
            "One line for every line of the input, successes and failures alike.",
            examples.lines(examples.DELIVERED, examples.TIMED_OUT),
            incomplete=True,
        ),
        "Each line is an `OutputLine`. A line is good when its `response` is not null and its `status_code` is 2xx.",
        parameters=(
            op.query("partial", op.FLAG, "Before the end: what is stored so far, with `X-Incomplete: true`."),
            op.query("merged", op.FLAG, "Of a retry: in one with the output of the batch that it retries."),
            *op.DOWNLOAD_HEADERS,
        ),
        codes=DOWNLOAD | {"invalid_partial", "invalid_merged"},
    ),
    "GET /v1/batch/{batch_id}/errors": op.Operation(
        "readFailedLines",
        TAG,
        "The lines that were not delivered",
        op.streams("The failed lines alone; empty when there are none.", examples.lines(examples.TIMED_OUT)),
        "Each line is an `OutputLine`.",
        parameters=op.DOWNLOAD_HEADERS,
        codes=DOWNLOAD,
    ),
    "GET /v1/batch/{batch_id}/results": op.Operation(
        "followResults",
        TAG,
        "Results as they come",
        {200: op.gives("ResultPage", "Results in the order in which they were stored.", examples.RESULTS)},
        "Ask again with `after` = `last_seq`: at once while `has_more` is true, else after a second, until the status"
        " is a last one. A page ends early at 8 MiB.",
        parameters=(
            op.query("after", shapes.whole(minimum=0, maximum=10**9, default=0), "What came after this `seq`."),
            op.limit(1000, 100),
        ),
        codes=FIND | {"invalid_after", "invalid_limit", "file_expired"},
    ),
    "POST /v1/batch/{batch_id}/cancel": op.Operation(
        "cancelBatch",
        TAG,
        "Stop a batch",
        {200: op.gives("Batch", "The batch, being cancelled.", examples.BATCH | examples.CANCELLING)},
        "Nothing new is sent; what is finished or in flight is kept and charged. Again: the same answer.",
        codes=FIND | {"batch_not_cancellable"},
        once=True,
    ),
    "POST /v1/batch/{batch_id}/resume": op.Operation(
        "resumeBatch",
        TAG,
        "Go on with a paused batch",
        {200: op.gives("Batch", "The batch, running.", examples.BATCH)},
        body=_caps("A cap that is not named stays.", *RESUMED),
        codes=FIND | CAPS | SPENDING | {"batch_not_paused", "cost_limit_reached", "paused_by_operator"},
        once=True,
    ),
    "POST /v1/batch/{batch_id}/retry": op.Operation(
        "retryBatch",
        TAG,
        "Run again what was not delivered",
        {200: op.gives("Batch", "The new batch.", examples.SUBMITTED | {"retry_of": "batch_w5Hj3vQ0mZk2LrTtYbNnXc7A"})},
        "A new batch of the lines that an ended one did not deliver, charged on its own; with `error_codes` of some"
        " of them alone.",
        body=_caps("Caps of the new batch: those of the old one are not taken over.", *RETRIED),
        codes=FIND
        | CAPS
        | {"invalid_error_codes"}
        | ROOM
        | op.STORE
        | {"batch_not_complete", "batch_failed", "nothing_to_retry", "too_many_retries", "file_expired"},
        once=True,
    ),
}
