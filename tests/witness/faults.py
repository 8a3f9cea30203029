"""What the witness answers: pure functions from a request's own text, attempt number and rates to bytes."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from functools import cache, lru_cache, reduce
from hashlib import blake2b
from http import HTTPStatus
from itertools import repeat
from typing import Literal, NamedTuple

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
MARKER = re.compile(rb"line:[A-Za-z0-9_-]+")
SCRIPT = re.compile(rb"fault:([a-z0-9-]+)(?::(\d{1,9}))?(?::ra=([A-Za-z0-9-]+))?")
PARAMETERISED = re.compile(r"(sleep|cached|choices)-(\d{1,9})")
STATUS = re.compile(r"[1-5]\d\d")
MOST_RANDOM_FAULTS, LAST_RANDOM_ATTEMPT = 3, 20
BOMB_MEGABYTES = 300


class Step(NamedTuple):
    """One `fault:KIND[:N][:ra=X]`: what `times` attempts get (None: every one from here on)."""

    kind: str
    times: int | None = None
    retry_after: str | None = None


class Ask(NamedTuple):
    """What an answer depends on."""

    path: str
    marker: str
    model: str
    size: int
    serial: int
    now: float
    inputs: int = 1
    tokens: int | None = None


class Reply(NamedTuple):
    """Bytes to send after `delay`, then perhaps a stream of pieces, and how the exchange ends."""

    data: bytes
    status: str = "200"
    ending: Literal["keep", "fin", "rst", "hold"] = "keep"
    delay: float = 0.0
    stream: Iterator[bytes] | None = None
    interval: float = 0.0


def marker_of(body: bytes) -> str:
    """The whole first match, `line:...`, or `-`."""
    found = MARKER.search(body)
    return found.group().decode() if found else "-"


def script(body: bytes) -> list[Step]:
    """Every fault script of a body, in order."""
    if b"fault:" not in body:
        return []
    found = [[part.decode() for part in match.groups(default=b"")] for match in SCRIPT.finditer(body)]
    return [Step(kind, int(times) if times else None, wait or None) for kind, times, wait in found]


def scripted(steps: list[Step], attempt: int) -> Step | None:
    """The step which the attempt (counted from 1) falls to; None: answer well."""
    for step in steps:
        if step.times is None or attempt <= step.times:
            return step
        attempt -= step.times
    return None


def known(kind: str) -> bool:
    return kind in MAKERS or bool(STATUS.fullmatch(kind) or PARAMETERISED.fullmatch(kind))


def _pick(rates: Mapping[str, float], seed: int, marker: str, salt: object) -> str | None:
    digest = blake2b(f"{seed}|{marker}|{salt}".encode(), digest_size=8).digest()
    chance = int.from_bytes(digest, "big") / 2**64
    for kind, rate in sorted(rates.items()):
        if chance < rate:
            return kind
        chance -= rate
    return None


def lasting(marker: str, rates: Mapping[str, float], seed: int) -> str | None:
    """The fault that every attempt of this marker gets, or None."""
    return _pick(rates, seed, marker, "lasting")


def passing(marker: str, rates: Mapping[str, float], seed: int, attempts: int) -> list[str | None]:
    """The random fault of attempts 1..`attempts`: three at most, none after the 20th attempt."""
    plan: list[str | None] = []
    hits = 0
    for attempt in range(1, min(attempts, LAST_RANDOM_ATTEMPT) + 1):
        kind = _pick(rates, seed, marker, attempt) if hits < MOST_RANDOM_FAULTS else None
        hits += kind is not None
        plan.append(kind)
    return plan + [None] * (attempts - len(plan))


def decide(
    marker: str, attempt: int, body: bytes, rates: Mapping[str, float], lasting_rates: Mapping[str, float], seed: int
) -> Step | None:
    """Lasting fault, else the body's own script (which exempts it from random faults), else a random fault."""
    kind = lasting(marker, lasting_rates, seed) if lasting_rates else None
    if kind is None:
        steps = script(body)
        if steps:
            return scripted(steps, attempt)
        if rates and attempt <= LAST_RANDOM_ATTEMPT:
            kind = passing(marker, rates, seed, attempt)[-1]
    return Step(kind) if kind else None


def http(status: int, body: bytes, extra: str = "", content_type: str = "application/json") -> bytes:
    """A whole HTTP/1.1 response."""
    if status < 200 or status in (204, 304):
        return f"HTTP/1.1 {status} {_phrase(status)}\r\n{extra}\r\n".encode()
    head = f"HTTP/1.1 {status} {_phrase(status)}\r\nContent-Type: {content_type}\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@cache
def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"


