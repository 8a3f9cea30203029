"""What an answer is worth: the table "Outcomes and money" of DECISIONS.md, row by row, and nothing believed blindly."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.answers import MAX_TEXT, MAX_TOKENS, NO_USAGE, Answer, Usage, Verdict, judge
from batches.core.requests import ENDPOINTS
from tests.core import searched
from tests.core.lines import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES, VALUES

SHAPES: dict[str, dict[str, Any]] = {
    CHAT: {"choices": [{"message": {"role": "assistant", "content": "Hi"}}]},
    COMPLETIONS: {"choices": [{"text": "Hi"}]},
    EMBEDDINGS: {"data": [{"embedding": [0.5]}]},
    RESPONSES: {"output": [{"type": "message"}]},
}
USAGES: dict[str, dict[str, Any]] = {
    CHAT: {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}},
    COMPLETIONS: {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 3}},
    EMBEDDINGS: {"prompt_tokens": 9, "total_tokens": 9},
    RESPONSES: {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 3}},
}
ABSENT = object()


def answer(endpoint: str = CHAT, usage: Any = ABSENT, status: int = 200, **fields: Any) -> Answer:
    """A good answer of `endpoint`, but for its usage; ... leaves it out."""
    content = {**SHAPES[endpoint], "usage": USAGES[endpoint] if usage is ABSENT else usage, **fields}
    return Answer(status, json.dumps({key: value for key, value in content.items() if value is not ...}).encode())


def is_one_line_of_json(body: bytes) -> bool:
    json.loads(body)
    return b"\n" not in body and b"\r" not in body


@pytest.mark.parametrize("status", [200, 201, 299])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_good_answer_is_delivered_and_charged(endpoint: str, status: int) -> None:
    good = answer(endpoint, status=status)
    usage = Usage(9, 0, 0) if endpoint == EMBEDDINGS else Usage(9, 3, 4)
    assert judge(endpoint, good) == Verdict(True, True, status=status, body=good.body, usage=usage)


def usages(value: str) -> list[str]:
    return [f'{{"prompt_tokens":{value},"completion_tokens":2}}', f'{{"prompt_tokens":2,"completion_tokens":{value}}}']


NUMBERS = (
    "-1",
    '"5"',
    "1.5",
    "5.0",
    "1e3",
    "1e30",
    "1e400",
    "1000000001",
    "9" * 25,
    "9" * 5000,
    "true",
    "[]",
    "{}",
    '""',
)
SENSELESS = [usage for number in NUMBERS for usage in usages(number)] + [
    "null", "[]", "{}", "5", '"text"', "true", '{"completion_tokens":5}', '{"total_tokens":5}',
    '{"prompt_tokens":null,"completion_tokens":5}', '{"prompt_tokens":2,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":"x"}}',
]  # fmt: skip


@pytest.mark.parametrize("usage", SENSELESS)
def test_a_senseless_usage_is_delivered_flagged_and_free(usage: str) -> None:
    verdict = judge(CHAT, Answer(200, b'{"choices":[{}],"usage":%b}' % usage.encode()))
    assert (verdict.final, verdict.delivered, verdict.flag, verdict.usage) == (True, True, "usage_missing", NO_USAGE)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_answer_without_usage_is_delivered_flagged_and_free(endpoint: str) -> None:
    verdict = judge(endpoint, answer(endpoint, usage=...))
    assert (verdict.final, verdict.delivered, verdict.flag, verdict.usage) == (True, True, "usage_missing", NO_USAGE)


@pytest.mark.parametrize("endpoint", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("usage", [{"prompt_tokens": 5}, {"prompt_tokens": 5, "completion_tokens": None}])
def test_a_completion_that_does_not_say_what_it_made_is_flagged(endpoint: str, usage: dict[str, Any]) -> None:
    assert judge(endpoint, answer(endpoint, usage=usage)).flag == "usage_missing"


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        (None, 0),
        ({}, 0),
        ({"cached_tokens": None}, 0),
        ({"cached_tokens": -5}, 0),
        ({"cached_tokens": 10**12}, 9),
        ({"cached_tokens": 9}, 9),
    ],
)
def test_cached_tokens_are_clamped_to_the_prompt(details: Any, cached: int) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": details, "total_tokens": -77}
    verdict = judge(CHAT, answer(usage=usage))
    assert (verdict.usage, verdict.flag) == (Usage(9, cached, 1), "")


def test_tokens_are_believed_up_to_a_limit() -> None:
    for taken, made in ((MAX_TOKENS, 0), (1, MAX_TOKENS), (0, 0)):
        assert judge(CHAT, answer(usage={"prompt_tokens": taken, "completion_tokens": made})).usage == (taken, 0, made)
    for taken, made in ((MAX_TOKENS + 1, 0), (1, MAX_TOKENS + 1)):
        assert judge(CHAT, answer(usage={"prompt_tokens": taken, "completion_tokens": made})).flag == "usage_missing"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"null", b"[]", b"5", b'"text"', b"{}", b"<html>502</html>", b'{"error":{"message":"no"}}',
        b'{"choices":null,"data":null,"output":null}', b'{"choices":[],"data":[],"output":[]}',
        b'{"choices":{},"data":{},"output":{}}', b'{"choices":"x","data":"x","output":"x"}', b'data: {"choices":[{}]}',
        b'{"choices":[{}],"data":[{}],"output":[{}]', b'{"choices":[{}],"data":[{}],"output":[{}]}}',
        b'{"choices":[{"a":NaN}],"data":[{"a":NaN}],"output":[{"a":NaN}]}', b'{"choices":[{"a":"\xff"}],"data":[{"a":"\xff"}],"output":[{"a":"\xff"}]}',
        b'{"choices":[{"a":"a\nb"}],"data":[{"a":"a\nb"}],"output":[{"a":"a\nb"}]}', b'\xef\xbb\xbf{"choices":[{}],"data":[{}],"output":[{}]}',
    ],
)  # fmt: skip
def test_a_2xx_that_is_no_answer_is_tried_again(endpoint: str, body: bytes) -> None:
    assert judge(endpoint, Answer(200, body)) == Verdict(final=False, code="invalid_upstream_response")


OBJECTS = {CHAT: "chat.completion", COMPLETIONS: "text_completion", EMBEDDINGS: "list", RESPONSES: "response"}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("other", ENDPOINTS)
def test_the_answer_of_another_endpoint_is_none(endpoint: str, other: str) -> None:
    named, unnamed = answer(other, object=OBJECTS[other]), answer(other)
    assert judge(endpoint, named).delivered == (endpoint == other)
    alike = {endpoint, other} <= {CHAT, COMPLETIONS}
    assert judge(endpoint, unnamed).delivered == (endpoint == other or alike)
    assert judge(endpoint, answer(endpoint, object=OBJECTS[other])).delivered == (endpoint == other)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_object_of_a_servers_own_is_no_reason_to_refuse(endpoint: str) -> None:
    own: list[Any] = ["odd", None, 5, {}, ["list"], "chat.completion.v2"]
    assert all(judge(endpoint, answer(endpoint, object=name)).delivered for name in own)
    for name in ("error", "chat.completion.chunk"):
        assert not judge(endpoint, answer(endpoint, object=name)).delivered


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_every_truncation_of_an_answer_is_tried_again(endpoint: str) -> None:
    whole = answer(endpoint).body
    for end in range(len(whole)):
        assert judge(endpoint, Answer(200, whole[:end])).code == "invalid_upstream_response"


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("item", ["null", "5", '"x"', "[]"])
def test_a_list_of_no_objects_is_not_the_endpoints_shape(endpoint: str, item: str) -> None:
    name = next(iter(SHAPES[endpoint]))
    body = f'{{"{name}":[{item}],"usage":{json.dumps(USAGES[endpoint])}}}'
    assert not judge(endpoint, Answer(200, body.encode())).delivered


@pytest.mark.parametrize("code", ["upstream_unreachable", "request_timeout", "invalid_upstream_response"])
@pytest.mark.parametrize("unsent", [False, True])
def test_no_answer_is_tried_again_and_never_charged(code: str, unsent: bool) -> None:
    verdict = judge(CHAT, Answer(0, b"", error=code, unsent=unsent))
    assert verdict == Verdict(final=False, code=code, cools=unsent)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 529, 599])
def test_a_passing_failure_is_tried_again_with_its_status_and_body(status: int) -> None:
    verdict = judge(CHAT, Answer(status, b'{"error": 1}', retry_after="3"))
    assert verdict == Verdict(final=False, status=status, body=b'{"error": 1}')


@pytest.mark.parametrize("status", [401, 403])
def test_an_upstream_that_refuses_us_cools(status: int) -> None:
    assert judge(CHAT, Answer(status, b"{}")) == Verdict(final=False, status=status, body=b"{}", cools=True)


@pytest.mark.parametrize("status", [400, 402, 404, 405, 409, 410, 413, 415, 418, 422, 451, 499, 501, 505])
def test_any_other_4xx_and_what_is_not_implemented_is_final(status: int) -> None:
    assert judge(CHAT, Answer(status, b'{"error":1}')) == Verdict(final=True, status=status, body=b'{"error":1}')


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_a_redirect_is_not_followed(status: int) -> None:
    assert judge(CHAT, answer(status=status)) == Verdict(final=True, code="upstream_redirect")


def test_nothing_but_a_2xx_is_delivered_or_charged() -> None:
    for status in (*range(100, 200), *range(300, 1000)):
        verdict = judge(CHAT, answer(status=status))
        assert (verdict.delivered, verdict.usage, verdict.flag) == (False, NO_USAGE, "")


PRETTY = b'{\r\n\t"choices" : [ { "text" : "a\\nb \\u00e9 \\/ \xe2\x80\xa8", "n" : [1.0, 1e400, -0, 10000000000000000000001] } ],\n "a" : {} , "a" : 1 }\n'


def exact(body: bytes) -> Any:
    """The JSON with its numbers as they are written, and its pairs as they stand."""
    return json.loads(body, parse_int=str, parse_float=str, object_pairs_hook=list)


@pytest.mark.parametrize("status", [200, 400, 503])
def test_a_pretty_printed_body_becomes_one_line_of_the_same_json(status: int) -> None:
    body = judge(CHAT, Answer(status, PRETTY)).body
    assert is_one_line_of_json(body)
    assert exact(body) == exact(PRETTY)
    assert b'"a\\nb \\u00e9 \\/ \xe2\x80\xa8"' in body


@given(VALUES, st.sampled_from([None, 0, 2]), st.sampled_from(ENDPOINTS), st.sampled_from([b"\n", b"\r", b"\r\n"]))
@searched
def test_a_body_is_kept_as_it_is_but_for_line_ends(value: Any, indent: int | None, endpoint: str, end: bytes) -> None:
    content = answer(endpoint, more=value)
    sent = json.dumps(json.loads(content.body), indent=indent, ensure_ascii=False).encode().replace(b"\n", end)
    body = judge(endpoint, Answer(200, sent)).body
    assert is_one_line_of_json(body)
    assert exact(body) == exact(sent)
    assert end in sent or body == sent


@pytest.mark.parametrize("status", [400, 401, 429, 500])
@pytest.mark.parametrize(
    "body", [b"", b"<html>\n</html>", b"\xff\xfe\x00", b'"\xff"', b"{", b"NaN", b"a\r\nb\x00\x1b", b"[" * 9999]
)
def test_a_failure_that_is_not_json_becomes_a_string(status: int, body: bytes) -> None:
    kept = judge(CHAT, Answer(status, body)).body
    assert is_one_line_of_json(kept)
    assert json.loads(kept) == body.decode(errors="replace")


def test_a_failure_of_a_megabyte_of_text_is_cut() -> None:
    kept = judge(CHAT, Answer(500, b"<p>" * (1 << 20))).body
    assert len(json.loads(kept)) == MAX_TEXT
