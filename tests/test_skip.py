"""on_invalid_line=skip: bad lines fail alone, uncharged, and the others run."""

import json
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.db.models import Sum

from batches import lifecycle, sweeping, tasks, validation
from batches.core.states import Status
from batches.models import Batch, Result, Segment, Slice
from tenants import clock
from tests.conftest import Person, step
from tests.test_engine import Work, numbered
from tests.test_pause import code
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

GOOD = request_line("good", custom_id="good")
TOO_LONG = "x" * 513


def skip(owner: Person, lines: list[Any], **fields: str) -> Batch:
    answer = owner.submit(lines, on_invalid_line="skip", **fields)
    assert answer.status_code == 200, answer.content
    assert answer.json()["on_invalid_line"] == "skip"
    return Batch.objects.get(public_id=answer.json()["id"])


def bad(custom_id: str, **changes: Any) -> dict[str, Any]:
    return {**GOOD, "custom_id": custom_id, **changes}


MIXED: list[tuple[Any, str | None, str]] = [  # a line, the custom_id shown, its code
    (request_line("a", custom_id="a"), "a", ""),
    (b"{", None, "invalid_json_line"),
    (b"\xff\xfe", None, "invalid_json_line"),
    (b"[" * 600 + b"]" * 600, None, "nesting_too_deep"),
    (b'{"custom_id": "huge", "x": "' + b"x" * 11_000_000 + b'"}', None, "line_too_large"),
    (b'{"body": {}}', None, "missing_custom_id"),
    (bad(""), None, "missing_custom_id"),
    (bad(TOO_LONG), None, "invalid_custom_id"),
    (bad("nul\x00"), None, "invalid_custom_id"),
    (b'{"custom_id": "no-body"}', "no-body", "missing_body"),
    (bad("a"), "a", "duplicate_custom_id"),
    (bad("método", method="GET"), "método", "invalid_method"),
    (bad("url", url="/v1/embeddings"), "url", "url_mismatch"),
    (bad("model", body={**GOOD["body"], "model": "nobody"}), "model", "model_not_found"),
    (bad("stream", body={**GOOD["body"], "stream": True}), "stream", "stream_not_supported"),
    (request_line("b", custom_id="b"), "b", ""),
]


def test_bad_lines_fail_alone_and_the_others_run(owner: Person, witness: Witness, work: Work) -> None:
    batch = skip(owner, [line for line, _, _ in MIXED for line in (line, b"")], max_error_rate="0.01")
    work()
    batch.refresh_from_db()
    failed = [error for _, _, error in MIXED if error]
    assert (batch.status, batch.total, batch.completed, batch.failed) == (
        Status.COMPLETED, len(MIXED), 2, len(failed),
    )  # fmt: skip
    assert witness.requests_by_marker() == {"line:a": 1, "line:b": 1}
    output = owner.lines(batch.public_id)
    assert [(line["custom_id"], (line["error"] or {}).get("code", "")) for line in output] == [
        (name, error) for _, name, error in MIXED
    ]
    assert "stands on line 1 already" in output[10]["error"]["message"]
    assert owner.lines(batch.public_id, "errors") == [line for line in output if line["error"]]
    shown = owner.batch(batch.public_id)
    assert {entry["code"] for entry in shown["errors"]["data"]} == set(failed)
    assert sum(shown["errors"]["counts"].values()) == len(failed)
    rows = Result.objects.filter(batch=batch)
    assert list(rows.order_by("line").values_list("line", flat=True)) == list(range(1, 2 * len(MIXED), 2))
    assert sorted(rows.values_list("seq", flat=True)) == list(range(1, len(MIXED) + 1))
    receipts = rows.exclude(error_code="").order_by("line")
    assert [row.custom_id for row in receipts] == [name or "" for _, name, error in MIXED if error]
    assert {(row.attempts, row.cost, row.status_code, row.upstream_id) for row in receipts} == {(0, 0, None, None)}
    assert rows.aggregate(Sum("cost"))["cost__sum"] == batch.cost > 0


def test_skipped_lines_are_served_before_the_others_ran(owner: Person, witness: Witness) -> None:
    batch = skip(owner, [b"{", GOOD])
    step("validating", tasks.validate)
    shown = owner.batch(batch.public_id)
    assert (shown["status"], shown["failed_count"], shown["total_requests"]) == ("in_progress", 1, 2)
    partial = owner.get(f"/v1/batch/{batch.public_id}/output?partial=true")
    assert [json.loads(line)["error"]["code"] for line in partial.streaming_content] == ["invalid_json_line"]


def test_skipped_lines_do_not_count_as_failures_of_the_run(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 10])
    batch = skip(owner, [*[b"{"] * 200, *numbered(200)], max_error_rate="0.1")
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.failed) == (Status.COMPLETED, 200, 200)


