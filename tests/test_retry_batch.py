"""A retry is a batch of its own, of what another one did not deliver; merged, both are one output."""

import json
import threading
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from batches import files, intake, objects, retries, tasks
from batches.core import causes, rendering
from batches.core.answers import Verdict
from batches.core.states import Status
from batches.models import Batch, File, Upstream
from billing import prices
from billing.models import LedgerEntry
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.core import searched
from tests.test_engine import Work, numbered, when
from tests.test_pause import code, submit
from tests.test_resume import at_once
from tests.witness import Witness, request_line
from tests.witness.faults import lasting

pytestmark = pytest.mark.postgres_first

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
    assert (again.output_expires_after, files.kept_for(again.input_file)) == (None, 30 * 86_400)


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


@pytest.mark.sqlite_first
def test_merged_is_the_output_itself_of_a_batch_that_retries_nothing(
    owner: Person, witness: Witness, work: Work
) -> None:
    batch = ended(owner, work, numbered(2))
    assert owner.lines(batch.public_id, "output?merged=true") == owner.lines(batch.public_id)
    assert owner.batch(batch.public_id)["retry_of"] is None


@pytest.mark.sqlite_first
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


@pytest.mark.sqlite_first
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


@pytest.mark.sqlite_first
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


@pytest.mark.sqlite_first
def test_a_model_that_went_fails_the_retry_alone(owner: Person, witness: Witness, work: Work) -> None:
    batch = cancelled(owner, 1)
    Upstream.objects.all().delete()
    again = retried(owner, batch)
    assert (again.status, "model_not_found" in again.errors) == (Status.FAILED, True)
    assert owner.batch(batch.public_id)["status"] == "cancelled"


@pytest.mark.sqlite_first
def test_custom_ids_of_every_kind_are_told_apart(owner: Person, witness: Witness, work: Work) -> None:
    names = ['"', "\\", '","response":{"status_code":200,', "é" * 512, "\u2028x".strip()]
    lines = [request_line(str(n), custom_id=name, faults=["400"]) for n, name in enumerate(names) if name.isprintable()]
    batch = ended(owner, work, lines)
    assert batch.failed == len(lines) >= 4
    assert retried(owner, batch).total == len(lines)


# --- of some causes alone ---------------------------------------------------------------------------------------------

KINDS: list[list[str]] = [[], ["400"], ["422"], ["301"]]  # delivered, two statuses, and upstream_redirect


def mixed(count: int) -> list[dict[str, Any]]:
    """Lines of each kind in turn; those that fail do so whenever they are asked."""
    return [request_line(str(n), faults=KINDS[n % len(KINDS)]) for n in range(count)]


def retry_some(owner: Person, batch: Batch, *some: str) -> Batch:
    return retried(owner, batch, error_codes=",".join(some))


def bytes_of(batch: Batch) -> bytes:
    return b"".join(objects.chunks(batch.input_file.storage_key))


def ended_again(owner: Person, work: Work, batch: Batch, *some: str) -> Batch:
    again = retry_some(owner, batch, *some) if some else retried(owner, batch)
    work()
    again.refresh_from_db()
    assert again.status == Status.COMPLETED
    return again


def statuses(owner: Person, batch: Batch) -> list[Any]:
    """What the merged output says of each line: a status or a code."""
    lines = owner.lines(batch.public_id, "output?merged=true")
    assert [line["custom_id"] for line in lines] == [str(n) for n in range(len(lines))]
    return [line["response"]["status_code"] if line["response"] else line["error"]["code"] for line in lines]


@pytest.mark.sqlite_first
def test_some_causes_alone_are_retried_and_chains_are_merged(owner: Person, witness: Witness, work: Work) -> None:
    lines = [json.dumps(line).encode() + b" " * (n % 2) for n, line in enumerate(mixed(12))]
    first = ended(owner, work, lines)
    witness.reset()
    redirected = ended_again(owner, work, first, "upstream_redirect")
    assert bytes_of(redirected) == b"".join(lines[n] + b"\n" for n in range(12) if n % 4 == 3)
    assert witness.requests_by_marker() == {f"line:{n}": 1 for n in (3, 7, 11)}
    some = ended_again(owner, work, first, "422", "upstream_redirect")
    assert bytes_of(some) == b"".join(lines[n] + b"\n" for n in range(12) if n % 4 > 1)
    fewer = ended_again(owner, work, some, "422")
    assert bytes_of(fewer) == b"".join(lines[n] + b"\n" for n in range(12) if n % 4 == 2)
    everything = ended_again(owner, work, fewer)
    assert bytes_of(everything) == bytes_of(fewer)
    for batch in (redirected, some, fewer, everything):
        assert statuses(owner, batch) == [200, 400, 422, "upstream_redirect"] * 3
    any_status = ended_again(owner, work, first, "upstream_error")
    assert bytes_of(any_status) == b"".join(lines[n] + b"\n" for n in range(12) if n % 4 in (1, 2))


