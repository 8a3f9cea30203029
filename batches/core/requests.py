"""One input line: is it a request that can be sent as it is? Pure.

The body stays the bytes that came: what was validated and priced is byte for byte what is sent. So a duplicate key at
the top of the line or of its body is refused where we read it: two readers could disagree on which one counts.
"""

import json
import re
from typing import Any, NamedTuple

import msgspec

from batches.core import asking
from batches.core.asking import ABSENT, CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

ENDPOINTS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)
MAX_LINE = 10 * 1024 * 1024  # bytes
MAX_DEPTH = 512
MAX_CUSTOM_ID = 512  # characters
DEFAULT_OUTPUT_TOKENS = 256  # estimated where the body names no maximum
MOST_OUTPUT = 10**7  # tokens of a line: what asks for more names no limit
BYTES_PER_TOKEN = 4
LONG_START = 32  # bytes by which it is found: looking for the whole takes longer than counting
LONG_PROMPT = 256  # bytes, above which it is taken out before keys are counted
_PROMPT_FIELDS = {
    CHAT: ("messages",),
    COMPLETIONS: ("prompt",),
    EMBEDDINGS: ("input",),
    RESPONSES: ("input", "prompt"),
}
# strings, also one that never ends, without going back over what was read; and brackets
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


class Fault(NamedTuple):
    """Why a line can't run: a documented code, a sentence with the cure, the field."""

    code: str
    message: str
    param: str | None = None


class Request(NamedTuple):
    """A line that can run."""

    custom_id: str
    model: str
    prefix: bytes  # the start of its prompt: tools, then messages
    input: int  # tokens, estimated
    choices: int  # answers that it asks for; 0 of an embedding
    limit: int | None  # tokens of output, of all choices together; None: it names no maximum

    @property
    def tokens(self) -> int:
        """Estimated token work, input and output."""
        likely = min(self.choices * DEFAULT_OUTPUT_TOKENS, MOST_OUTPUT)
        return self.input + (likely if self.limit is None else self.limit)


class _Envelope(msgspec.Struct):
    custom_id: str
    body: msgspec.Raw
    method: str = "POST"
    url: str | None = None


class _Body(asking.Asked, kw_only=True):
    model: str
    stream: msgspec.Raw = ABSENT
    tools: msgspec.Raw = ABSENT
    instructions: msgspec.Raw = ABSENT
    messages: msgspec.Raw = ABSENT
    input: msgspec.Raw = ABSENT


class Sendable(msgspec.Struct):
    """What a runner needs of a line that was validated: both fields are its bytes."""

    custom_id: msgspec.Raw
    body: msgspec.Raw


class _Named(msgspec.Struct):
    custom_id: str


_READ = frozenset((*_Envelope.__struct_fields__, *_Body.__struct_fields__))  # keys that count for us
_ALWAYS = tuple(f'"{key}"'.encode() for key in ("custom_id", "body", "method", "url", "model"))
_OPTIONAL = tuple((key, f'"{key}"'.encode()) for key in _Body.__struct_fields__ if key != "model")
_ESCAPED = re.compile(rb"\\u00[567]")  # a letter of a key, written as an escape
_SOME_MESSAGE = re.compile(rb"\[\s*[^\s\]]")
_envelope = msgspec.json.Decoder(_Envelope)
_body = msgspec.json.Decoder(_Body)
_named = msgspec.json.Decoder(_Named)
sendable = msgspec.json.Decoder(Sendable).decode