def test_where_all_lines_are_bad_the_batch_completes_at_once(owner: Person, witness: Witness, work: Work) -> None:
    batch = skip(owner, [b"{"] * 300)
    step("validating", tasks.validate)
    batch.refresh_from_db()
    assert (batch.status, Segment.objects.count()) == (Status.FINALIZING, 2)
    step("finalizing", tasks.finalize)
    batch.refresh_from_db()
    assert (batch.status, batch.failed, batch.total, batch.cost) == (Status.COMPLETED, 300, 300, 0)
    shown = owner.batch(batch.public_id)
    assert shown["output_file_id"] is None and shown["error_file_id"]
    assert (len(shown["errors"]["data"]), shown["errors"]["counts"]) == (100, {"invalid_json_line": 300})
    assert {line["error"]["code"] for line in owner.lines(batch.public_id)} == {"invalid_json_line"}
    assert not witness.log()


@pytest.mark.parametrize(("content", "expected"), [(b"\x1f\x8b\x08...", "invalid_json_line"), (b" ", "empty_file")])
def test_a_file_that_is_none_still_fails_the_batch(owner: Person, content: bytes, expected: str) -> None:
    batch = skip(owner, [content])
    step("validating", tasks.validate)
    batch.refresh_from_db()
    assert (batch.status, owner.batch(batch.public_id)["errors"]["counts"]) == (Status.FAILED, {expected: 1})
    assert not Result.objects.exists()


def test_a_validation_that_breaks_off_stores_nothing_of_it(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = skip(owner, [*[b"{"] * 600, GOOD])

    def broken(*_: Any, **__: Any) -> None:
        assert Result.objects.count() == 600
        raise OperationalError("the database went away")

    with monkeypatch.context() as patched:
        patched.setattr(Slice.objects, "bulk_create", broken)
        step("validating", tasks.validate)
    batch.refresh_from_db()
    assert (batch.status, batch.failed, Result.objects.count(), Segment.objects.count()) == (
        Status.VALIDATING, 0, 0, 0,
    )  # fmt: skip
    Batch.objects.update(step_until=None)
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.failed, Result.objects.count()) == (Status.COMPLETED, 1, 600, 601)


def test_a_cancel_that_comes_first_wins(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = skip(owner, [b"{", GOOD])
    start = validation._start

    def after_a_cancel(*args: Any) -> bool:
        lifecycle.cancel(batch)
        return start(*args)

    monkeypatch.setattr(validation, "_start", after_a_cancel)
    work()
    batch.refresh_from_db()
    assert (batch.status, batch.failed, Result.objects.count()) == (Status.CANCELLED, 0, 0)
    assert [line["error"]["code"] for line in owner.lines(batch.public_id)] == ["batch_cancelled"] * 2


def test_an_expired_batch_lists_that_it_expired_and_what_was_skipped(owner: Person, witness: Witness) -> None:
    batch = skip(owner, [b"{", GOOD])
    step("validating", tasks.validate)
    Batch.objects.update(deadline=clock.now() - timedelta(seconds=1))
    sweeping.sweep()
    step("finalizing", tasks.finalize)
    shown = owner.batch(batch.public_id)
    assert [entry["code"] for entry in shown["errors"]["data"]] == ["batch_expired", "invalid_json_line"]
    assert shown["errors"]["counts"] == {"batch_expired": 1, "invalid_json_line": 1}
    counts = shown["request_counts"]
    assert (counts["failed"], counts["expired"]) == (1, 1)


def test_a_retry_of_it_skips_too_and_merges_in_order(owner: Person, witness: Witness, work: Work) -> None:
    batch = skip(owner, [b"{", GOOD, bad("good")])
    work()
    again = owner.post(f"/v1/batch/{batch.public_id}/retry").json()
    assert (again["total_requests"], again["on_invalid_line"]) == (2, "skip")
    work()
    lines = owner.lines(again["id"], "output?merged=true")
    assert [(line["custom_id"], line["response"] is not None) for line in lines] == [
        (None, False), ("good", True), ("good", True),  # it is a duplicate no more
    ]  # fmt: skip


def test_many_bad_lines_take_little_memory(owner: Person) -> None:
    batch = skip(owner, [b"{"] * 8_000)
    tracemalloc.start()
    step("validating", tasks.validate)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    batch.refresh_from_db()
    assert (batch.status, Result.objects.count(), batch.last_seq) == (Status.FINALIZING, 8_000, 8_000)
    assert peak < 4 * 1024 * 1024


def test_one_of_two_words(owner: Person) -> None:
    for value in ("", "Skip", "ignore"):
        assert code(owner.submit([GOOD], on_invalid_line=value), 400) == "invalid_on_invalid_line"
    assert owner.submit([GOOD], on_invalid_line="fail").json()["on_invalid_line"] == "fail"