@pytest.mark.sqlite_first
def test_lines_that_were_never_run_are_a_cause(owner: Person, witness: Witness, work: Work) -> None:
    batch = cancelled(owner, 3)
    assert code(retry(owner, batch, error_codes="429"), 409) == "nothing_to_retry"
    assert stored() == {batch.input_file.storage_key}
    again = ended_again(owner, work, batch, "batch_cancelled")
    assert merged(owner, again) == [(f"line:{n}", True) for n in range(3)]


@pytest.mark.sqlite_only
@pytest.mark.parametrize("named", ["", "429,", "nonsense", "200", "42", "\x00", "é", "request_timeout;429"])
def test_causes_that_there_are_not(owner: Person, witness: Witness, named: str) -> None:
    answer = retry(owner, cancelled(owner, 1), error_codes=named)
    assert code(answer, 400) == "invalid_error_codes" and answer.json()["error"]["param"] == "error_codes"


@pytest.mark.sqlite_only
def test_causes_as_json_and_once_a_key(owner: Person, witness: Witness) -> None:
    batch = cancelled(owner, 1)

    def ask(content: bytes, key: str = "") -> Any:
        headers = {"Authorization": f"Bearer {owner.key}"} | ({"Idempotency-Key": key} if key else {})
        address = f"/v1/batch/{batch.public_id}/retry"
        return owner.client.post(address, content, content_type="application/json", headers=headers)

    for bad in (b"[]", b"{}", b"1", b"[1]", b'["\\ud800"]', b'[["429"]]', b"true", b'"\\ud800"'):
        assert code(ask(b'{"error_codes": %b}' % bad), 400) == "invalid_error_codes"
    first = ask(b'{"error_codes": ["batch_cancelled", "429"]}', "a")
    assert first.status_code == 200
    assert Batch.objects.get(retry_of=batch).retry_causes == "429,batch_cancelled"
    assert ask(b'{"error_codes": ["429", "batch_cancelled"]}', "a").json()["id"] == first.json()["id"]
    assert code(ask(b'{"error_codes": ["batch_cancelled"]}', "a"), 422) == "idempotency_key_reused"
    assert code(ask(b"{}", "a"), 422) == "idempotency_key_reused"
    assert ask(b'{"error_codes": null}', "b").status_code == 200


ENDS = ["200", "400", "429", "request_timeout", "batch_cancelled"]


def output_line(number: int, end: str, run: int) -> bytes:
    """The output line of an input line in the run-th batch of a chain."""
    verdict = Verdict(True, status=int(end), body=b"%d" % run) if end.isdigit() else Verdict(True, code=end)
    return rendering.render("s" * 32, run, b'"%d"' % number, verdict)


@given(st.integers(0, 12), st.lists(st.none() | st.sets(st.sampled_from(ENDS[1:]), min_size=1), max_size=4), st.data())
@searched
def test_any_chain_is_merged_line_by_line(count: int, choices: list[set[str] | None], data: st.DataObject) -> None:
    """Against a model that follows each line by its number."""
    latest = {n: data.draw(st.sampled_from(ENDS)) for n in range(count)}
    shown = {n: output_line(n, end, 0) for n, end in latest.items()}
    original, others = list(shown.values()), list[tuple[causes.Causes | None, Iterator[bytes]]]()
    inside = list(latest)  # the lines of the batch that is retried
    for run, some in enumerate(choices, 1):
        inside = [n for n in inside if latest[n] != "200" and (some is None or latest[n] in some)]
        for n in inside:
            latest[n] = data.draw(st.sampled_from(ENDS))
            shown[n] = output_line(n, latest[n], run)
        others.append((None if some is None else frozenset(some), iter([shown[n] for n in inside])))
    assert [line[:-1] for line in retries._merge(iter(original), others)] == list(shown.values())
    assert not any(list(left) for _, left in others)
