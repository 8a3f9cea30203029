"""What the API shows and takes: the schemas that operations name. serializers.py makes these objects."""

from batches import intake
from batches.api import fields as form
from batches.api.openapi import errors
from batches.api.openapi.shapes import (
    Shape,
    boolean,
    constant,
    fields,
    listed,
    maybe,
    moment,
    number,
    page,
    record,
    ref,
    table,
    text,
    whole,
)  # fmt: skip
from batches.core import caps, states
from batches.core.requests import ENDPOINTS
from batches.core.states import Status
from batches.models import Batch, File

ENDPOINT = text("What every line is sent to.", enum=list(ENDPOINTS))
ON_INVALID_LINE = text(
    "`fail`: one bad line fails the batch. `skip`: bad lines fail alone, the others run.",
    enum=list(Batch.OnInvalidLine.values),
)
MAX_COST = text(
    "USD at which the batch is paused: more than 0 and at most 1,000,000, with at most 12 decimals.",
    pattern=r"^(?!0+(\.0+)?$)([0-9]{1,6}(\.[0-9]{1,12})?|1000000(\.0{1,12})?)$",
    examples=["12.50"],
)
MAX_ERROR_RATE = number(
    "The share of failed lines above which the batch is paused, once 50 have finished.", exclusiveMinimum=0, maximum=1
)
MAX_ERROR_RATE_TEXT = text(  # of a form
    MAX_ERROR_RATE["description"], pattern=r"^(1(\.0{1,18})?|0\.(?!0+$)[0-9]{1,18})$", examples=["0.1"]
)
METADATA = table(
    text(maxLength=intake.MAX_METADATA_VALUE),
    "Your own pairs.",
    maxProperties=intake.MAX_METADATA,
    propertyNames={"maxLength": intake.MAX_METADATA_KEY},
)
EXPIRY = fields(
    "How long a file is kept.",
    ("anchor", "seconds"),
    anchor=constant("created_at"),
    seconds=whole("From its making.", minimum=form.SHORTEST, maximum=form.LONGEST),
)
PURPOSE = text(enum=[File.Purpose.BATCH.value, File.Purpose.BATCH_OUTPUT.value])
USD = text("A decimal in USD, exact.", pattern=r"^-?[0-9]+(\.[0-9]+)?$", examples=["0.00001335"])


def _id(prefix: str) -> Shape:
    return text(pattern=f"^{prefix}[A-Za-z0-9_-]+$")


STATUS = text(
    "`completed`, `failed` and `cancelled` are the ends; a batch whose 24 hours passed shows as `failed`.",
    enum=sorted(set(states.NATIVE.values())),
)
CREATED = moment("When it was made known.")
BATCH_ID, FILE_ID = _id("batch_"), _id("file-")


def batch_errors() -> Shape:
    line = record(
        code=text("docs/errors.md has cause and cure.", enum=list(errors.documented(errors.BATCHES))),
        line=maybe(whole(minimum=1), "In the file, from 1; null: the whole file."),
        message=text(),
        param=maybe(text()),
    )
    return record(
        "What is wrong with the input, or was skipped.",
        object=constant("list"),
        data=listed(line, "The first 100, grouped by code."),
        counts=table(whole(minimum=1), "Every bad line by code."),
    )


WAITING_REASON = record(
    "Why the batch is not run at full speed.",
    code=text("Programs read this alone; there will be more."),
    message=text(),
)

REQUEST_COUNTS = record(
    "Lines that were never run are in `cancelled` or `expired` at the end.",
    total=whole(minimum=0),
    completed=whole(minimum=0),
    failed=whole(minimum=0),
    cancelled=whole(minimum=0),
    expired=whole(minimum=0),
)

USAGE = record(
    "Tokens of the lines that are charged.",
    input_tokens=whole(minimum=0),
    input_tokens_details=record(cached_tokens=whole(minimum=0)),
    output_tokens=whole(minimum=0),
    output_tokens_details=record(reasoning_tokens=whole(minimum=0)),
    total_tokens=whole(minimum=0),
)

PREFIX_CACHE = record(
    "How much of the prompts the upstreams had in their prefix caches.",
    cached_tokens=whole(minimum=0),
    input_tokens=whole(minimum=0),
    share=maybe(number(minimum=0, maximum=1), "Their quotient; null before any."),
)

DISCOUNT = maybe(
    text(examples=["0.5"]),
    "The share that is spared of the standard price; null before prices are known, and where models differ.",
)
COST = record(
    "What the batch costs so far, at the batch price.",
    usd=USD,
    currency=constant("usd"),
    discount=DISCOUNT,
    reserved_usd=maybe(USD, "What it may come to, while that is reserved; null before it is known and after the end."),
)

PROMISE = record(
    "How the 24 hours were kept.",
    met=maybe(boolean(), "Whether it ended in time; null before its end, and where nothing was promised."),
    credit_usd=USD | {"description": "Credits that you got because it did not."},
)

