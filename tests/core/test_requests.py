"""What a line must be to be run: every fault by its name, and every rule at its edge."""

import inspect
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core import requests
from batches.core.requests import ENDPOINTS, Fault, Request, parse
from tests.core import searched
from tests.core.lines import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, body, line

DEEP = {"messages": json.loads("[" * 512 + "]" * 512)}
TWICE = b'{"custom_id":"a","custom_id":"b","body":{"model":"m","messages":[1]}}'
FAULTS: list[tuple[str, str | None, bytes]] = [
    ("invalid_json_line", None, b"hello"),
    ("invalid_json_line", None, b"["),
    ("invalid_json_line", None, b"[]"),
    ("invalid_json_line", None, b"5"),
    ("invalid_json_line", None, b"null"),
    ("invalid_json_line", None, b'"text"'),
    ("invalid_json_line", None, line()[:-1]),
    ("invalid_json_line", None, line() + b"x"),
    ("invalid_json_line", None, line() + line()),
    ("nesting_too_deep", None, line(body=body(**DEEP))),
    ("missing_custom_id", "custom_id", b"{}"),
    ("missing_custom_id", "custom_id", line(custom_id=...)),
    ("missing_custom_id", "custom_id", line(custom_id="")),
    ("invalid_custom_id", "custom_id", line(custom_id=5)),
    ("invalid_custom_id", "custom_id", line(custom_id=None)),
    ("invalid_custom_id", "custom_id", line(custom_id=["a"])),
    ("missing_body", "body", line(body=...)),
    ("invalid_body", "body", line(body=[])),
    ("invalid_body", "body", line(body=None)),
    ("invalid_body", "body", line(body=json.dumps(body()))),
    ("invalid_body", "body.messages", line(body={"model": "m"})),
    ("invalid_body", "body.messages", line(body=body(messages=None))),
    ("invalid_body", "body.messages", line(body=body(messages=[]))),
    ("invalid_body", "body.messages", line(body=body(messages="Hi"))),
    ("invalid_body", "body.messages", line(body=body(messages={"role": "user"}))),
    ("invalid_method", "method", line(method="GET")),
    ("invalid_method", "method", line(method="post")),
    ("invalid_method", "method", line(method=None)),
    ("invalid_method", "method", line(method=1)),
    ("url_mismatch", "url", line(url=EMBEDDINGS)),
    ("url_mismatch", "url", line(url=CHAT + "/")),
    ("url_mismatch", "url", line(url="https://api.example.com" + CHAT)),
    ("url_mismatch", "url", line(url="")),
    ("url_mismatch", "url", line(url=7)),
    ("missing_model", "body.model", line(body={"messages": [1]})),
    ("missing_model", "body.model", line(body=body(model=""))),
    ("missing_model", "body.model", line(body=body(model=None))),
    ("missing_model", "body.model", line(body=body(model=["m"]))),
    ("stream_not_supported", "body.stream", line(body=body(stream=True))),
    ("stream_not_supported", "body.stream", line(body=body(stream=1))),
    ("stream_not_supported", "body.stream", line(body=body(stream="true"))),
    ("stream_not_supported", "body.stream", line(body=body(stream="false"))),
    ("stream_not_supported", "body.stream", line(body=body(stream={}))),
    ("duplicate_key", "custom_id", TWICE),
]


def fault(data: bytes, endpoint: str = CHAT) -> Fault:
    found = parse(data, endpoint)
    assert isinstance(found, Fault), found
    return found


def good(data: bytes, endpoint: str = CHAT) -> Request:
    found = parse(data, endpoint)
    assert isinstance(found, Request), found
    return found


@pytest.mark.parametrize(("code", "param", "data"), FAULTS)
def test_each_fault_is_called_by_its_name(code: str, param: str | None, data: bytes) -> None:
    found = fault(data)
    assert (found.code, found.param) == (code, param)
    assert found.message.endswith((".", "}"))


