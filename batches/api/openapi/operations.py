"""How an operation is described: what is its own is said in its room, what all have in common is added here."""

from typing import Any, NamedTuple

from batches.api.openapi import errors
from batches.api.openapi.shapes import Shape, ref, text, whole

JSON, FORM, MULTIPART, JSONL = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/jsonl",
)

EVERY = {
    "unsupported_parameter", "duplicate_parameter", "malformed_request", "host_not_allowed", "method_not_allowed",
    "request_timeout", "request_too_large", "too_many_transfers", "https_required", "server_error",
    "service_held",
}  # fmt: skip
KEYED = {
    "missing_api_key", "invalid_api_key", "too_many_bad_keys", "insufficient_scope", "tenant_suspended",
    "rate_limit_exceeded",
}  # fmt: skip
ONCE = {"invalid_idempotency_key", "idempotency_key_in_use", "idempotency_key_reused"}
WITH_PATH = {"not_found"}
WITH_BODY = {"unsupported_media_type"}
UPLOAD = {"length_required", "file_too_large", "missing_file", "incomplete_upload"}
STORE = {"storage_limit_exceeded"}

REQUEST_ID = {"x-request-id": {"$ref": "#/components/headers/RequestId"}}
RATE = {
    f"x-ratelimit-{name}-requests": {"$ref": f"#/components/headers/Rate{name.capitalize()}"}
    for name in ("limit", "remaining", "reset")
}
REPLAYED = {"Idempotent-Replayed": {"$ref": "#/components/headers/Replayed"}}
OF_STATUS: dict[int, Shape] = {  # headers of refusals
    401: {"WWW-Authenticate": {"schema": text(), "required": True}},
    405: {"Allow": {"schema": text("The methods that there are.")}},
    416: {"Content-Range": {"schema": text(examples=["bytes */2048"]), "required": True}},
    409: {"Retry-After": {"description": "Seconds to wait, where it passes by itself.", "schema": whole(minimum=1)}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}, **RATE},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}
HEADERS = {
    "RequestId": {
        "description": "The request's id; quote it when you report a fault.",
        "required": True,
        "schema": text(pattern="^[A-Za-z0-9_.-]{8,64}$", examples=["req_3f6c2c1d9f4e4b0a8c7d6e5f"]),
    },
    "RetryAfter": {"description": "Seconds to wait.", "required": True, "schema": whole(minimum=1, maximum=60)},
    "Replayed": {"description": "`true`: it was done before, and is not done again.", "schema": text(enum=["true"])},
    "RateLimit": {"description": "Requests a minute of this key, and at once.", "schema": text(pattern="^[0-9]+$")},
    "RateRemaining": {"description": "Requests that would be taken now.", "schema": text(pattern="^[0-9]+$")},
    "RateReset": {
        "description": "Time until all are there again.",
        "schema": text(pattern=r"^[0-9]+(\.[0-9]+)?(ms|s)$", examples=["50ms", "8.64s"]),
    },
}


class Operation(NamedTuple):
    """A method at a path. `codes` are the error codes of its own; those that all have are added.

    `once`: it takes an Idempotency-Key. `public`: it needs no API key.
    """

    id: str
    tag: str
    summary: str
    answers: dict[int, Shape]
    about: str = ""
    parameters: tuple[Shape, ...] = ()
    body: Shape | None = None
    codes: frozenset[str] | set[str] = frozenset()
    once: bool = False
    public: bool = False


def described(operation: Operation, path_parameters: list[str]) -> Shape:
    """The operation as OpenAPI has it."""
    parameters = [*map(path_parameter, path_parameters), *operation.parameters, *([KEY] if operation.once else [])]
    headers = {**REQUEST_ID, **({} if operation.public else RATE), **(REPLAYED if operation.once else {})}
    answers = {
        status: {**answer, "headers": {**headers, **answer.get("headers", {})}}
        for status, answer in operation.answers.items()
    }
    responses = answers | _refusals(_codes(operation, bool(path_parameters)))
    shape: Shape = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.about,
        "parameters": parameters,
        "requestBody": operation.body,
        "security": [] if operation.public else None,
        "responses": {str(status): answer for status, answer in sorted(responses.items())},
    }
    return {name: value for name, value in shape.items() if value or (name == "security" and value is not None)}


def _codes(operation: Operation, with_path: bool) -> set[str]:
    codes = EVERY | set(operation.codes) | (set() if operation.public else KEYED)
    return (
        codes
        | (ONCE if operation.once else set())
        | (WITH_PATH if with_path else set())
        | (WITH_BODY if operation.body else set())
    )


