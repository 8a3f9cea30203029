"""What an upstream's answer is worth: delivered, final failure, or try again; and what it may be charged. Pure.

Nothing an upstream sends is trusted: an answer counts only when it is JSON of the endpoint's shape, its tokens only
when they are plain whole numbers that could be true.
"""

from typing import NamedTuple

import msgspec

from batches.core import counting
from batches.core.asking import ABSENT, CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

MAX_TOKENS = 10**8  # a line that claims more is not believed
UNCHARGED = "usage_missing"
MAX_TEXT = 64 * 1024  # bytes kept of a failure's body that is not JSON
RETRIED_STATUS = frozenset({408, 425, 429})
LASTING_STATUS = frozenset({501, 505})  # "not implemented" is no passing failure
COOLING_STATUS = frozenset({401, 403})


class Usage(NamedTuple):
    """Tokens of one line; cached ones are a part of the input."""

    input: int
    cached: int
    output: int


NO_USAGE = Usage(0, 0, 0)


class Answer(NamedTuple):
    """An HTTP answer, whole; or, with status 0, the error code of an attempt that got none."""

    status: int
    body: bytes
    retry_after: str | None = None
    error: str = ""  # upstream_unreachable, request_timeout, invalid_upstream_response
    unsent: bool = False  # the connection was never made: nothing reached the upstream


class Verdict(NamedTuple):
    """What an answer means for its line."""

    final: bool  # False: worth another attempt
    delivered: bool = False
    code: str = ""  # the error code, when it got no usable answer
    status: int | None = None  # the HTTP status to report
    body: bytes = b""  # one line of JSON
    usage: Usage = NO_USAGE
    flag: str = ""
    cools: bool = False  # the upstream itself is at fault: let it rest, and count no attempt

    @property
    def charged(self) -> bool:
        return self.delivered and self.flag != UNCHARGED


class _Object(msgspec.Struct):
    """Any JSON object."""


class _Answer(msgspec.Struct, kw_only=True):
    object: msgspec.Raw = ABSENT
    usage: msgspec.Raw = ABSENT


class _Choices(_Answer):
    made: list[counting.Choice] = msgspec.field(name="choices")


class _Embeddings(_Answer):
    made: list[_Object] = msgspec.field(name="data")


class _Response(_Answer):
    made: list[_Object] = msgspec.field(name="output")


class _Details(msgspec.Struct):
    cached_tokens: int | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None


_SHAPES: dict[
    str, msgspec.json.Decoder[_Choices] | msgspec.json.Decoder[_Embeddings] | msgspec.json.Decoder[_Response]
] = {
    CHAT: msgspec.json.Decoder(_Choices),
    COMPLETIONS: msgspec.json.Decoder(_Choices),
    EMBEDDINGS: msgspec.json.Decoder(_Embeddings),
    RESPONSES: msgspec.json.Decoder(_Response),
}
_OBJECTS = {
    CHAT: b'"chat.completion"', COMPLETIONS: b'"text_completion"', EMBEDDINGS: b'"list"', RESPONSES: b'"response"',
}  # fmt: skip
_OTHERS = {*_OBJECTS.values(), b'"chat.completion.chunk"', b'"error"'}  # a server's own word for it is none of ours
_usage = msgspec.json.Decoder(_Usage)
_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


def judge(endpoint: str, answer: Answer, asked: bytes = b"") -> Verdict:
    """The table "Outcomes and money" of the design, as a function. `asked` is the request's body."""
    status = answer.status
    if status == 0:
        return Verdict(final=False, code=answer.error, cools=answer.unsent)
    if 200 <= status < 300:
        return _success(endpoint, answer, asked)
    if 300 <= status < 400:
        return Verdict(final=True, code="upstream_redirect")
    if status in COOLING_STATUS:
        return Verdict(final=False, status=status, body=_as_json(answer.body), cools=True)
    retried = status in RETRIED_STATUS or (status >= 500 and status not in LASTING_STATUS)
    return Verdict(final=not retried, status=status, body=_as_json(answer.body))


def _success(endpoint: str, answer: Answer, asked: bytes) -> Verdict:
    body = answer.body
    try:
        if not body.isascii():
            body.decode()
        shape = _SHAPES[endpoint].decode(body)
        line = _one_line(body)
    except _ERRORS:
        return Verdict(final=False, code="invalid_upstream_response")
    named = bytes(shape.object)
    if not shape.made or (named in _OTHERS and named != _OBJECTS[endpoint]):
        return Verdict(final=False, code="invalid_upstream_response")
    usage = _believable(bytes(shape.usage), makes_none=endpoint == EMBEDDINGS)
    choices = shape.made if isinstance(shape, _Choices) else []
    low = usage is not None and counting.too_few(endpoint, asked, choices, usage.output)
    return Verdict(
        final=True,
        delivered=True,
        status=answer.status,
        body=line,
        usage=usage or NO_USAGE,
        flag="usage_missing" if usage is None else "usage_low" if low else "",
    )


def _believable(raw: bytes, makes_none: bool) -> Usage | None:
    """The usage, or None when it is missing or senseless. total_tokens is ignored, cached is clamped."""
    try:
        usage = _usage.decode(raw)
    except _ERRORS:
        return None
    taken = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
    made = usage.completion_tokens if usage.completion_tokens is not None else usage.output_tokens
    made = 0 if makes_none and made is None else made
    if taken is None or made is None or not (0 <= taken <= MAX_TOKENS and 0 <= made <= MAX_TOKENS):
        return None
    details = usage.prompt_tokens_details or usage.input_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    return Usage(taken, min(max(cached, 0), taken), made)


def _one_line(body: bytes) -> bytes:
    """The JSON on one line; a newline can only stand between its tokens."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body or b"\r" in body else body


def _as_json(body: bytes) -> bytes:
    """A failure's body for the output line: its JSON, else its text as a JSON string."""
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
        return _one_line(body)
    except _ERRORS:
        return msgspec.json.encode(body[:MAX_TEXT].decode(errors="replace"))
