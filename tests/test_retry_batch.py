"""A retry is a batch of its own, of what another one did not deliver; merged, both are one output."""

import json
import threading
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from batches import files, intake, objects, retries, tasks
from batches.core.states import Status
from batches.models import Batch, File, Upstream
from billing import prices
from billing.models import LedgerEntry
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.test_engine import Work, numbered, when
from tests.test_pause import code, submit
from tests.test_resume import at_once
from tests.witness import Witness, request_line
from tests.witness.faults import lasting

BROKEN = {"400": 0.3}


def retry(owner: Person, batch: Batch, **fields: str) -> Any:
    return owner.post(f"/v1/batch/{batch.public_id}/retry", fields)


def retried(owner: Person, batch: Batch, **fields: str) -> Batch:
    """A retry that was accepted and validated."""
    answer = retry(owner, batch, **fields)
    assert answer.status_code == 200, answer.content
    assert answer.json()["retry_of"] == batch.public_id
    step("validating", tasks.validate)
    return Batch.objects.get(public_id=answer.json()["id"])


def merged(owner: Person, batch: Batch) -> list[tuple[str, bool]]:
    """The merged output: custom ids, and whether each line was delivered."""
    lines = owner.lines(batch.public_id, "output?merged=true")
    return [(line["custom_id"], (line["response"] or {}).get("status_code") == 200) for line in lines]


def ended(owner: Person, work: Work, lines: list[Any], status: Status = Status.COMPLETED, **fields: str) -> Batch:
    batch = submit(owner, lines, **fields)
    work()
    batch.refresh_from_db()
    assert batch.status == status
    return batch


def cancelled(owner: Person, count: int) -> Batch:
    """A batch of which no line was run."""
    batch = submit(owner, numbered(count))
    owner.post(f"/v1/batch/{batch.public_id}/cancel")
    step("finalizing", tasks.finalize)
    batch.refresh_from_db()
    assert batch.status == Status.CANCELLED
    return batch