def error(status: int, message: str, code: str | None = None, extra: str = "") -> bytes:
    """An OpenAI-shaped error response."""
    other = "server_error" if status >= 500 else "invalid_request_error"
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(status, other)
    return http(status, json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode(), extra)


_quoted = lru_cache(256)(json.dumps)


def embedding_of(marker: str, index: int = 0) -> list[float]:
    """The vector that the witness gives the index-th input of this marker."""
    digest = blake2b(f"{marker}|{index}".encode(), digest_size=8).digest()
    return [round(byte / 256 - 0.5, 6) for byte in digest]


def _content(ask: Ask) -> str:
    return ask.marker + " ok" * (1 if ask.tokens is None else max(ask.tokens - 1, 0))


def _choice(ask: Ask) -> tuple[str, str]:
    if ask.path == CHAT:
        lead, said = '"id":"chatcmpl-%d","object":"chat.completion"', '"message":{"role":"assistant","content":"%s"}'
    else:
        lead, said = '"id":"cmpl-%d","object":"text_completion"', '"text":"%s"'
    choice = f'{{"index":0,{said % _content(ask)},"logprobs":null,"finish_reason":"stop"}}'
    return f'{lead % ask.serial},"created":{int(ask.now)}', f'"choices":[{choice}]'


def _embeddings(ask: Ask) -> tuple[str, str]:
    vectors = [{"object": "embedding", "index": i, "embedding": embedding_of(ask.marker, i)} for i in range(ask.inputs)]
    return f'"id":"embd-{ask.serial}","object":"list"', f'"data":{json.dumps(vectors)}'


def _response(ask: Ask) -> tuple[str, str]:
    lead = f'"id":"resp_{ask.serial}","object":"response","created_at":{int(ask.now)},"status":"completed"'
    part = f'{{"type":"output_text","text":"{_content(ask)}","annotations":[]}}'
    head = f'"type":"message","id":"msg_{ask.serial}","status":"completed","role":"assistant"'
    return f'{lead},"error":null,"incomplete_details":null', f'"output":[{{{head},"content":[{part}]}}]'


SHAPES = {CHAT: _choice, COMPLETIONS: _choice, EMBEDDINGS: _embeddings, RESPONSES: _response}


