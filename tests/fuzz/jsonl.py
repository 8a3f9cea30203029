"""A tenant's file: cut into lines, each line's verdict, what is planned of it, and what is sent.

The file is the input itself. How it is cut into chunks hangs on its checksum.
"""

import random
from array import array
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import gettempdir
from typing import Any
from zlib import crc32

from batches.core import bounds, planning, requests
from batches.core.jsonl import BOM, Line, LineCounter, disguise, lines
from batches.core.requests import ENDPOINTS, Fault, Request
from batches.core.splicing import replace_model
from batches.findings import Findings
from batches.validation import Checks, read
from tests import hostile
from tests.fuzz import strict
from tests.fuzz.strict import Number, Object

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = ENDPOINTS
ENVELOPE = frozenset({"custom_id", "method", "url", "body"})
BODY = frozenset(
    ("model", "stream", "tools", "instructions", "messages", "input", "prompt", "max_tokens", "max_completion_tokens")
) | {"max_output_tokens", "n", "best_of"}
PROMPTS = {CHAT: {"messages"}, COMPLETIONS: {"prompt"}, EMBEDDINGS: {"input"}, RESPONSES: {"input", "prompt"}}
MODELS = {"m", "gpt-4o-mini"}
OWN = 'org/"Own"-模型'  # an upstream's own name for a model
NO_LIMIT = 1 << 30
EACH_BYTE = 100  # longest file that is also fed by single bytes
PLACES = (
    b'{"custom_id":"a","body":{"model":"m","messages":[1],"more":%b}}',
    b'{"custom_id":"a","more":%b,"body":{"model":"m","input":[1]}}',
    b'{"custom_id":"a","body":{"model":"m","messages":[%b]}}',
    b'{"custom_id":"a","body":%b}',
)
TOKENS = (
    *(f'"{name}":'.encode() for name in sorted(ENVELOPE | BODY)), *(endpoint.encode() for endpoint in ENDPOINTS),
    b'"POST"', b'"m"', b'{"custom_id":"a","body":{"model":"m","messages":[1]}}', b"\n", b"\r\n", BOM, b"\\u0062ody",
    b"\\u006dodel", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"null", b"true", b"false", b"NaN", b"Infinity", b"1e400",
    b"[[[[[[[[", b"]]]]]]]]", b'{"a":{"a":{"a":', b"}}}", b'\\"', b"\\\\", b"\x00", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xa8",
    b"\x1f\x8b", b"\xff\xfe", b"0", b"-0", b"007", b"9999999", b"10000000", b'"prompt":["a","b"]', b'"messages":[]', b",", b":",
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """JSONTestSuite within lines, and all of it as one file."""
    files = {name: content for name, content in hostile.json_files().items() if len(content) < 1000}
    within = {f"{name} {n}": PLACES[n] % content for name, content in files.items() for n in [crc32(content) % 4]}
    return {**within, "all": b"\n".join(within.values())}


def check(data: bytes) -> None:
    """One list of lines however it came, and of each line the verdict of another reader."""
    expected = [*_split(data)]
    dice = random.Random(crc32(data))
    for chunks in _chunkings(data, dice):
        _counted(chunks, len(expected))
        assert [*lines(chunks, NO_LIMIT)] == expected
        limit = dice.randrange(1, 60)
        short = [line if line.length <= limit else line._replace(data=None) for line in expected]
        assert [*lines(chunks, limit)] == short, "a line over the limit has no data, and changes no other"
    assert all(data[line.offset : line.offset + line.length] == line.data for line in expected)
    values = [_read(line.data or b"") for line in expected]
    for endpoint in ENDPOINTS:
        for line, value in zip(expected, values, strict=True):
            _line(line.data or b"", value, endpoint)
    assert disguise(data[:8]) is None or _read(data[:8]) is None
    _whole(data, expected, dice.choice(ENDPOINTS))


def _split(data: bytes) -> Iterator[Line]:
    """The definition: no mark at the start, split at newlines, blank is space, tab and carriage return alone."""
    offset = len(BOM) if data.startswith(BOM) else 0
    for number, piece in enumerate(data[offset:].split(b"\n"), 1):
        if piece.strip(b" \t\r"):
            yield Line(number, offset, len(piece), piece)
        offset += len(piece) + 1


def _chunkings(data: bytes, dice: random.Random) -> Iterator[list[bytes]]:
    yield [data]
    if len(data) <= EACH_BYTE:
        yield [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(9)))
    yield [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]


def _counted(chunks: list[bytes], expected: int) -> None:
    counter = LineCounter()
    for chunk in chunks:
        counter.feed(chunk)
    assert counter.count == expected


# --- one line --------------------------------------------------------------------------------------------------------


def _read(data: bytes) -> Any:
    """What another reader makes of a line: its value, strict.Deep, or None for what is no JSON object."""
    try:
        value = strict.read(data)
    except ValueError:
        return None
    except strict.Deep:
        return strict.Deep
    return value if isinstance(value, Object) else None