def _refusals(codes: set[str]) -> dict[int, Shape]:
    shared = errors.by_status(EVERY | KEYED)
    return {
        status: {"$ref": f"#/components/responses/Refused{status}"} if found == shared.get(status) else refusal(found)
        for status, found in errors.by_status(codes).items()
    }


def shared_refusals() -> dict[str, Shape]:
    """The component responses: what every operation may answer, and nothing else, with these statuses."""
    return {f"Refused{status}": refusal(found) for status, found in errors.by_status(EVERY | KEYED).items()}


def refusal(codes: list[errors.Code]) -> Shape:
    """The answer with one of these codes, all of one status."""
    content = {"schema": errors.narrowed(codes), "examples": {code.code: errors.example(code) for code in codes}}
    about = "\n".join(f"- `{code.code}`: {code.cause}" for code in codes)
    headers = {**REQUEST_ID, **OF_STATUS.get(codes[0].status, {})}
    return {"description": about, "headers": headers, "content": {JSON: content}}


# --- words of the rooms ---------------------------------------------------------------------------------------------


def gives(name: str, about: str, example: Any, **others: Any) -> Shape:
    """An answer with the component `name` as JSON."""
    examples = {"example": {"value": example}} | {key: {"value": value} for key, value in others.items()}
    return {"description": about, "content": {JSON: {"schema": ref(name), "examples": examples}}}


def takes(media: dict[str, Shape], example: Any, required: bool = True) -> Shape:
    """A body of one of these media types."""
    content = {kind: {"schema": shape, "examples": {"example": {"value": example}}} for kind, shape in media.items()}
    return {"required": required, "content": content}


def query(name: str, shape: Shape, about: str) -> Shape:
    return {"name": name, "in": "query", "description": about, "schema": shape}


def header(name: str, about: str, example: str = "") -> Shape:
    shape = text(examples=[example]) if example else text()
    return {"name": name, "in": "header", "description": about, "schema": shape}


def path_parameter(name: str) -> Shape:
    about = f"The {name.removesuffix('_id')}'s id."
    return {"name": name, "in": "path", "required": True, "description": about, "schema": text(minLength=1)}


KEY = header(
    "Idempotency-Key",
    "A key of your own: sent again with the same request it is done once, within 24 hours.",
    "nightly-2026-11-28",
)
KEY["schema"] |= {"pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}


def limit(most: int, default: int) -> Shape:
    return query("limit", whole(minimum=1, maximum=most, default=default), "How many.")


AFTER = query("after", text(), "An id of the list: what comes after it.")

FLAG = text(enum=["true", "false"], default="false")

# --- downloads ------------------------------------------------------------------------------------------------------

DOWNLOAD_HEADERS = (
    header("Range", "One range of bytes: 206 and that part.", "bytes=0-1023"),
    header("If-Range", "An `ETag`: the range is obeyed only while it is the file's."),
    header("If-None-Match", "An `ETag` that you hold: 304 when it is the file's."),
    header("Accept-Encoding", "With `gzip` the whole file is compressed on the way.", "gzip"),
)
_ETAG = {"description": "The file's SHA-256; weak when it is compressed.", "schema": text()}
_VARY = {"schema": text()}
_OF_FILES = {
    "Accept-Ranges": {"schema": text()},
    "Content-Disposition": {"schema": text()},
    "ETag": _ETAG,
    "Vary": _VARY,
}
INCOMPLETE = {"description": "`true`: lines will follow that are not here yet.", "schema": text(enum=["true"])}


def streams(about: str, example: str, *, incomplete: bool = False) -> dict[int, Shape]:
    """The answers of a download: whole, a part of it, and not at all since the client has it."""
    content = {JSONL: {"schema": text("One JSON object a line."), "examples": {"example": {"value": example}}}}
    headers = {
        **_OF_FILES,
        "Content-Encoding": {"description": "`gzip`, where the client takes it.", "schema": text(enum=["gzip"])},
        **({"X-Incomplete": INCOMPLETE} if incomplete else {}),
    }
    part = {**_OF_FILES, "Content-Range": {"required": True, "schema": text(examples=["bytes 0-1023/2048"])}}
    return {
        200: {"description": about, "headers": headers, "content": content},
        206: {"description": "The range that was asked for.", "headers": part, "content": content},
        304: {"description": "You have it already.", "headers": _OF_FILES},
    }