def test_no_fault_of_the_code_is_without_an_example() -> None:
    written = set(re.findall(r'Fault\(\s*"(\w+)"', inspect.getsource(requests)))
    assert written <= {code for code, _, _ in FAULTS}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_plain_line_is_taken_with_or_without_method_and_url(endpoint: str) -> None:
    for data in (
        line(endpoint),
        line(endpoint, method=...),
        line(endpoint, url=...),
        line(endpoint, url=..., method=...),
    ):
        assert good(data, endpoint)[:2] == ("a", "m")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("other", ENDPOINTS)
def test_the_url_is_that_of_the_batch(endpoint: str, other: str) -> None:
    data = line(endpoint, url=other)
    if other == endpoint:
        good(data, endpoint)
    else:
        assert fault(data, endpoint).code == "url_mismatch"
        assert endpoint in fault(data, endpoint).message


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        (CHAT, {"messages": [None]}),
        (COMPLETIONS, {"prompt": ""}),
        (COMPLETIONS, {"prompt": [1, 2, 3]}),
        (EMBEDDINGS, {"input": ["a", "b"]}),
        (EMBEDDINGS, {"input": [[1, 2]]}),
        (RESPONSES, {"input": [{"role": "user", "content": "Hi"}]}),
        (RESPONSES, {"input": None, "prompt": {"id": "pmpt_1"}}),
    ],
)
def test_every_shape_of_prompt_the_endpoints_know(endpoint: str, fields: dict[str, Any]) -> None:
    good(line(endpoint, body={"model": "m", **fields}), endpoint)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_body_without_its_prompt_is_refused_by_the_field_it_lacks(endpoint: str) -> None:
    first = {CHAT: "messages", COMPLETIONS: "prompt"}.get(endpoint, "input")
    for fields in ({}, {first: None}, {"text": "Hi"}):
        found = fault(line(endpoint, body={"model": "m", **fields}), endpoint)
        assert (found.code, found.param) == ("invalid_body", f"body.{first}")


@pytest.mark.parametrize("spelling", [b'"stream":false', b'"stream" : null ', b'"stream":\tfalse\t', b'"other":1'])
def test_a_stream_that_is_not_asked_for_is_no_fault(spelling: bytes) -> None:
    good(b'{"custom_id":"a","body":{"model":"m","messages":[1],%b}}' % spelling)


@pytest.mark.parametrize("spelling", [b"true", b"1", b"0", b'"true"', b'""', b"[]", b"{}", b"0.0"])
def test_a_stream_that_is_anything_else_is_refused(spelling: bytes) -> None:
    found = fault(b'{"custom_id":"a","body":{"model":"m","messages":[1],"stream": %b }}' % spelling)
    assert found.code == "stream_not_supported"


def test_a_stream_deeper_down_is_the_tenants_own_business() -> None:
    good(line(body=body(metadata={"stream": True})))


@pytest.mark.parametrize(
    "custom_id",
    [
        "x" * 512,
        "😀" * 512,
        "\U0001f600",
        "a b",
        " ",
        "ключ-1",
        "日本語",
        "☃\ufe0f",
        "../../etc/passwd",
        "<b>",
        '"',
        "\\",
        "'--",
    ],
)
def test_a_custom_id_may_be_any_512_printable_characters(custom_id: str) -> None:
    for written in (json.dumps(custom_id), json.dumps(custom_id, ensure_ascii=False)):
        data = b'{"custom_id":%b,"body":{"model":"m","messages":[1]}}' % written.encode()
        assert good(data).custom_id == custom_id
        assert requests.custom_id_of(data) == written.encode()


@pytest.mark.parametrize(
    "character", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\u200b", "\u2028", "\u2029", "\u202e", "\ufeff"]
)
def test_a_custom_id_holds_nothing_that_does_not_print(character: str) -> None:
    assert fault(line(custom_id=f"a{character}b")).code == "invalid_custom_id"


@pytest.mark.parametrize("custom_id", ["x" * 513, "😀" * 513, "x" * 100_000])
def test_a_custom_id_of_513_characters_is_too_long(custom_id: str) -> None:
    assert fault(line(custom_id=custom_id)).code == "invalid_custom_id"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
