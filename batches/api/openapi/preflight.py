"""A file looked at without a batch, /v1/batch/validate and /v1/batches/validate: api/preflight.py."""

from batches.api.openapi import components, errors, examples, native, openai
from batches.api.openapi import operations as op
from batches.api.openapi.shapes import Shape, boolean, constant, listed, maybe, moment, number, record, ref, text, whole

OPTIONS = native.OPTIONS | {"too_many_requests_in_batch"}
ANSWER = {200: op.gives("Preflight", "What would come of it.", examples.PREFLIGHT)}
ABOUT = "No batch is made, nothing is sent, nothing is charged."

_COST = maybe(
    record(low_usd=components.USD, high_usd=components.USD, currency=constant("usd"), discount=components.DISCOUNT),
    "At the batch prices in force now; null: no model has a price.",
)
_WORK: dict[str, Shape] = {
    "lines_without_limit": whole("Lines that may make more than `high` counts.", minimum=0),
    "input_tokens": whole("An estimate.", minimum=0),
    "output_tokens": record(low=whole(minimum=0), high=whole(minimum=0)),
    "cost": _COST,
}


def schemas() -> dict[str, Shape]:
    group = record(
        code=text(enum=list(errors.documented(errors.BATCHES))),
        count=whole(minimum=1),
        lines=listed(whole(minimum=1), "The first 10; none where the whole file is meant.", maxItems=10),
        message=text("Of the first."),
    )
    refusal = record(
        "A limit of the tenant's that the batch would pass now.",
        code=text(enum=sorted({"payment_required", "token_limit_exceeded", *native.SPENDING})),
        message=text(),
    )
    preflight = record(
        "What would come of a file if it were submitted now.",
        object=constant("batch.preflight"),
        valid=boolean("The file is good enough for a batch to start."),
        refused=maybe(refusal, "Why a batch of it would not start all the same."),
        endpoint=components.ENDPOINT,
        total_requests=whole(minimum=0),
        valid_count=whole("Lines that could run.", minimum=0),
        invalid_count=whole(minimum=0),
        errors=maybe(ref("BatchErrors")),
        error_groups=listed(group),
        **_WORK,
        models=listed(record(model=text(), lines=whole(minimum=1), **_WORK)),
        shared_prefix=record(
            "How much of the prompts stands at the beginning of the one sent just before, too.",
            shared_tokens=whole(minimum=0),
            share=maybe(number(minimum=0, maximum=1)),
        ),
        completion_window=constant("24h"),
        expires_at=moment(),
        estimated_completion_at=maybe(moment()),
        waiting_reason=maybe(ref("WaitingReason")),
    )
    return {"Preflight": preflight}


OPERATIONS = {
    "POST /v1/batch/validate": op.Operation(
        "validateUpload",
        native.TAG,
        "Look at a file without running it",
        ANSWER,
        f"{ABOUT} Takes the form that submits a batch; the file is deleted again. Needs a `Content-Length`.",
        body=op.takes({op.MULTIPART: native.SUBMISSION}, {"file": examples.INPUT}),
        codes=op.UPLOAD | OPTIONS,
    ),
    "POST /v1/batches/validate": op.Operation(
        "validateFile",
        openai.BATCHES,
        "Look at a stored file without running it",
        ANSWER,
        ABOUT,
        body=op.takes(
            {op.JSON: openai.CREATION}, {"input_file_id": examples.FILE["id"], "endpoint": "/v1/chat/completions"}
        ),
        codes=openai.FIND_FILE
        | native.OPTIONS
        | {"missing_parameter", "invalid_completion_window", "invalid_expiry", "invalid_input_file"},
    ),
}
