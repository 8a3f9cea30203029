"""The surface of OpenAI's clients, /v1/files and /v1/batches: api/files.py, api/batches.py."""

from batches.api.openapi import components, examples, shapes
from batches.api.openapi import operations as op
from batches.api.openapi.native import FIND, OPTIONS, ROOM
from batches.api.paging import DEFAULT_LIMIT, MAX_FILES, MAX_LIMIT

FILES, BATCHES = "OpenAI: files", "OpenAI: batches"
FIND_FILE = {"file_not_found"}
ID = "batch_QpaI3FYHuQr7RyBjzVGzV2Oc"

UPLOADED = shapes.fields(
    "",
    ("file", "purpose"),
    **{
        "file": shapes.text("The JSONL file, at most 104,857,600 bytes. Any file name.", format="binary"),
        "purpose": shapes.constant("batch"),
        "expires_after[anchor]": shapes.constant("created_at"),
        "expires_after[seconds]": components.EXPIRY["properties"]["seconds"],
    },
) | {
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    }
}

CREATION = shapes.fields(
    "",
    ("input_file_id", "endpoint"),
    input_file_id=shapes.text("The id of an uploaded file."),
    endpoint=components.ENDPOINT,
    completion_window=shapes.constant("24h"),
    metadata=shapes.maybe(components.METADATA),
    output_expires_after=shapes.maybe(components.EXPIRY, "How long output and error file are kept."),
    on_invalid_line=shapes.maybe(components.ON_INVALID_LINE),
    max_cost_usd=shapes.maybe(components.MAX_COST),
    max_error_rate=shapes.maybe(components.MAX_ERROR_RATE),
)

OPERATIONS = {
    "POST /v1/files": op.Operation(
        "createFile",
        FILES,
        "Upload a file for a batch to come",
        {200: op.gives("File", "The file.", examples.FILE)},
        "Its lines are checked by the batch, not here. Needs a `Content-Length`.",
        body=op.takes({op.MULTIPART: UPLOADED}, {"file": examples.INPUT, "purpose": "batch"}),
        codes=op.UPLOAD | op.STORE | {"invalid_purpose", "invalid_expiry"},
        once=True,
    ),
    "GET /v1/files": op.Operation(
        "listFiles",
        FILES,
        "List your files",
        {200: op.gives("FileList", "A page of files.", examples.page(examples.FILE))},
        parameters=(
            op.limit(MAX_FILES, MAX_FILES),
            op.AFTER,
            op.query("order", shapes.text(enum=["asc", "desc"], default="desc"), "`desc`: the newest first."),
            op.query("purpose", components.PURPOSE, "Only files of this purpose."),
        ),
        codes=FIND_FILE | {"invalid_limit", "invalid_order", "invalid_purpose"},
    ),
    "GET /v1/files/{file_id}": op.Operation(
        "retrieveFile",
        FILES,
        "Read a file's data",
        {200: op.gives("File", "The file.", examples.FILE)},
        codes=FIND_FILE,
    ),
    "DELETE /v1/files/{file_id}": op.Operation(
        "deleteFile",
        FILES,
        "Delete a file for good",
        {200: op.gives("DeletedFile", "It is gone.", {"id": examples.FILE["id"], "object": "file", "deleted": True})},
        "With a batch's output or error file goes what `/v1/batch/{batch_id}/output` serves.",
        codes=FIND_FILE | {"file_in_use"},
    ),
    "GET /v1/files/{file_id}/content": op.Operation(
        "downloadFile",
        FILES,
        "A file's bytes",
        op.streams(
            "The file; of a running batch's output, the lines delivered so far.",
            examples.lines(examples.DELIVERED),
            incomplete=True,
        ),
        parameters=op.DOWNLOAD_HEADERS,
        codes=FIND_FILE | {"file_expired", "range_not_satisfiable"},
    ),
    "POST /v1/batches": op.Operation(
        "createBatch",
        BATCHES,
        "Create a batch of an uploaded file",
        {200: op.gives("OpenAIBatch", "The batch, being validated.", examples.CREATED)},
        body=op.takes(
            {op.JSON: CREATION},
            {
                "input_file_id": examples.FILE["id"],
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": {"run": "nightly"},
            },
        ),
        codes=FIND_FILE
        | OPTIONS
        | ROOM
        | {"missing_parameter", "invalid_completion_window", "invalid_expiry", "invalid_input_file"},
        once=True,
    ),
    "GET /v1/batches": op.Operation(
        "listOpenAIBatches",
        BATCHES,
        "List your batches, newest first",
        {200: op.gives("OpenAIBatchList", "A page of batches.", examples.page(examples.OPENAI_BATCH))},
        parameters=(op.limit(MAX_LIMIT, DEFAULT_LIMIT), op.AFTER),
        codes=FIND | {"invalid_limit"},
    ),
    "GET /v1/batches/{batch_id}": op.Operation(
        "retrieveOpenAIBatch",
        BATCHES,
        "Read a batch",
        {200: op.gives("OpenAIBatch", "The batch.", examples.OPENAI_BATCH)},
        codes=FIND,
    ),
    "POST /v1/batches/{batch_id}/cancel": op.Operation(
        "cancelOpenAIBatch",
        BATCHES,
        "Stop a batch",
        {200: op.gives("OpenAIBatch", "The batch, being cancelled.", examples.OPENAI_BATCH | examples.CANCELLING)},
        codes=FIND | {"batch_not_cancellable"},
        once=True,
    ),
}
