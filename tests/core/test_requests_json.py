"""A line is strict JSON, and nothing that a tenant sends makes the reader stumble."""

import json
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches.core.requests import ENDPOINTS, Fault, Request, parse, sendable
from tests.core import searched
from tests.core.lines import CHAT, EMBEDDINGS, PROMPTS, VALUES, body, line, raw, reference

NOT_JSON = (
    b"NaN", b"Infinity", b"-Infinity", b"nan", b"01", b"-01", b"1.", b".5", b"+1", b"1e", b"1e+", b"-", b"--1", b"0x1",
    b"1.5.5", b"[1,]", b"[,1]", b"[1 2]", b'{"a":1,}', b'{"a" 1}', b'{"a":1 "b":2}', b"{a:1}", b"{1:2}", b"'a'",
    b"tru", b"True", b"truex", b"/*c*/1", b"1//c", b'"\x01"', b'"\t"', b'"\r"', b'"\\x41"', b'"\\u12"', b'"\\u12G4"',
    b'"\\a"', b'"', b"[", b"]", b"}", b"[\x0c]", b"[\x0b1]", b"\xc2\xa01", b"\xef\xbb\xbf1",
)  # fmt: skip
NOT_TEXT = (
    b'"\\ud800"', b'"\\udc00"', b'"\\ud800\\u0041"', b'"\\udc00\\ud800"', b'"\\ud800\\ud800"', b'{"\\ud800":1}',
    b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xc3"', b'"\x00"', b"\x00",
)  # fmt: skip
JSON = (
    b"1e5000", b"-0", b"-0.0", b"1E+2", b"9" * 5000, b"-" + b"9" * 5000, b"0." + b"1" * 5000, b'"\\u0000"', b'"\\/"',
    b'"\x7f"', b'"\xe2\x80\xa8"', b'"\\ud83d\\ude00"', b'{"":0}', b" [ ] ", b"{\r\t}", b'"\xef\xbb\xbf"', b'"\xef\xbf\xbf"',
    b'"\\uFFFF"', b'{"a":{"a":{"a":1}}}',
)  # fmt: skip
PLACES = ("body", "envelope", "messages")
ENVELOPE = ("custom_id", "method", "url", "body")
KEYS = ("custom_id", "method", "url", "body", "model", "stream", "messages", "max_tokens")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fragment", NOT_JSON + NOT_TEXT)
def test_what_is_not_json_is_refused_wherever_it_stands(fragment: bytes, place: str) -> None:
    for data in (raw(fragment, place), raw(b'["\\u0061",%b]' % fragment, place)):
        found = parse(data, CHAT)
        assert isinstance(found, Fault)
        assert found.code == "invalid_json_line"


def test_a_file_in_another_encoding_is_called_by_its_name() -> None:
    nul, latin = parse(line().decode().encode("utf-16-le"), CHAT), parse(raw('"é"'.encode("latin-1")), CHAT)
    assert isinstance(nul, Fault)
    assert isinstance(latin, Fault)
    assert "UTF-16" in nul.message
    assert "not UTF-8" in latin.message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fragment", JSON)
def test_what_is_json_is_taken_wherever_it_stands(fragment: bytes, place: str) -> None:
    for data in (raw(fragment, place), raw(b'["\\u0061",%b]' % fragment, place)):
        assert isinstance(parse(data, CHAT), Request)


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"\\u0061":', b"}]")])
def test_json_may_be_nested_512_deep_and_no_deeper(opening: bytes, closing: bytes) -> None:
    levels = (512 - 2) // len(closing)  # the envelope and the body are two
    deepest = raw(opening * levels + b"1" + closing * levels)
    assert isinstance(parse(deepest, CHAT), Request)
    for more in (levels + 1, 5_000, 100_000):
        found = parse(raw(opening * more + b"1" + closing * more), CHAT)
        assert isinstance(found, Fault)
        assert found.code == "nesting_too_deep"


def test_brackets_that_never_close_are_only_a_fault() -> None:
    for data in (b"[" * 100_000, b'{"a":' * 100_000, b"]" * 100_000, b'["\\"' * 50_000):
        assert isinstance(parse(data, CHAT), Fault)


def test_brackets_in_a_string_are_not_nesting() -> None:
    text = "[{" * 1000 + '"' + "[" * 1000 + "\\"
    assert isinstance(parse(line(body=body(prompt=text)), CHAT), Request)
    assert isinstance(parse(line(body=body(prompt=[[text]] * 1000)), CHAT), Request)


def test_a_string_that_never_ends_costs_no_more_than_its_length() -> None:
    data = b"[" * 513 + b'"' + b'\\"' * 6_000
    began = time.process_time()
    assert isinstance(parse(data, CHAT), Fault)
    assert time.process_time() - began < 0.1


def test_a_long_string_is_measured_without_a_mountain_of_memory() -> None:
    data = line(body=body(prompt="[" * 600 + "x" * (1 << 20)))
    tracemalloc.start()
    try:
        assert isinstance(parse(data, CHAT), Request)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def check(data: bytes, endpoint: str) -> None:
    """Parse never raises; what it takes is JSON to Python's strict reader too, and is sent as it came."""
    found = parse(data, endpoint)
    if isinstance(found, Fault):
        assert found.code
        assert found.message
        return
    read = reference(data)
    assert found.custom_id == read["custom_id"]
    assert found.model == read["body"]["model"]
    sent = bytes(sendable(data).body)
    assert sent in data
    assert reference(sent) == read["body"]


