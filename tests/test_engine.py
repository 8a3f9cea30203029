"""The engine against an upstream that witnesses: what it was sent, what is in the output, what was charged."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Q, Sum

from batches import metering, objects, sweeping, tasks
from batches.core.answers import Usage, Verdict
from batches.core.states import Status
from batches.engine import leases, runner
from batches.engine.commit import commit
from batches.engine.lines import Held
from batches.engine.pump import Outcome
from batches.models import Batch, Permit, Result, Runner, Slice, Upstream
from batches.models import Usage as Metered
from billing.models import LedgerEntry
from tenants import clock
from tests.conftest import Person, step
from tests.witness import Witness, request_line
from tests.witness.faults import lasting

Work = Callable[..., None]


def submit(owner: Person, lines: list[Any]) -> Batch:
    answer = owner.submit(lines)
    assert answer.status_code == 200, answer.content
    step("validating", tasks.validate)
    batch = Batch.objects.get(public_id=answer.json()["id"])
    assert batch.status == Status.IN_PROGRESS, batch.errors
    return batch


def charged(batch: Batch) -> int:
    """Pico-USD in the ledger."""
    return int(LedgerEntry.objects.get(kind="batch_charge", reference=batch.public_id).amount)


def ledgers_agree(owner: Person, batch: Batch) -> None:
    """Requests at the upstream are checked by each test; here: output lines = rows, charges = rows = ledger."""
    batch.refresh_from_db()
    output = owner.lines(batch.public_id)
    assert [line["custom_id"] for line in output] == [f"line:{n}" for n in range(batch.total)]
    results = Result.objects.filter(batch=batch)
    assert set(Counter(results.values_list("line", flat=True)).values()) <= {1}
    assert sum(results.values_list("cost", flat=True)) == batch.cost == charged(batch)
    delivered = [line for line in output if (line["response"] or {}).get("status_code") == 200]
    assert len(delivered) == batch.completed
    usages = [line["response"]["body"]["usage"] for line in delivered]
    assert sum(u["prompt_tokens"] * 500_000 + u["completion_tokens"] * 1_000_000 for u in usages) == batch.cost
    assert metered(batch) == {name: getattr(batch, name) for name in metering.MEASURES}


def metered(batch: Batch) -> dict[str, int]:
    """What the tenant's usage has of the batch."""
    found = Metered.objects.filter(batch=batch).aggregate(**{name: Sum(name) for name in metering.MEASURES})
    return {name: int(value or 0) for name, value in found.items()}


def numbered(count: int, **kwargs: Any) -> list[Any]:
    return [request_line(str(n), custom_id=f"line:{n}", **kwargs) for n in range(count)]


def when(results: int, action: Callable[[], object]) -> Callable[[], bool]:
    """A `stop` that is never true, and does `action` once, as soon as so many results are committed."""
    done: list[object] = []

    def stop() -> bool:
        if not done and Result.objects.count() >= results:
            done.append(action())
        return False

    return stop


@pytest.mark.sqlite_only
def test_an_upstream_that_comes_back_is_used_by_the_runner_that_saw_it_go(
    owner: Person, witness: Witness, work: Work
) -> None:
    """Lines that it did not send meanwhile are in nobody's hand: it must not take them for work of its own."""
    witness.configure(latency_ms=[100, 110])
    Upstream.objects.update(max_in_flight=4)
    batch = submit(owner, numbered(40))
    gone: list[bool] = []

    def stop() -> bool:
        if not gone and witness.requests_by_marker():
            gone.append(Upstream.objects.update(enabled=False) == 1)
        elif gone and not Slice.objects.filter(state=Slice.State.LEASED).exists():
            Upstream.objects.update(enabled=True)
        return False

    work(stop=stop, idle=0.8)
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed) == (Status.COMPLETED, 40)
    assert set(witness.requests_by_marker().values()) == {1}


