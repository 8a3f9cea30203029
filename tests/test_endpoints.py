"""The four endpoints from upload to charge: each one's own names of what it took are read, whatever its answer says."""

import logging
from typing import Any

import pytest

from batches.engine import commit
from batches.models import Batch, Result
from tests.conftest import Person
from tests.test_engine import Work
from tests.witness import Witness, request_line
from tests.witness.faults import CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

NAMES = {
    CHAT: ("prompt_tokens", "completion_tokens"),
    COMPLETIONS: ("prompt_tokens", "completion_tokens"),
    EMBEDDINGS: ("prompt_tokens", "completion_tokens"),
    RESPONSES: ("input_tokens", "output_tokens"),
}
EXTRAS: dict[str, dict[str, Any]] = {EMBEDDINGS: {"input": ["line:several", "line:inputs"]}}


def ran(owner: Person, work: Work, lines: dict[str, list[Any]]) -> dict[str, str]:
    batches = {endpoint: owner.submit(some, endpoint=endpoint).json()["id"] for endpoint, some in lines.items()}
    work()
    return batches


def test_what_each_endpoint_reports_is_what_is_charged(owner: Person, witness: Witness, work: Work) -> None:
    lines = {
        endpoint: [
            request_line("a", url=endpoint),
            request_line("b", url=endpoint, faults=["cached-3"]),
            request_line("c", url=endpoint, **EXTRAS.get(endpoint, {})),
        ]
        for endpoint in NAMES
    }
    batches = ran(owner, work, lines)
    for endpoint, batch in batches.items():
        first, second = NAMES[endpoint]
        shown = owner.batch(batch)
        bodies = [line["response"]["body"] for line in owner.lines(batch)]
        rows = Result.objects.filter(batch__public_id=batch).order_by("line")
        assert [(row.input_tokens, row.output_tokens, row.flag) for row in rows] == [
            (body["usage"][first], body["usage"].get(second, 0), "") for body in bodies
        ]
        cached = 0 if endpoint == EMBEDDINGS else 3
        assert [row.cached_tokens for row in rows] == [0, cached, 0]
        taken = sum(row.input_tokens for row in rows)
        made = sum(row.output_tokens for row in rows)
        assert bool(made) == (endpoint != EMBEDDINGS)
        usage = shown["usage"]
        assert (usage["input_tokens"], usage["output_tokens"]) == (taken, made)
        assert usage["input_tokens_details"]["cached_tokens"] == cached
        charge = (taken - cached) * 500_000 + cached * 250_000 + made * 1_000_000
        assert Batch.objects.get(public_id=batch).cost == charge


@pytest.mark.sqlite_only
def test_the_answer_of_another_endpoint_is_not_taken(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"BACKOFF_BASE": 0.01, "MAX_ATTEMPTS": 2, "BUDGET_SHARE": 100.0}.items():
        monkeypatch.setattr(f"batches.core.retrying.{name}", value)
    lines = {endpoint: [request_line("a", url=endpoint, faults=["other-endpoint"])] for endpoint in NAMES}
    for batch in ran(owner, work, lines).values():
        (line,) = owner.lines(batch)
        assert (line["response"], line["error"]["code"]) == (None, "invalid_upstream_response")
        assert owner.batch(batch)["cost"]["usd"] == "0"


def test_several_choices_counted_as_one_are_charged_as_reported_and_flagged(
    owner: Person, witness: Witness, work: Work, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "_told", set())
    witness.configure(tokens=20)  # of 62 characters
    lines = [
        *[request_line(f"l{n}", faults=["choices-3"], n=3) for n in range(6)],
        request_line("one", faults=["choices-1"]),
    ]
    with caplog.at_level(logging.WARNING, "batches.engine.commit"):
        batch = ran(owner, work, {CHAT: lines})[CHAT]
    rows = list(Result.objects.order_by("line"))
    assert [row.flag for row in rows] == ["usage_low"] * 6 + [""]
    assert {(row.output_tokens, row.error_code) for row in rows} == {(20, "")}
    shown = owner.batch(batch)
    assert (shown["completed_count"], shown["usage"]["output_tokens"]) == (7, 140)
    assert Batch.objects.get().cost == sum(row.cost for row in rows) > 0
    assert len(owner.lines(batch)[0]["response"]["body"]["choices"]) == 3
    (told,) = [record.getMessage() for record in caplog.records if record.name == "batches.engine.commit"]
    assert "charged as reported" in told