@given(st.binary(max_size=200), st.sampled_from(ENDPOINTS))
@searched
def test_no_bytes_make_it_raise(data: bytes, endpoint: str) -> None:
    check(data, endpoint)


EDITS = st.sampled_from((*NOT_JSON, *NOT_TEXT, *JSON[:4], b",", b":", b"{", b"\\", b'"model"', b'"body":{},', b"\x80"))


@given(st.data(), st.sampled_from(ENDPOINTS), st.booleans())
@searched
def test_no_damaged_line_makes_it_raise(data: st.DataObject, endpoint: str, escaped: bool) -> None:
    content = bytearray(
        line(endpoint, body=body(endpoint, user="é")).replace(b'"user"', b'"us\\u0065r"' if escaped else b'"user"')
    )
    for _ in range(data.draw(st.integers(1, 3))):
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        content[start : end if data.draw(st.booleans()) else start] = data.draw(EDITS)
    check(bytes(content), endpoint)


ENVELOPES = st.fixed_dictionaries(
    {}, optional={key: VALUES | st.sampled_from(["a", "POST", CHAT, EMBEDDINGS, body()]) for key in (*KEYS, "x", "")}
)


@given(
    VALUES | ENVELOPES | ENVELOPES.map(lambda fields: {"custom_id": "a", "body": fields}), st.sampled_from(ENDPOINTS)
)
@searched
def test_no_json_makes_it_raise(value: Any, endpoint: str) -> None:
    check(json.dumps(value).encode(), endpoint)
    check(json.dumps(value, ensure_ascii=False, indent=1).replace("\n", "\r").encode(), endpoint)


@given(
    st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.sampled_from(ENDPOINTS), st.sampled_from([None, 0, 3])
)
@example({"\ud800": 1}, CHAT, None)
@searched
def test_what_is_sent_is_what_came_byte_for_byte(fields: dict[str, Any], endpoint: str, indent: int | None) -> None:
    content = {**fields, "model": "m", "stream": False, **PROMPTS[endpoint]}
    sent = json.dumps(content, indent=indent, separators=(" ,", "\t: ")).replace("\n", "\r").encode()
    data = b' { "custom_id" : "a",\t"body"\r:  ' + sent + b' \t, "x" : [ ] } \r'
    found = parse(data, endpoint)
    try:
        reference(data)
    except ValueError:
        assert isinstance(found, Fault)
        return
    assert isinstance(found, Request)
    assert bytes(sendable(data).body) == sent


def escaped(key: str, at: int) -> bytes:
    """The key as JSON, one of its characters as an escape."""
    return f'"{key[:at]}\\u{ord(key[at]):04x}{key[at + 1 :]}"'.encode()


def with_pair(key: str, second: bytes, in_body: bool) -> bytes:
    """A line, good but for `key` beside its `second` spelling, both with a value that fits."""
    fits = {"body": body(), "messages": [1], "stream": False, "method": "POST", "url": CHAT}
    value = json.dumps(fits.get(key, "m")).encode()
    pair = b'"%b":%b,%b:%b' % (key.encode(), value, second, value)
    rest: dict[str, Any] = body() if in_body else {"custom_id": "a", "body": body()}
    others = b"".join(b',"%b":%b' % (name.encode(), json.dumps(rest[name]).encode()) for name in rest if name != key)
    content = b"{" + pair + others + b"}"
    return b'{"custom_id":"a","body":%b}' % content if in_body else content


def check_refused(data: bytes, key: str) -> None:
    found = parse(data, CHAT)
    assert isinstance(found, Fault)
    assert found.code == "duplicate_key"
    assert found.param in (key, f"body.{key}")


@given(st.sampled_from(KEYS), st.data())
@searched
def test_a_key_that_stands_twice_is_refused_however_it_is_written(key: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(key) - 1))
    for second in (f'"{key}"'.encode(), escaped(key, at)):
        check_refused(with_pair(key, second, key not in ENVELOPE), key)


OTHERS = ("max_completion_tokens", "max_output_tokens", "prompt", "input", "tools", "instructions")


@pytest.mark.parametrize("key", OTHERS)
def test_any_other_key_twice_is_refused_when_there_is_an_escape(key: str) -> None:
    check_refused(with_pair(key, escaped(key, 0), True), key)


@pytest.mark.parametrize("key", OTHERS)
def test_any_other_key_twice_is_refused(key: str) -> None:
    check_refused(with_pair(key, f'"{key}"'.encode(), True), key)


@pytest.mark.parametrize("second", [b'"temperature"', escaped("temperature", 0)])
def test_a_key_that_counts_for_nobody_may_stand_twice(second: bytes) -> None:
    assert isinstance(parse(with_pair("temperature", second, True), CHAT), Request)


@pytest.mark.parametrize("key", ["stream", *OTHERS])
@pytest.mark.parametrize("at", [None, 0])
def test_a_key_of_the_body_counts_for_nobody_beside_it(key: str, at: int | None) -> None:
    second = f'"{key}"'.encode() if at is None else escaped(key, at)
    assert isinstance(parse(with_pair(key, second, False), CHAT), Request)


def test_the_same_key_in_different_objects_is_no_duplicate() -> None:
    inner = body(tools=[{"model": "x", "messages": 1}], metadata={"model": "y", "body": 1, "custom_id": "z"})
    assert isinstance(parse(line(body=inner), CHAT), Request)
    assert isinstance(parse(line(model="outside", messages=[], body=body(custom_id="inside")), CHAT), Request)
    assert isinstance(parse(line(body=body(messages=[{"content": '"model" "model":\\u006d'}])), CHAT), Request)