def test_passing_faults_are_retried_and_lasting_ones_fail_alone(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batches.core.retrying.BACKOFF_BASE", 0.2)
    rates = {"500": 0.05, "503": 0.03, "429": 0.05, "reset": 0.03, "html": 0.02, "truncate": 0.03}
    witness.configure(fault_rates=rates, lasting_rates={"400": 0.02}, seed=7)
    batch = submit(owner, numbered(400))
    work()
    ledgers_agree(owner, batch)
    broken = {n for n in range(400) if lasting(f"line:{n}", {"400": 0.02}, 7)}
    assert broken, "the seed makes no lasting fault: the test shows nothing"
    failed = owner.lines(batch.public_id, "errors")
    assert {line["custom_id"] for line in failed} == {f"line:{n}" for n in broken}
    assert {line["response"]["status_code"] for line in failed} == {400}
    assert batch.failed == len(broken)


@pytest.mark.sqlite_first
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("400", 400, None),
        ("404", 404, None),
        ("redirect", None, "upstream_redirect"),
        ("no-usage", 200, None),
        ("usage-negative", 200, None),
        ("usage-string", 200, None),
        ("usage-huge", 200, None),
    ],
)
def test_one_answer_is_enough(owner: Person, witness: Witness, work: Work, fault: str, status: Any, code: Any) -> None:
    batch = submit(owner, numbered(1, faults=[fault]))
    work()
    (line,) = owner.lines(batch.public_id)
    assert (line["response"] or {}).get("status_code") == status
    assert (line["error"] or {}).get("code") == code
    assert witness.requests_by_marker() == {"line:0": 1}
    batch.refresh_from_db()
    assert (batch.cost, batch.completed) == (0, status == 200)
    assert Result.objects.get().flag == ("usage_missing" if status == 200 else "")


@pytest.mark.sqlite_only
def test_a_bad_answer_is_tried_again(owner: Person, witness: Witness, work: Work) -> None:
    faults = [
        "html", "empty", "null", "no-choices", "invalid-json", "nan", "truncate", "truncate-chunked", "reset",
        "reset-headers", "reset-body", "500", "408", "gzip-bomb", "endless",
    ]  # fmt: skip
    lines = [request_line(str(n), custom_id=f"line:{n}", faults=[f"{fault}:1"]) for n, fault in enumerate(faults)]
    batch = submit(owner, lines)
    work()
    ledgers_agree(owner, batch)
    assert batch.completed == len(faults)
    assert set(witness.requests_by_marker().values()) == {2}
    assert set(Result.objects.values_list("attempts", flat=True)) == {2}


@pytest.mark.sqlite_first
@pytest.mark.parametrize("kind", ["llamacpp", "vllm"])
def test_a_chain_of_one_prefix_goes_on_before_another_begins(
    owner: Person, witness: Witness, work: Work, kind: str
) -> None:
    Upstream.objects.update(max_in_flight=1, kind=kind)
    families = [[{"role": "system", "content": letter * 2000}, {"role": "user"}] for letter in "abc"]
    lines = []
    for number in range(12):
        system, user = families[number % 3]
        asked = {**user, "content": f"line:{number}"}
        lines.append(request_line(str(number), custom_id=f"line:{number}", messages=[system, asked]))
    batch = submit(owner, lines)
    work()
    ledgers_agree(owner, batch)
    sent = [int(entry.marker.removeprefix("line:")) for entry in witness.log()]
    assert [number % 3 for number in sent] == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.sqlite_first
def test_the_share_of_cached_prompts_is_told(owner: Person, witness: Witness, work: Work) -> None:
    batch = submit(owner, [*numbered(1, faults=["cached-10"]), *numbered(2)[1:]])
    assert owner.batch(batch.public_id)["prefix_cache"] == {"cached_tokens": 0, "input_tokens": 0, "share": None}
    work()
    found = owner.batch(batch.public_id)["prefix_cache"]
    taken = [line["response"]["body"]["usage"]["prompt_tokens"] for line in owner.lines(batch.public_id)]
    assert found == {"cached_tokens": 10, "input_tokens": sum(taken), "share": round(10 / sum(taken), 4)}


@pytest.mark.sqlite_only
def test_a_dropped_reused_connection_is_no_attempt(owner: Person, witness: Witness, work: Work) -> None:
    Upstream.objects.update(max_in_flight=1)
    batch = submit(owner, [*numbered(1), request_line("1", custom_id="line:1", faults=["drop-reused"])])
    work()
    ledgers_agree(owner, batch)
    assert list(Result.objects.order_by("line").values_list("attempts", flat=True)) == [1, 1]


@pytest.mark.sqlite_first
def test_in_flight_never_exceeds_the_limit(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[20, 30])
    batch = submit(owner, numbered(300))
    work()
    ledgers_agree(owner, batch)
    assert witness.stats()["peak_in_flight"] == 32


@pytest.mark.sqlite_only
def test_retry_after_is_obeyed(owner: Person, witness: Witness, work: Work) -> None:
    submit(owner, numbered(1, faults=["429:1:ra=1"]))
    work()
    first, second = [entry.at for entry in witness.log()]
    assert second - first >= 1