def tokens_of(size: int, tokens: int | None = None) -> tuple[int, int]:
    """(prompt, completion) tokens of a body of that many bytes."""
    return max(1, size // 4), 5 + size % 7 if tokens is None else tokens


def _usage(ask: Ask, cached: int, literals: tuple[str, str] | None) -> str:
    given, made = tokens_of(ask.size, ask.tokens)
    first, second, total = (*literals, literals[0]) if literals else (given, made, given + made)
    if ask.path == EMBEDDINGS:
        return f'"usage":{{"prompt_tokens":{first},"total_tokens":{first}}}'
    one, two = ("input", "output") if ask.path == RESPONSES else ("prompt", "completion")
    details = f'"{one}_tokens_details":{{"cached_tokens":{cached}}},"{two}_tokens_details":{{"reasoning_tokens":0}}'
    return f'"usage":{{"{one}_tokens":{first},"{two}_tokens":{second},"total_tokens":{total},{details}}}'


def answer(ask: Ask, cached: int = 0, literals: tuple[str, str] | None = None, drop: str = "") -> bytes:
    """The JSON body of a good answer; `literals` replace the token counts, `drop` leaves out choices or usage."""
    lead, listing = SHAPES[ask.path](ask)
    members = [f'{lead},"model":{_quoted(ask.model)}']
    if drop != "choices":
        members.append(listing)
    if drop != "usage":
        members.append(_usage(ask, cached, literals))
    return ("{" + ",".join(members) + "}").encode()


def several(ask: Ask, count: int) -> bytes:
    """A good answer with its choice so many times; its usage counts one, as llama.cpp's does."""
    content = json.loads(answer(ask))
    return json.dumps(content | {"choices": content["choices"] * count}).encode()


@cache
def gzip_bomb() -> bytes:
    """A gzip stream of 300 MB of zeros, put together from one compressed megabyte repeated."""
    block = bytes(2**20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = reduce(lambda crc, _: zlib.crc32(block, crc), range(BOMB_MEGABYTES), 0)
    trailer = struct.pack("<II", checksum, len(block) * BOMB_MEGABYTES)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + piece * BOMB_MEGABYTES + b"\x03\0" + trailer


def _cut(ask: Ask, kind: str) -> Reply:
    body = answer(ask)
    whole = http(200, body)
    head = len(whole) - len(body)
    return Reply(whole[: head // 2 if kind == "reset-headers" else head + len(body) // 2], kind, "rst")


def _chunked(data: bytes, kind: str, stream: Iterator[bytes] | None = None) -> Reply:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return Reply(head + b"%x\r\n%b\r\n" % (len(data), data), kind, "fin", stream=stream, interval=0.001)


def _drip(ask: Ask) -> Reply:
    head, _, body = http(200, answer(ask)).partition(b"{")
    return Reply(head, "drip", stream=(bytes([byte]) for byte in b"{" + body), interval=1.0)


def _good(kind: str, body: Callable[[Ask], bytes], extra: str = "") -> Callable[[Ask], Reply]:
    return lambda ask: Reply(http(200, body(ask), extra), kind)


def _counted(kind: str, prompt: str, completion: str) -> Callable[[Ask], Reply]:
    return _good(kind, lambda ask: answer(ask, literals=(prompt, completion)))


PAGE = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
FILLER = b"10000\r\n" + b" " * 65536 + b"\r\n"
MAKERS: dict[str, Callable[[Ask], Reply]] = {
    "reset": lambda ask: Reply(b"", "reset", "rst"),
    "reset-headers": lambda ask: _cut(ask, "reset-headers"),
    "reset-body": lambda ask: _cut(ask, "reset-body"),
    "truncate": lambda ask: Reply(http(200, answer(ask) + bytes(100))[:-100], "truncate", "fin"),
    "truncate-chunked": lambda ask: _chunked(answer(ask), "truncate-chunked"),
    "html": lambda ask: Reply(http(200, PAGE, content_type="text/html; charset=utf-8"), "html"),
    "empty": _good("empty", lambda ask: b""),
    "null": _good("null", lambda ask: b"null"),
    "no-choices": _good("no-choices", lambda ask: answer(ask, drop="choices")),
    "no-usage": _good("no-usage", lambda ask: answer(ask, drop="usage")),
    "usage-negative": _counted("usage-negative", "-5", "-7"),
    "usage-string": _counted("usage-string", '"12"', '"7"'),
    "usage-huge": _counted("usage-huge", "1e30", "1e30"),
    "usage-float": _counted("usage-float", "1.5", "2.5"),
    "drip": _drip,
    "slow-headers": lambda ask: Reply(b"HTTP/1.1 200 OK\r\nX-", "slow-headers", stream=repeat(b"a"), interval=1.0),
    "hang": lambda ask: Reply(b"", "hang", "hold"),
    "gzip-bomb": _good("gzip-bomb", lambda ask: gzip_bomb(), "Content-Encoding: gzip\r\n"),
    "endless": lambda ask: _chunked(b'{"choices": [', "endless", repeat(FILLER)),
    "redirect": lambda ask: Reply(http(302, b"{}", "Location: /witness/trap\r\n"), "redirect"),
    "other-endpoint": _good(
        "other-endpoint", lambda ask: answer(ask._replace(path=CHAT if ask.path != CHAT else EMBEDDINGS))
    ),
    "invalid-json": _good("invalid-json", lambda ask: b'{"choices": ['),
    "nan": _good("nan", lambda ask: answer(ask)[:-1] + b',"score":NaN}'),
    "duplicate": lambda ask: Reply(http(200, answer(ask)) * 2, "duplicate"),
    "drop-reused": _good("200", answer),
    "die": _good("die", answer),
}


def _status_reply(step: Step, ask: Ask) -> Reply:
    status, wait = int(step.kind), step.retry_after
    if wait == "date":
        wait = formatdate(math.ceil(ask.now + 2), usegmt=True)
    extra = f"Retry-After: {wait}\r\n" if wait else ""
    code = "rate_limit_exceeded" if status == 429 else f"witness_{status}"
    return Reply(error(status, f"witness: {status} for {ask.marker}", code, extra), step.kind)


def compose(step: Step | None, ask: Ask) -> Reply:
    """The reply to send for a decision; an unknown kind is answered 501 and logged as unknown-fault."""
    if step is None:
        return Reply(http(200, answer(ask)))
    if step.kind in MAKERS:
        return MAKERS[step.kind](ask)
    if STATUS.fullmatch(step.kind):
        return _status_reply(step, ask)
    found = PARAMETERISED.fullmatch(step.kind)
    if not found:
        return Reply(error(501, f"witness: unknown fault {step.kind}", "unknown_fault"), "unknown-fault")
    number = int(found[2])
    if found[1] == "cached":
        return Reply(http(200, answer(ask, cached=number)))
    if found[1] == "choices":
        return Reply(http(200, several(ask, number)))
    return Reply(http(200, answer(ask)), delay=number / 1000)