_COMMON: dict[str, Shape] = {  # of both surfaces
    "object": constant("batch"),
    "model": maybe(text(), "The one model of all lines; null before validation, and when lines name several."),
    "input_file_id": FILE_ID,
    "output_file_id": maybe(FILE_ID, "The delivered lines; there from the first of them on."),
    "error_file_id": maybe(FILE_ID, "The other lines; there from the end on."),
    "completion_window": constant("24h"),
    "created_at": moment(),
    "in_progress_at": maybe(moment()),
    "expires_at": moment("When its 24 hours are over."),
    "cancelling_at": maybe(moment()),
    "finalizing_at": maybe(moment()),
    **{f"{end}_at": maybe(moment()) for end in states.TERMINAL},
    "estimated_completion_at": maybe(moment(), "When it should end; null where nothing is known."),
    "waiting_reason": maybe(ref("WaitingReason")),
    "errors": maybe(ref("BatchErrors")),
    "metadata": METADATA,
    "request_counts": ref("RequestCounts"),
    "usage": ref("Usage"),
    "prefix_cache": ref("PrefixCache"),
    "cost": ref("Cost"),
    "sla": ref("Promise"),
    "paused_reason": maybe(
        text(enum=list(caps.REASONS)), "What paused the batch: a cap, its tenant's limit, or the operator."
    ),
    "max_cost_usd": maybe(USD),
    "max_error_rate": maybe(number()),
    "on_invalid_line": ON_INVALID_LINE,
    "retry_of": maybe(BATCH_ID, "The batch that this one retries."),
    "erased_at": maybe(moment(), "When its data was deleted on request; null: it was not."),
}

NATIVE_BATCH = record(
    "A batch on the native surface.",
    id=BATCH_ID,
    status=STATUS,
    endpoint=ENDPOINT,
    total_requests=whole("Lines that are not blank.", minimum=0),
    completed_count=whole("Lines with a delivered answer.", minimum=0),
    failed_count=whole("Lines that failed for good.", minimum=0),
    **_COMMON,
)

OPENAI_BATCH = record(
    "A batch as OpenAI's clients read it.",
    id=BATCH_ID,
    status=text(enum=sorted({states.shown_openai(status) for status in Status})),
    endpoint=ENDPOINT,
    **_COMMON,
)

FILE = record(
    "A stored file.",
    id=FILE_ID,
    object=constant("file"),
    bytes=whole(minimum=0),
    created_at=moment(),
    filename=text(),
    purpose=PURPOSE,
    status=text("`uploaded`: the output of a batch that runs.", enum=["processed", "uploaded"]),
    status_details={"type": "null"},
    expires_at=maybe(moment(), "When it is deleted; null: it is still being written."),
)

DELETED_FILE = record("A file that is gone.", id=FILE_ID, object=constant("file"), deleted=constant(True))


def output_line() -> Shape:
    """A line of /output, /errors and of a batch's files."""
    return record("A line of the results: good when `response` is not null and its `status_code` is 2xx.", **_result())


def result_page() -> Shape:
    """A page of /results."""
    place = {"seq": whole("Counts the batch's results from 1, without a gap.", minimum=1), "line": whole(minimum=1)}
    return record(
        "Results in the order in which they were stored.",
        object=constant("list"),
        data=listed(record("An `OutputLine` with its place.", **place, **_result())),
        last_seq=whole("Send it as `after` to go on.", minimum=0),
        has_more=boolean(),
        status=STATUS,
    )


def _result() -> dict[str, Shape]:
    codes = {**errors.documented(errors.LINES), **errors.documented(errors.BATCHES)}
    answer = record(
        "What the upstream answered; null: there was no answer, or none that can be used.",
        status_code=whole(minimum=100, maximum=599),
        request_id=text(),
        body={"description": "What the upstream sent; a text as a JSON string."},
    )
    return {
        "id": text(pattern="^resp_"),
        "custom_id": maybe(text(), "Yours; null where a skipped line had none."),
        "response": maybe(answer),
        "error": maybe(record(code=text(enum=list(codes)), message=text())),
    }


def error() -> Shape:
    return record(
        "Every error has this body.",
        error=record(
            message=text("What is wrong and what to do. May change."),
            type=text("Follows from the status.", enum=errors.types()),
            param=maybe(text(), "The field, query or header at fault."),
            code=text("Stable. docs/errors.md has cause and cure.", enum=list(errors.documented(errors.REQUESTS))),
        ),
    )


def schemas() -> dict[str, Shape]:
    """All components, by the names under which operations know them."""
    return {
        "Batch": NATIVE_BATCH,
        "BatchList": page("Batch"),
        "OpenAIBatch": OPENAI_BATCH,
        "OpenAIBatchList": page("OpenAIBatch"),
        "File": FILE,
        "FileList": page("File"),
        "DeletedFile": DELETED_FILE,
        "OutputLine": output_line(),
        "ResultPage": result_page(),
        "BatchErrors": batch_errors(),
        "WaitingReason": WAITING_REASON,
        "RequestCounts": REQUEST_COUNTS,
        "Usage": USAGE,
        "PrefixCache": PREFIX_CACHE,
        "Cost": COST,
        "Promise": PROMISE,
        "Error": error(),
    }
