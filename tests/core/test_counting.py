"""Several choices and too few tokens: found where it can't be true, and never where it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.answers import Answer, Usage, judge
from tests.core import searched
from tests.core.lines import CHAT, COMPLETIONS, VALUES, body

PROSE = "Birds are a diverse group of animals that fly. "  # 47 characters, about 10 tokens


def choice(endpoint: str, text: Any, reason: str = "stop") -> dict[str, Any]:
    said = {"text": text} if endpoint == COMPLETIONS else {"message": {"role": "assistant", "content": text}}
    return {**said, "finish_reason": reason}


def flag(choices: list[Any], tokens: int, endpoint: str = CHAT, asked: bytes | None = None, **fields: Any) -> str:
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    answer = Answer(200, json.dumps({"choices": choices, "usage": usage}).encode())
    verdict = judge(endpoint, answer, json.dumps(body(endpoint, **fields)).encode() if asked is None else asked)
    assert verdict.delivered and verdict.charged and verdict.usage == Usage(5, 0, tokens)
    return verdict.flag


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_the_tokens_of_one_choice_are_not_those_of_several(endpoint: str) -> None:
    stopped, cut = choice(endpoint, PROSE), choice(endpoint, PROSE, "length")
    assert flag([stopped] * 2, 10, endpoint) == "usage_low"
    assert flag([stopped] * 2, 20, endpoint) == ""
    assert flag([cut] * 2, 12, endpoint, max_tokens=12) == "usage_low"
    assert flag([cut] * 2, 24, endpoint, max_tokens=12) == ""
    assert flag([cut, stopped], 12, endpoint, max_tokens=12) == "usage_low"
    assert flag([cut, stopped], 13, endpoint, max_tokens=12) == ""
    assert flag([cut] * 2, 12, endpoint) == "", "what the limit was is not known"


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
def test_of_one_choice_any_count_may_be_true(endpoint: str) -> None:
    for tokens in (0, 1, 10):
        assert flag([choice(endpoint, PROSE * 99, "length")], tokens, endpoint, max_tokens=100) == ""


def test_choices_of_another_form_say_nothing() -> None:
    call = {"message": {"content": None, "tool_calls": [{"id": "a"}]}, "finish_reason": "tool_calls"}
    parts = {"message": {"content": [{"type": "text", "text": PROSE}]}, "finish_reason": None}
    for other in (call, parts, {}, {"message": None}, {"message": 5}, {"text": 5, "finish_reason": "length"}):
        assert flag([other, other], 1) == ""
    assert flag([choice(CHAT, "")] * 3, 0) == ""
    assert flag([choice(CHAT, "a")] * 3, 2) == "usage_low"


def test_a_request_that_can_not_be_read_has_no_limit() -> None:
    cut = choice(CHAT, "a", "length")
    for asked in (b"", b"null", b"{", b"\xff", b'{"max_tokens": "9"}', b"[" * 100_000):
        assert flag([cut, cut], 2, asked=asked) == ""


@given(
    st.lists(VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(("message", "text", "finish_reason"), VALUES))),
    VALUES,
)
@searched
def test_no_choices_make_it_raise(choices: list[Any], asked: Any) -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    answer = Answer(200, json.dumps({"choices": choices, "usage": usage}).encode())
    assert judge(CHAT, answer, json.dumps(asked).encode()).flag in ("", "usage_low")
