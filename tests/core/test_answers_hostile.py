"""An upstream may send anything at all: a verdict is given every time, and money only for plain whole numbers."""

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.answers import MAX_TOKENS, NO_USAGE, Answer, judge
from batches.core.requests import ENDPOINTS
from tests.core import searched
from tests.core.lines import CHAT, VALUES

STATUSES = st.sampled_from([0, 100, 200, 201, 204, 302, 400, 401, 404, 429, 500, 503, 999])
NAMES = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
DETAILS = ("prompt_tokens_details", "input_tokens_details")
COUNTS = st.integers() | st.integers(0, 2 * MAX_TOKENS) | VALUES
USAGE = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(NAMES, COUNTS)
    | {name: VALUES | st.fixed_dictionaries({"cached_tokens": COUNTS}) for name in DETAILS},
)


def check(endpoint: str, answer: Answer) -> None:
    """Whatever it says, the verdict can be rendered as a line, and charges only what may be charged."""
    verdict = judge(endpoint, answer)
    assert not verdict.delivered or (verdict.final and 200 <= answer.status < 300)
    if verdict.body:
        json.loads(verdict.body.decode())
        assert b"\n" not in verdict.body
    assert 0 <= verdict.usage.cached <= verdict.usage.input <= MAX_TOKENS
    assert 0 <= verdict.usage.output <= MAX_TOKENS
    if verdict.flag or not verdict.delivered:
        assert verdict.usage == NO_USAGE


@given(st.sampled_from(ENDPOINTS), STATUSES, st.binary(max_size=200), st.none() | st.text(max_size=20))
@searched
def test_no_bytes_make_it_raise(endpoint: str, status: int, body: bytes, retry_after: str | None) -> None:
    check(endpoint, Answer(status, body, retry_after, error="" if status else "request_timeout"))


@given(st.sampled_from(ENDPOINTS), STATUSES, VALUES, st.sampled_from([None, 1]))
@searched
def test_no_json_makes_it_raise(endpoint: str, status: int, value: Any, indent: int | None) -> None:
    check(
        endpoint, Answer(status, json.dumps(value, indent=indent).encode(), error="" if status else "request_timeout")
    )


@given(st.sampled_from(ENDPOINTS), USAGE | VALUES, VALUES, st.sampled_from([None, 1]))
@searched
def test_no_usage_is_charged_that_is_not_plain_whole_numbers(
    endpoint: str, usage: Any, item: Any, indent: int | None
) -> None:
    content = {"choices": [{"x": item}], "data": [{"x": item}], "output": [{"x": item}], "usage": usage}
    check(endpoint, Answer(200, json.dumps(content, indent=indent, ensure_ascii=False).encode()))


@given(st.sampled_from(ENDPOINTS), st.data())
@searched
def test_no_damage_to_a_good_answer_makes_it_raise(endpoint: str, data: st.DataObject) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "input_tokens": 5, "output_tokens": 2}
    content = bytearray(json.dumps({"choices": [{}], "data": [{}], "output": [{}], "usage": usage}, indent=1).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for status in (200, 400, 503):
        check(endpoint, Answer(status, bytes(content)))


def nested(depth: int, opening: str, closing: str, space: str) -> bytes:
    return f'{{"choices":[{{}}],{space}"more":{opening * depth}1{closing * depth}}}'.encode()


def is_judged(status: int, body: bytes) -> None:
    try:
        verdict = judge(CHAT, Answer(status, body))
    except RecursionError:
        pytest.fail("a RecursionError")
    assert b"\n" not in verdict.body


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_of_any_depth_is_judged(status: int, opening: str, closing: str) -> None:
    for depth in (1, 400, 512, 2_000, 100_000):
        for space in ("", "\n"):
            is_judged(status, nested(depth, opening, closing, space))
            is_judged(status, (opening * depth + space).encode())


def test_nesting_at_the_very_edge_is_judged() -> None:
    for depth in range(sys.getrecursionlimit() - 250, sys.getrecursionlimit()):
        is_judged(200, nested(depth, "[", "]", "\n"))
        is_judged(200, nested(depth, '{"a":', "}", "\n"))