def parse(data: bytes, endpoint: str) -> Request | Fault:
    """Check one line against `endpoint`; API.md's rules, in the order in which a person would fix them."""
    if fault := _unreadable(data):
        return fault
    try:
        envelope = _envelope.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _explain(data, error)
    if fault := _envelope_fault(envelope, endpoint):
        return fault
    raw = bytes(envelope.body)
    try:
        body = _body.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        return _explain_body(raw, error)
    fault = _duplicate_key(data, body) or _body_fault(body, endpoint)
    if fault:
        return fault
    choices, limit = _output(body, endpoint)
    return Request(envelope.custom_id, body.model, _prefix(body), len(raw) // BYTES_PER_TOKEN + 1, choices, limit)


def custom_id_of(data: bytes) -> bytes:
    """The JSON of a line's custom_id, as the tenant wrote it. Raises msgspec's errors where it is not a string."""
    written = bytes(sendable(data).custom_id)
    msgspec.json.decode(written, type=str)
    return written


def valid_custom_id(data: bytes | None) -> str | None:
    """The custom_id of a line that may be bad in any way; None where it can't be read, or is none."""
    try:
        name = _named.decode(data or b"").custom_id
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return name if name and _is_custom_id(name) else None


def _is_custom_id(name: str) -> bool:
    return len(name) <= MAX_CUSTOM_ID and name.isprintable()


def _unreadable(data: bytes) -> Fault | None:
    if b"\x00" in data:
        return Fault("invalid_json_line", "The line has a NUL byte. Is the file UTF-16? Save it as UTF-8.")
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            return Fault("invalid_json_line", f"The line is not UTF-8 (byte {error.start}). Save the file as UTF-8.")
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        return Fault("nesting_too_deep", f"The JSON is nested deeper than {MAX_DEPTH}.")
    return None


def _depth(data: bytes) -> int:
    depth = deepest = 0
    for match in _BRACKETS.finditer(data):
        token = match.group()
        if token in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
            if deepest > MAX_DEPTH:
                break
        elif token in (b"}", b"]"):
            depth -= 1
    return deepest


def _explain(data: bytes, error: Exception) -> Fault:
    """Tell broken JSON from a missing or mistyped field."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return Fault("invalid_json_line", "The line is no JSON object: one request a line, {…}.")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Fault("invalid_json_line", f"The line is not valid JSON: {error}.")
    if "custom_id" not in fields:
        return Fault("missing_custom_id", "Every line needs a custom_id of its own.", "custom_id")
    if "body" not in fields:
        return Fault("missing_body", "The line has no body: put the request there.", "body")
    field = next((name for name in ("custom_id", "method", "url") if f"`$.{name}`" in str(error)), "custom_id")
    codes = {"custom_id": "invalid_custom_id", "method": "invalid_method", "url": "url_mismatch"}
    return Fault(codes[field], f"{field} must be a string.", field)


def _explain_body(raw: bytes, error: Exception) -> Fault:
    try:
        fields = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Fault("invalid_body", "body must be a JSON object: the request as the endpoint takes it.", "body")
    if "model" not in fields:
        return Fault("missing_model", "body.model is missing: name the model.", "body.model")
    return Fault("missing_model", "body.model must be a string.", "body.model")


def _envelope_fault(envelope: _Envelope, endpoint: str) -> Fault | None:
    custom_id = envelope.custom_id
    if not custom_id:
        return Fault("missing_custom_id", "custom_id is empty: every line needs one of its own.", "custom_id")
    if not _is_custom_id(custom_id):
        return Fault(
            "invalid_custom_id", f"custom_id must be at most {MAX_CUSTOM_ID} printable characters.", "custom_id"
        )
    if envelope.method != "POST":
        return Fault("invalid_method", 'method must be "POST", or be left out.', "method")
    if envelope.url is not None and envelope.url != endpoint:
        return Fault("url_mismatch", f"url must be the batch's endpoint {endpoint}, or be left out.", "url")
    return None


def _body_fault(body: _Body, endpoint: str) -> Fault | None:
    if not body.model:
        return Fault("missing_model", "body.model is empty: name the model.", "body.model")
    if bytes(body.stream) not in (b"", b"false", b"null"):
        return Fault("stream_not_supported", "A batch can't stream: leave stream out.", "body.stream")
    names = _PROMPT_FIELDS[endpoint]
    if all(bytes(getattr(body, name)) in (b"", b"null") for name in names):
        return Fault("invalid_body", f"body.{names[0]} is missing: {endpoint} needs it.", f"body.{names[0]}")
    if endpoint == CHAT and not _SOME_MESSAGE.match(bytes(body.messages)):
        return Fault("invalid_body", "body.messages must be an array with at least one message.", "body.messages")
    return None


class _Keys(NamedTuple):
    """What is kept of an object on the way up, so that no deep tree is built: keys that stand twice, and its body."""

    twice: frozenset[str]
    body: Any = None


_PLAIN = _Keys(frozenset())


def _keys(pairs: list[tuple[str, Any]]) -> _Keys:
    names = [name for name, _ in pairs if name in _READ]
    once = set(names)
    twice = frozenset(name for name in once if names.count(name) > 1) if len(names) > len(once) else frozenset()
    body = next((value for name, value in pairs if name == "body" and isinstance(value, _Keys)), None)
    return _Keys(twice, body) if twice or body else _PLAIN


def _surely_single(data: bytes, body: _Body) -> bool:
    """Whether counting tells that no key we read stands twice: so for most lines. What is absent can't stand twice."""
    if b"\\u00" in data and _ESCAPED.search(data):
        return False
    prompt = bytes(body.messages or body.prompt or body.input)
    if len(prompt) > LONG_PROMPT:  # what stands inside it is no key of the body
        start = data.find(prompt[:LONG_START])
        if data.startswith(prompt, start):
            data = data[:start] + data[start + len(prompt) :]
    for quoted in _ALWAYS:
        if data.count(quoted) > 1:
            return False
    for key, quoted in _OPTIONAL:  # noqa: SIM110 - run for every line, a generator costs as much as the counting
        if getattr(body, key) is not ABSENT and data.count(quoted) > 1:
            return False
    return True


def _duplicate_key(data: bytes, body: _Body) -> Fault | None:
    """A key that we read, twice at the top of the line or of its body, however its letters are written."""
    if _surely_single(data, body):
        return None
    top = json.loads(data, object_pairs_hook=_keys, parse_int=len, parse_float=len)
    for where, keys, read in (("", top, _Envelope), ("body.", top.body, _Body)):
        for key in read.__struct_fields__:
            if keys is not None and key in keys.twice:
                return Fault("duplicate_key", f"The key {where}{key} stands twice: keep one.", f"{where}{key}")
    return None


def _prefix(body: _Body) -> bytes:
    return bytes(body.tools) + bytes(body.instructions) + bytes(body.messages or body.prompt or body.input)


def _output(body: _Body, endpoint: str) -> tuple[int, int | None]:
    """Choices, and tokens of all of them together."""
    count, each = asking.choices(body, endpoint), asking.limit(body, endpoint)
    if not count:
        return 0, 0
    return count, None if each is None or count * each > MOST_OUTPUT else count * each