def test_cancel_keeps_what_is_finished_and_sends_nothing_more(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 10])
    batch = submit(owner, numbered(600))
    path = f"/v1/batch/{batch.public_id}/cancel"
    work(stop=when(100, lambda: owner.post(path)))
    ledgers_agree(owner, batch)
    assert batch.status == Status.CANCELLED
    sent = sum(witness.requests_by_marker().values())
    assert 100 <= batch.completed == sent < 600
    never = [line for line in owner.lines(batch.public_id) if line["error"]]
    assert {line["error"]["code"] for line in never} == {"batch_cancelled"}
    shown = owner.batch(batch.public_id)
    assert shown["request_counts"] == {
        "total": 600, "completed": sent, "failed": 0, "cancelled": 600 - sent, "expired": 0
    }  # fmt: skip
    assert owner.post(path).status_code == 200


def test_the_deadline_ends_a_batch(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 10])
    batch = submit(owner, numbered(600))

    def deadline() -> None:
        Batch.objects.update(deadline=clock.now() - timedelta(seconds=1))
        sweeping.sweep()

    work(stop=when(100, deadline))
    ledgers_agree(owner, batch)
    assert batch.status == Status.EXPIRED
    shown = owner.batch(batch.public_id)
    assert (shown["status"], shown["errors"]["data"][0]["code"]) == ("failed", "batch_expired")
    assert shown["request_counts"]["expired"] == 600 - batch.completed


def test_a_graceful_stop_sends_no_line_twice(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 10])
    batch = submit(owner, numbered(600))
    runner.run(stop=lambda: Result.objects.count() >= 100)
    assert 100 <= Result.objects.count() < 600
    assert not Runner.objects.exists() and not Permit.objects.exists()
    assert not Slice.objects.filter(state=Slice.State.LEASED).exists()
    work()
    ledgers_agree(owner, batch)
    assert set(witness.requests_by_marker().values()) == {1}


def test_a_handover_after_its_time_sends_no_line_twice(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[60, 80])
    batch, done = submit(owner, numbered(600)), [0]
    for turn in range(1, 20):
        runner.run(stop=lambda: False, seconds=0.1 * turn)
        done.append(Result.objects.count())
        if len(set(done)) > 3:
            break
    assert len(set(done)) > 2 and done[-1] < 600, f"too few handed over amid the work: {done}"
    work()
    ledgers_agree(owner, batch)
    assert set(witness.requests_by_marker().values()) == {1}


def test_a_stale_runner_may_hand_in_lines_without_a_row_and_nothing_else(owner: Person, witness: Witness) -> None:
    batch = submit(owner, numbered(20))
    stale, other = leases.register(), leases.register()
    old = leases.claim(stale, Q(), 1)[0]
    Slice.objects.filter(pk=old.slice).update(lease_until=clock.now() - timedelta(seconds=1))
    new = leases.claim(other, Q(), 1)[0]
    assert (new.slice, Slice.objects.get(pk=new.slice).attempts) == (old.slice, 2)
    assert leases.heartbeat(stale, [old]) == set()
    assert leases.release(old, {}) is False
    held = Held(old, ("witness", None))
    first, second = held.read(_bytes(batch, old), set())[:2]
    fresh = Held(new, ("witness", None))
    taken = fresh.read(_bytes(batch, new), set())[0]
    commit([_outcome(taken)])
    commit([_outcome(first), _outcome(second)])
    batch.refresh_from_db()
    assert (batch.completed, batch.wasted) == (2, 1)
    assert Slice.objects.get(pk=new.slice).lease_token == new.token


def test_results_after_the_end_are_waste(owner: Person, witness: Witness, work: Work) -> None:
    batch = submit(owner, numbered(2))
    row = leases.register()
    claim = leases.claim(row, Q(), 1)[0]
    lines = Held(claim, ("witness", None)).read(_bytes(batch, claim), set())
    owner.post(f"/v1/batch/{batch.public_id}/cancel")
    leases.unregister(row)
    sweeping.sweep()
    step("finalizing", tasks.finalize)
    commit([_outcome(line) for line in lines])
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.wasted) == (Status.CANCELLED, 0, 2)


def _bytes(batch: Batch, claim: leases.Claim) -> bytes:
    return objects.read(claim.plan_key, claim.offset, claim.length)


def _outcome(line: Any) -> Outcome:
    return Outcome(line, Verdict(final=True, delivered=True, status=200, body=b"{}", usage=Usage(1, 0, 1)), 1, 5)