@searched
def test_a_custom_id_comes_back_exactly_or_is_refused(custom_id: str) -> None:
    found = parse(line(custom_id=custom_id), CHAT)
    assert isinstance(found, Request) == custom_id.isprintable()
    assert not isinstance(found, Request) or found.custom_id == custom_id
    assert json.loads(requests.custom_id_of(line(custom_id=custom_id))) == custom_id


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9),
        ({"max_tokens": 9_999_999}, 9_999_999),
        ({}, 256),
        ({"max_tokens": None}, 256),
        ({"max_tokens": -1}, 256),
        ({"max_tokens": 1.5}, 256),
        ({"max_tokens": "7"}, 256),
        ({"max_tokens": 10**30}, 256),
    ],
)
def test_the_estimate_is_the_bytes_and_the_most_it_may_answer(fields: dict[str, Any], tokens: int) -> None:
    sent = json.dumps(body(**fields)).encode()
    assert good(line(body=body(**fields))).tokens == len(sent) // 4 + 1 + tokens


@pytest.mark.parametrize(
    ("endpoint", "fields", "choices", "limit"),
    [
        (CHAT, {"n": 3, "max_tokens": 7}, 3, 21),
        (CHAT, {"n": 3}, 3, None),
        (CHAT, {"n": None, "best_of": None, "max_tokens": 7}, 1, 7),
        (CHAT, {"n": 0, "max_tokens": 7}, 1, 7),
        (CHAT, {"n": "3", "max_tokens": 7}, 1, 7),
        (CHAT, {"n": 9_999_999, "max_tokens": 9_999_999}, 9_999_999, None),
        (CHAT, {"max_completion_tokens": None, "max_tokens": 7}, 1, 7),
        (CHAT, {"max_output_tokens": 7}, 1, None),
        (COMPLETIONS, {"best_of": 4, "n": 2, "max_tokens": 5}, 4, 20),
        (COMPLETIONS, {"prompt": ["a", "b"], "n": 2, "max_tokens": 5}, 4, 20),
        (COMPLETIONS, {"prompt": [[1, 2], [3]], "max_tokens": 5}, 2, 10),
        (COMPLETIONS, {"prompt": [1, 2, 3], "max_tokens": 5}, 1, 5),
        (COMPLETIONS, {"prompt": [], "max_tokens": 5}, 1, 5),
        (COMPLETIONS, {"max_completion_tokens": 5}, 1, None),
        (RESPONSES, {"n": 2, "max_output_tokens": 5, "max_tokens": 7}, 1, 5),
        (EMBEDDINGS, {"input": ["a", "b"]}, 0, 0),
    ],
)
def test_what_it_asks_for(endpoint: str, fields: dict[str, Any], choices: int, limit: int | None) -> None:
    found = good(line(endpoint, body=body(endpoint, **fields)), endpoint)
    assert (found.choices, found.limit) == (choices, limit)
    assert found.tokens < 1 << 31


@pytest.mark.parametrize("key", ["n", "best_of"])
def test_what_the_cost_hangs_on_stands_once(key: str) -> None:
    found = parse(
        b'{"custom_id":"a","body":{"model":"m","messages":[1],"%b":1,"%b":2}}' % (key.encode(), key.encode()), CHAT
    )
    assert isinstance(found, Fault)
    assert found.code == "duplicate_key"


def test_an_embedding_makes_no_output() -> None:
    assert good(line(EMBEDDINGS, body=body(EMBEDDINGS, max_tokens=500)), EMBEDDINGS).tokens < 30


def test_the_prefix_begins_with_the_tools_and_then_the_prompt() -> None:
    found = good(b'{"custom_id":"a","body":{"messages":[ 1],"model":"m","tools":[{"x": 1}]}}')
    assert found.prefix == b'[{"x": 1}][ 1]'
    said = good(b'{"custom_id":"a","body":{"input":"in","model":"m","instructions":"do"}}', RESPONSES)
    assert said.prefix == b'"do""in"'
