"""Lines of the output, and bodies with another model: JSON on one line, and nothing else changed."""

import inspect
import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core import answers, requests, states
from batches.core.answers import Answer, Verdict, judge
from batches.core.rendering import MESSAGES, outcome, render, render_never_run, response_id
from batches.core.splicing import replace_model
from tests.core import searched
from tests.core.lines import CHAT, TEXT, VALUES, line

SECRET = "0123456789abcdef" * 2
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=30)


def rendered(custom_id: bytes, verdict: Verdict, number: int = 1) -> dict[str, Any]:
    """The output line as a client reads it: one line, its keys in the documented order."""
    body = render(SECRET, number, custom_id, verdict)
    assert b"\n" not in body
    read: dict[str, Any] = json.loads(body)
    assert list(read) == ["id", "custom_id", "response", "error"]
    return read


@given(PRINTABLE, st.booleans(), VALUES)
@searched
def test_a_custom_id_and_a_body_come_back_exactly(custom_id: str, escaped: bool, value: Any) -> None:
    written = json.dumps(custom_id, ensure_ascii=escaped).encode()
    data = b'{"custom_id" : %b , "body":{"model":"m","messages":[1]}}' % written
    verdict = judge(CHAT, Answer(200, json.dumps({"choices": [{}], "more": value}).encode()))
    read = rendered(requests.custom_id_of(data), verdict)
    assert read["custom_id"] == custom_id
    assert read["response"]["body"] == {"choices": [{}], "more": value}
    assert read["error"] is None
    assert written in render(SECRET, 1, requests.custom_id_of(data), verdict)


@given(
    PRINTABLE | st.sampled_from(['","response":{"status_code":200,', "\\", '"', '\\"']),
    st.booleans(),
    st.integers(100, 599),
)
@searched
def test_a_delivered_line_is_known_by_its_status(custom_id: str, escaped: bool, status: int) -> None:
    written = json.dumps(custom_id, ensure_ascii=escaped).encode()
    body = b'{"custom_id":"x","response":{"status_code":200}}'
    answered = render(SECRET, 1, written, Verdict(True, 200 <= status < 300, status=status, body=body))
    assert outcome(answered).delivered == (200 <= status < 300)
    assert outcome(answered)[:2] == (status, "") and answered[outcome(answered).start :].startswith(body)
    timed_out = outcome(render(SECRET, 1, written, Verdict(True, code="request_timeout")))
    assert timed_out[:2] == (None, "request_timeout")
    assert not outcome(render(SECRET, 1, written, Verdict(True, code="request_timeout"))).delivered
    assert not outcome(render_never_run(SECRET, 1, b"null", "batch_expired")).delivered


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_a_line_with_an_answer(status: int) -> None:
    read = rendered(b'"eval-1"', Verdict(True, status == 200, status=status, body=b'{"a":1}'), 7)
    token = response_id(SECRET, 7)
    assert read == {
        "id": f"resp_{token}",
        "custom_id": "eval-1",
        "response": {"status_code": status, "request_id": f"req_{token}", "body": {"a": 1}},
        "error": None,
    }


def test_a_line_with_an_answer_and_no_body() -> None:
    assert rendered(b'"a"', Verdict(True, status=400))["response"]["body"] is None


@pytest.mark.parametrize("code", sorted(MESSAGES))
def test_a_line_without_an_answer(code: str) -> None:
    read = rendered(b'"a"', Verdict(True, code=code))
    assert read["response"] is None
    assert read["error"] == {"code": code, "message": MESSAGES[code]}
    never = json.loads(render_never_run(SECRET, 1, b'"a"', code))
    assert never == read


def test_every_code_that_can_come_up_has_its_message() -> None:
    judged = set(re.findall(r'code="(\w+)"', inspect.getsource(answers)))
    told = set(re.findall(r"(\w+_\w+)", inspect.getsource(Answer).split("error: str")[1].split("#")[1].split("\n")[0]))
    never_run = {f"batch_{end}" for end in (states.Status.CANCELLED, states.Status.EXPIRED)}
    assert judged | told | never_run <= set(MESSAGES)


def test_whatever_is_judged_final_can_be_rendered() -> None:
    for status in (0, 100, 200, 302, 400, 401, 429, 500):
        for body in (b"", b"<p>\n</p>", b"\xff", b'{"choices":[{}],\r\n"usage":null}'):
            rendered(b'"a"', judge(CHAT, Answer(status, body, error="request_timeout")))


@pytest.mark.parametrize("custom_id", [b'"\xff"', b'"\xed\xa0\x80"', b'{"a": 1}', b"5", b"null", b"[[]]"])
def test_a_custom_id_that_is_no_text_is_not_shown(custom_id: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        requests.custom_id_of(b'{"custom_id":%b,"body":{}}' % custom_id)


def test_ids_are_the_same_each_time_and_no_two_are_equal() -> None:
    ids = {response_id(SECRET, number) for number in range(1, 5001)}
    assert len(ids) == 5000
    assert ids == {response_id(SECRET, number) for number in range(1, 5001)}
    assert not ids & {response_id("other", number) for number in range(1, 5001)}
    assert all(re.fullmatch(r"[0-9a-f]{24}", found) for found in ids)
    assert response_id(SECRET, 50_000_000)


FIELDS = st.dictionaries(TEXT.filter(lambda key: key != "model"), VALUES, max_size=5)


@given(FIELDS, FIELDS, VALUES, TEXT, st.sampled_from([None, 0, 2]), st.booleans())
@searched
def test_another_model_leaves_all_else_as_it_was(
    before: dict[str, Any], after: dict[str, Any], model: Any, name: str, indent: int | None, escaped: bool
) -> None:
    content = {**before, "model": model, **{key: value for key, value in after.items() if key not in before}}
    sent = json.dumps(content, indent=indent, ensure_ascii=escaped).encode()
    replaced = replace_model(sent, name)
    assert list(json.loads(replaced).items()) == list({**content, "model": name}.items())
    for key, value in content.items():
        if key != "model":
            assert json.dumps(value, ensure_ascii=escaped).encode() in replaced or indent is not None


@pytest.mark.parametrize(
    "value",
    [
        b"1.0",
        b"1e400",
        b"-0",
        b"9" * 400,
        b'"\\u00e9\\/"',
        b'{ "model" : "x" , "model" : 2 }',
        b"[ ]",
        '"\u2028é"'.encode(),
    ],
)
def test_the_bytes_of_every_other_value_are_kept(value: bytes) -> None:
    assert replace_model(b'{"a": %b, "model":"m" ,"b":%b }' % (value, value), "x") == (
        b'{"a":%b,"model":"x","b":%b}' % (value, value)
    )


def test_a_body_without_a_model_stays_as_it_is() -> None:
    for body in (b"{}", b'{ "a" : {"model":"m"} }'):
        assert replace_model(body, "x") == body


def test_a_model_written_with_an_escape_is_found() -> None:
    assert replace_model(b'{"m\\u006fdel":"m"}', "x") == b'{"model":"x"}'


def test_of_a_key_that_stands_twice_the_one_that_counts_is_kept() -> None:
    assert json.loads(replace_model(b'{"a":1,"model":"m","a":2}', "x")) == {"a": 2, "model": "x"}


def test_a_line_that_was_taken_can_be_given_another_model() -> None:
    sent = bytes(requests.sendable(line()).body)
    assert json.loads(replace_model(sent, "own"))["model"] == "own"