def _line(data: bytes, value: Any, endpoint: str) -> None:
    found = requests.parse(data, endpoint)
    if value is strict.Deep:
        assert isinstance(found, Fault)
        return
    may = _wrong(value, endpoint)
    if isinstance(found, Fault):
        assert found.message.endswith((".", "}")), found
        assert found.code in may or (found.code == "nesting_too_deep" and value is None), (found, may)
        assert (found.param or "").removeprefix("body.") in ENVELOPE | BODY | {""}
        name = requests.valid_custom_id(data)
        assert name is None or (_is_custom_id(name) and (value is None or dict(value)["custom_id"] == name))
    else:
        assert not may, (found, may)
        _taken(data, dict(value), found)


def _wrong(value: Object | None, endpoint: str) -> set[str]:
    """Every code that tells the truth about the line."""
    if value is None:
        return {"invalid_json_line"}
    line = dict(value)
    body = line.get("body")
    wrong = {
        "nesting_too_deep": strict.depth(value) > requests.MAX_DEPTH,
        "duplicate_key": value.twice(ENVELOPE) or (isinstance(body, Object) and body.twice(BODY)),
        "missing_custom_id": line.get("custom_id", "") == "",
        "invalid_custom_id": "custom_id" in line and not _is_custom_id(line["custom_id"]),
        "invalid_method": "method" in line and line["method"] != "POST",
        "url_mismatch": line.get("url") is not None and line["url"] != endpoint,
        "missing_body": "body" not in line,
        "invalid_body": not isinstance(body, Object) or not _has_prompt(dict(body), endpoint),
        "missing_model": isinstance(body, Object) and not _is_text(dict(body).get("model")),
        "stream_not_supported": isinstance(body, Object) and dict(body).get("stream") not in (None, False),
    }
    wrong["invalid_method"] |= isinstance(line.get("method"), Number)
    return {code for code, is_so in wrong.items() if is_so}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number) and bool(value)


def _is_custom_id(value: Any) -> bool:
    return value == "" or (_is_text(value) and len(value) <= 512 and value.isprintable())


def _has_prompt(body: dict[str, Any], endpoint: str) -> bool:
    if endpoint == CHAT:
        messages = body.get("messages")
        return isinstance(messages, list) and bool(messages)
    return any(body.get(name) is not None for name in PROMPTS[endpoint])


def _taken(data: bytes, line: dict[str, Any], found: Request) -> None:
    """What is sent is what came, but for a model's own name."""
    assert (found.custom_id, found.model) == (line["custom_id"], dict(line["body"])["model"])
    assert requests.valid_custom_id(data) == found.custom_id
    assert strict.read(requests.custom_id_of(data)) == found.custom_id
    sent = requests.sendable(data)
    body = bytes(sent.body)
    assert body in data and strict.read(body) == line["body"]
    assert 0 < found.input <= len(body) and found.choices >= 0
    assert found.limit is None or 0 <= found.limit <= requests.MOST_OUTPUT
    named = dict(strict.members(body))
    assert dict(strict.members(replace_model(body, OWN))) | {"model": named["model"]} == named
    assert strict.read(replace_model(body, OWN)) and dict(strict.read(replace_model(body, OWN)))["model"] == OWN


# --- the whole file --------------------------------------------------------------------------------------------------


def _whole(data: bytes, expected: list[Line], endpoint: str) -> None:
    """Each line is planned once, or found bad by its number, with a code; so says the preflight, too."""
    path = Path(gettempdir()) / "provocative-fuzz.jsonl"
    path.write_bytes(data)
    findings, work, bad = Findings(), bounds.Work(), list[int]()
    columns = read(
        path, Checks(endpoint, set(MODELS)), findings, good=work.add, bad=lambda line, _: bad.append(line.number)
    )
    assert sorted([*columns.numbers, *bad]) == [line.number for line in expected]
    assert {entry["line"] for entry in findings.listed()} <= set(bad) and bool(findings.counts) == bool(bad)
    assert all(entry["code"] and entry["message"] for entry in findings.listed())
    at = {line.number: (line.offset, line.length) for line in expected}
    assert [at[number] for number in columns.numbers] == [*zip(columns.offsets, columns.lengths, strict=True)]
    cuts = [*planning.cut(columns, planning.order(columns), dict.fromkeys(MODELS, 4))]
    assert sorted(planned.position for cut in cuts for planned in cut.lines) == [*range(len(columns))]
    assert array("Q", [sum(cut.tokens for cut in cuts)])[0] == sum(columns.tokens)
    assert work.lines == len(columns) and work.low <= work.high and work.largest_input <= max(1, len(data))
    assert 0 <= planning.shared_bytes(columns, cuts) <= len(data)