def stored(kind: str = "inputs") -> set[str]:
    """The objects there are of this kind."""
    folder = Path(settings.HOME) / "files" / kind
    return {str(path.relative_to(folder.parent)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def empty_storage(transactional_db: None) -> None:
    for key in stored():
        objects.delete(key)


def test_failed_lines_are_run_again_and_delivered_ones_are_not(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(lasting_rates=BROKEN, seed=3)
    broken = [n for n in range(60) if lasting(f"line:{n}", BROKEN, 3)]
    assert 5 < len(broken) < 55, "the seed shows nothing"
    lines = [b" " * (n % 3) + json.dumps(line).encode() + b" \r" * (n % 2) for n, line in enumerate(numbered(60))]
    content = [piece for line in lines for piece in (line, b"", b" \t")]  # blank lines between
    batch = ended(owner, work, content, metadata='{"run": "7"}', max_cost_usd="5", max_error_rate="1")
    before = owner.batch(batch.public_id), owner.lines(batch.public_id)
    witness.reset()
    again = retried(owner, batch)
    assert b"".join(objects.chunks(again.input_file.storage_key)) == b"".join(lines[n] + b"\n" for n in broken)
    assert (again.total, again.input_file.lines, again.metadata) == (len(broken), len(broken), batch.metadata)
    assert (again.max_cost, again.max_error_rate, again.deadline > batch.deadline) == (None, None, True)
    work()
    assert witness.requests_by_marker() == {f"line:{n}": 1 for n in broken}
    assert merged(owner, again) == [(f"line:{n}", True) for n in range(60)]
    assert before == (owner.batch(batch.public_id), owner.lines(batch.public_id))
    again.refresh_from_db()
    charged = dict(LedgerEntry.objects.values_list("reference", "amount"))
    assert charged == {batch.public_id: batch.cost, again.public_id: again.cost} and again.cost > 0


def test_never_run_lines_are_run_and_retries_can_be_retried(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[20, 30], lasting_rates=BROKEN, seed=5)
    first = submit(owner, numbered(1200))
    work(stop=when(100, lambda: owner.post(f"/v1/batch/{first.public_id}/cancel")))
    first.refresh_from_db()
    assert first.status == Status.CANCELLED and first.completed + first.failed < 1200
    second = retried(owner, first, max_error_rate="0.01")
    assert second.total == 1200 - first.completed
    assert second.max_error_rate == 0.01
    work()
    second.refresh_from_db()
    assert second.paused_reason
    owner.post(f"/v1/batch/{second.public_id}/cancel")
    work()
    halfway = merged(owner, second)
    assert [name for name, _ in halfway] == [f"line:{n}" for n in range(1200)]
    second.refresh_from_db()
    assert sum(good for _, good in halfway) == first.completed + second.completed < 1200
    witness.configure(lasting_rates={})
    third = retried(owner, second)
    assert third.total == 1200 - first.completed - second.completed
    work()
    assert merged(owner, third) == [(f"line:{n}", True) for n in range(1200)]
    assert len(owner.lines(third.public_id)) == third.total


def test_a_merged_output_is_streamed_like_others(owner: Person, witness: Witness, work: Work) -> None:
    again = retried(owner, cancelled(owner, 3))
    path = f"/v1/batch/{again.public_id}/output?merged=true"
    assert code(owner.get(path), 409) == "batch_not_complete"
    work()
    plain = owner.get(path)
    body = b"".join(plain.streaming_content)
    assert again.public_id in plain["Content-Disposition"] and "ETag" not in plain
    packed = owner.get(path, **{"Accept-Encoding": "gzip"})
    assert zlib.decompress(b"".join(packed.streaming_content), wbits=31) == body


@pytest.mark.sqlite_only
def test_the_files_of_a_retry_are_kept_as_long_as_the_originals(owner: Person, witness: Witness, work: Work) -> None:
    first = cancelled(owner, 2)
    Batch.objects.update(output_expires_after=7200)
    File.objects.filter(purpose="batch").update(expires_at=first.input_file.created_at + timedelta(hours=1))
    again = retried(owner, first)
    work()
    again.refresh_from_db()
    assert again.output_file and again.output_file.expires_at
    assert files.kept_for(again.output_file) == 7200 and files.kept_for(again.input_file) == 3600
    again = retried(owner, cancelled(owner, 2))
    assert (again.output_expires_after, again.input_file.expires_at) == (None, None)


@pytest.mark.sqlite_only
def test_a_merged_output_of_which_a_file_is_gone(owner: Person, witness: Witness, work: Work) -> None:
    first = cancelled(owner, 3)
    again = retried(owner, first)
    work()
    path = f"/v1/batch/{again.public_id}/output?merged=true"
    assert first.results_file
    file = File.objects.filter(pk=first.results_file.pk)
    file.update(expires_at=clock.now())
    assert code(owner.get(path), 410) == "file_expired"
    file.update(expires_at=None)
    assert len(owner.lines(again.public_id, "output?merged=true")) == 3
    files.delete(owner.tenant, file.get().public_id)
    assert code(owner.get(path), 410) == "file_expired"
    assert len(owner.lines(again.public_id)) == 3


def test_merged_is_the_output_itself_of_a_batch_that_retries_nothing(
    owner: Person, witness: Witness, work: Work
) -> None:
    batch = ended(owner, work, numbered(2))
    assert owner.lines(batch.public_id, "output?merged=true") == owner.lines(batch.public_id)
    assert owner.batch(batch.public_id)["retry_of"] is None


def test_what_was_cancelled_before_it_was_validated_is_retried_whole(
    owner: Person, witness: Witness, work: Work
) -> None:
    huge = b'{"custom_id": "huge", "x": "' + b"x" * 11_000_000 + b'"}'
    answer = owner.submit([*numbered(2), huge, b"{"])
    owner.post(f"/v1/batch/{answer.json()['id']}/cancel")
    work()
    batch = Batch.objects.get()
    again = retried(owner, batch)
    copied, original = (b"".join(objects.chunks(each.input_file.storage_key)) for each in (again, batch))
    assert copied == original
    assert (again.total, again.status, "line_too_large" in again.errors) == (4, Status.FAILED, True)
    assert code(owner.get(f"/v1/batch/{again.public_id}/output?merged=true"), 409) == "batch_failed"
    assert code(retry(owner, again), 409) == "batch_failed"


def test_what_can_not_be_retried(owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = submit(owner, numbered(1))
    assert code(retry(owner, batch), 409) == "batch_not_complete"
    work()
    assert code(retry(owner, batch), 409) == "nothing_to_retry"
    left = cancelled(owner, 1)
    assert code(retry(owner, left, max_cost_usd="0"), 400) == "invalid_max_cost"
    assert code(retry(owner, left, metadata="{}"), 400) == "unsupported_parameter"
    monkeypatch.setattr(retries, "MAX_RETRIES", 0)
    assert code(retry(owner, left), 409) == "too_many_retries"
    monkeypatch.undo()
    objects.delete(left.input_file.storage_key)
    assert code(retry(owner, left), 410) == "file_expired"
    assert stored() == {batch.input_file.storage_key} and File.objects.filter(purpose="batch").count() == 2


def test_a_retry_pays_the_prices_of_its_own_day(owner: Person, witness: Witness, work: Work) -> None:
    batch = cancelled(owner, 1)
    prices.set_price("witness", "3.00", "5.00")
    again = retried(owner, batch)
    work()
    again.refresh_from_db()
    assert (json.loads(batch.rates)["witness"][0], json.loads(again.rates)["witness"][0]) == (5 * 10**11, 15 * 10**11)
    assert again.cost == LedgerEntry.objects.get(reference=again.public_id).amount


def test_two_retries_at_once_where_one_has_room(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both pass the early look; the one that the lock refuses leaves no object behind."""
    batch = cancelled(owner, 3)
    Tenant.objects.update(batch_limit=1)
    looked = threading.Barrier(2)
    monkeypatch.setattr(intake, "check_room", lambda tenant: looked.wait())
    answers = at_once(2, lambda _: retry(owner, batch))
    assert sorted(answer.status_code for answer in answers) == [200, 429]
    assert Batch.objects.filter(retry_of=batch).count() == 1
    assert stored() == set(File.objects.filter(purpose="batch").values_list("storage_key", flat=True))


def test_a_model_that_went_fails_the_retry_alone(owner: Person, witness: Witness, work: Work) -> None:
    batch = cancelled(owner, 1)
    Upstream.objects.all().delete()
    again = retried(owner, batch)
    assert (again.status, "model_not_found" in again.errors) == (Status.FAILED, True)
    assert owner.batch(batch.public_id)["status"] == "cancelled"


def test_custom_ids_of_every_kind_are_told_apart(owner: Person, witness: Witness, work: Work) -> None:
    names = ['"', "\\", '","response":{"status_code":200,', "é" * 512, "\u2028x".strip()]
    lines = [request_line(str(n), custom_id=name, faults=["400"]) for n, name in enumerate(names) if name.isprintable()]
    batch = ended(owner, work, lines)
    assert batch.failed == len(lines) >= 4
    assert retried(owner, batch).total == len(lines)
