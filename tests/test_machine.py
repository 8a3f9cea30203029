"""Any order of create, validate, work, crash, stall, cancel, expire, sweep and finalize, against a small model.

The model is plain: what each line must come to, what was asked of each batch, and which status may follow which.
Hypothesis looks for an order after which the database disagrees.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from django.db.models import Q, Sum
from django_q.models import OrmQ
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batches import metering, objects, sweeping, tasks
from batches.core import states
from batches.core.answers import Usage, Verdict
from batches.core.states import ACTIVE, STEPS, TAKING, TERMINAL, Status
from batches.engine import leases, runner
from batches.engine.commit import commit
from batches.engine.lines import Held, Line
from batches.engine.pump import Outcome
from batches.models import Batch, File, Permit, Result, Runner, Segment, Slice, Upstream
from batches.models import Usage as Metered
from billing.models import LedgerEntry
from tenants import clock
from tenants.models import Tenant
from tests import crashes
from tests.conftest import Person
from tests.test_engine import metered
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

MAX_LINES = 12
POINTS = [*crashes.RUNNING.values(), *crashes.FINALIZING.values(), *crashes.VALIDATING.values()]
BODY = b'{"choices": [{}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'


@dataclass
class Known:
    """What the model knows of a batch."""

    pk: int
    public_id: str
    bad: list[bool]  # of each line, whether its upstream refuses it
    valid: bool
    status: str = Status.VALIDATING
    cancelled: bool = False
    expired: bool = False
    done: set[int] = field(default_factory=set)
    end: Any = None  # its row, once it has ended


@dataclass
class Stalled:
    """A runner that has a slice in hand and sleeps."""

    row: Runner
    batch: int
    lines: list[Line]


def reachable(status: str) -> set[str]:
    """Every status that may follow, and itself."""
    found, waiting = set(), [Status(status)]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += STEPS[each]
    return {each.value for each in found}


class Service(RuleBasedStateMachine):
    owner: ClassVar[Person]
    witness: ClassVar[Witness]
    steps: ClassVar[Counter[str]] = Counter()
    serial: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        for rows in (Metered, Result, Segment, Slice, Permit, Runner, Batch, File, OrmQ):
            rows.objects.all().delete()
        self.batches: list[Known] = []
        self.stalled: list[Stalled] = []

    def pick(self, number: int) -> Known:
        return self.batches[number % len(self.batches)]

    def count(self, name: str) -> None:
        type(self).steps[name] += 1

    # --- what happens ---

    @initialize(sizes=st.lists(st.lists(st.booleans(), min_size=1, max_size=MAX_LINES), min_size=1, max_size=2))
    def begin(self, sizes: list[list[bool]]) -> None:
        for bad in sizes:
            self.create(bad, True)
            self.validate(-1)

    @rule(bad=st.lists(st.booleans(), min_size=1, max_size=MAX_LINES), valid=st.integers(0, 7).map(bool))
    def create(self, bad: list[bool], valid: bool) -> None:
        self.count("create")
        type(self).serial += 1
        lines: list[Any] = [
            request_line(f"{self.serial}-{n}", custom_id=f"line:{n}", faults=["400"] if wrong else [])
            for n, wrong in enumerate(bad)
        ]
        answer = self.owner.submit(lines if valid else [*lines, b"{"])
        assert answer.status_code == 200, answer.content
        batch = Batch.objects.get(public_id=answer.json()["id"])
        self.batches.append(Known(batch.pk, batch.public_id, bad, valid))

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(0, 9))
    def validate(self, number: int) -> None:
        self.count("validate")
        tasks.validate(self.pick(number).pk)

    @rule(results=st.integers(1, 2 * MAX_LINES))
    def work(self, results: int) -> None:
        self.count("work")
        before = Result.objects.count()
        runner.run(stop=lambda: Result.objects.count() >= before + results, idle=0.01)

    @precondition(lambda self: self.batches)
    @rule(point=st.sampled_from(POINTS), call=st.integers(1, 3), buried=st.booleans())
    def crash(self, point: crashes.Point, call: int, buried: bool) -> None:
        """A worker does all there is to do, and may die while it does."""
        pks = [known.pk for known in self.batches]

        def all_there_is() -> None:
            for pk in pks:
                tasks.validate(pk)
            runner.run(stop=lambda: False, idle=0.01)
            for pk in pks:
                tasks.finalize(pk)

        died = crashes.may_die_at(point._replace(call=call), all_there_is)
        self.count("crash" if died else "work to the end")
        if buried:
            crashes.bury()

    @rule(count=st.integers(1, 3))
    def stall(self, count: int) -> None:
        """A runner claims, and sleeps."""
        row = leases.register()
        for claim in leases.claim(row, Q(), count):
            self.count("stall")
            held = Held(claim, ("witness", None))
            data = objects.read(claim.plan_key, claim.offset, claim.length)
            lines = held.read(data, leases.finished_lines(claim.batch, held.numbers()))
            if lines:
                self.stalled.append(Stalled(row, claim.batch, lines))

    @precondition(lambda self: self.stalled)
    @rule(number=st.integers(0, 9), share=st.integers(1, MAX_LINES))
    def wake(self, number: int, share: int) -> None:
        """It hands in what it has: taken exactly for lines without a row, while its batch takes results."""
        self.count("wake")
        asleep = self.stalled.pop(number % len(self.stalled))
        known = next(each for each in self.batches if each.pk == asleep.batch)
        lines = asleep.lines[:share]
        before = Batch.objects.get(pk=asleep.batch)
        new = {line.number for line in lines} - known.done if before.status in TAKING else set()
        commit([self.answer(known, line) for line in lines])
        after = Batch.objects.get(pk=asleep.batch)
        assert after.wasted - before.wasted == len(lines) - len(new)
        assert after.completed + after.failed - before.completed - before.failed == len(new)

    @precondition(lambda self: self.batches)
    @rule(count=st.integers(1, 2), results=st.integers(0, MAX_LINES), share=st.integers(1, 4), cancelled=st.booleans())
    def oversleep(self, count: int, results: int, share: int, cancelled: bool) -> None:
        """It wakes after its lease: others may have done its lines, or its batch is over."""
        self.stall(count)
        self.leases_end(buried=False)
        if cancelled:
            self.cancel(-1)
            self.sweep()
        if results:
            self.work(results)
        for _ in list(self.stalled):
            self.rows_agree()
            self.wake(-1, share)

    def answer(self, known: Known, line: Line) -> Outcome:
        if known.bad[line.number - 1]:
            return Outcome(line, Verdict(final=True, status=400, body=b"{}"), 1, 5)
        return Outcome(line, Verdict(final=True, delivered=True, status=200, body=BODY, usage=Usage(1, 0, 1)), 1, 5)

    @rule(buried=st.booleans())
    def leases_end(self, buried: bool) -> None:
        """Of runners and of steps, by time; or `up` saw their processes die."""
        self.count("leases end")
        past = clock.now() - timedelta(seconds=1)
        Slice.objects.filter(state=Slice.State.LEASED).update(lease_until=past)
        Runner.objects.update(lease_until=past)
        Batch.objects.exclude(step_until=None).update(step_until=past)
        if buried:
            leases.bury_expired()

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        self.count("cancel")
        known = self.pick(number)
        may = known.status in ("validating", "in_progress") or known.cancelled
        answer = self.owner.post(f"/v1/batch/{known.public_id}/cancel")
        assert answer.status_code == (200 if may else 409), (known, answer.content)
        known.cancelled = may

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(0, 9))
    def expire(self, number: int) -> None:
        self.count("expire")
        known = self.pick(number)
        Batch.objects.filter(pk=known.pk).update(deadline=clock.now() - timedelta(seconds=1))
        known.expired = known.expired or known.status in ("validating", "in_progress")
        sweeping.sweep()

    @rule()
    def sweep(self) -> None:
        self.count("sweep")
        sweeping.sweep()

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(0, 9))
    def finalize(self, number: int) -> None:
        self.count("finalize")
        tasks.finalize(self.pick(number).pk)

    # --- what must hold ---

    @invariant()
    def rows_agree(self) -> None:
        for known in self.batches:
            self.agrees(known, Batch.objects.get(pk=known.pk))
        for upstream in Upstream.objects.all():
            live = Permit.objects.filter(upstream=upstream, runner__lease_until__gt=clock.now())
            assert (live.aggregate(slots=Sum("slots"))["slots"] or 0) <= upstream.max_in_flight

    def agrees(self, known: Known, batch: Batch) -> None:
        assert batch.status in reachable(known.status), f"{known.status} became {batch.status}"
        known.status = batch.status
        rows = list(Result.objects.filter(batch=batch).values_list("line", "status_code", "cost"))
        done = {line for line, _, _ in rows}
        assert len(done) == len(rows)
        assert known.done <= done, "a finished line was lost"
        known.done = done
        for line, status, cost in rows:
            assert (status, cost > 0) == ((400, False) if known.bad[line - 1] else (200, True))
        failed = sum(known.bad[line - 1] for line in done)
        assert (batch.completed, batch.failed) == (len(done) - failed, failed)
        assert batch.cost == sum(cost for _, _, cost in rows)
        assert metered(batch) == {name: getattr(batch, name) for name in metering.MEASURES}
        charges = list(
            LedgerEntry.objects.filter(kind="batch_charge", reference=batch.public_id).values_list("amount", flat=True)
        )
        charged = batch.status in TERMINAL and batch.status != Status.FAILED
        assert charges == ([batch.cost] if charged else [])
        if batch.status in TERMINAL:
            self.has_ended(known, batch)

    def has_ended(self, known: Known, batch: Batch) -> None:
        row = {name: value for name, value in vars(batch).items() if name not in ("_state", "wasted", "deadline")}
        if known.end is None:
            known.end = row
            expected = states.ending(known.cancelled, known.expired)
            assert batch.status == (expected if known.valid or known.cancelled or known.expired else Status.FAILED) or (
                batch.status == Status.FAILED and not known.valid
            )
        assert row == known.end, "what has ended has changed"

    def teardown(self) -> None:
        """Whatever happened, a while of undisturbed work ends everything."""
        for _ in range(6):
            self.leases_end(buried=True)
            Batch.objects.filter(status=Status.VALIDATING).update(step_attempts=0)
            sweeping.sweep()
            for known in self.batches:
                tasks.validate(known.pk)
            runner.run(stop=lambda: False, idle=0.01)
            for known in self.batches:
                tasks.finalize(known.pk)
            if not Batch.objects.filter(status__in=ACTIVE).exists():
                break
        sweeping.sweep()
        self.rows_agree()
        for known in self.batches:
            assert known.status in TERMINAL, known
            if known.status != Status.FAILED:
                self.output_agrees(known)
        assert not Slice.objects.exists() and not Segment.objects.exists()

    def output_agrees(self, known: Known) -> None:
        counts = self.owner.batch(known.public_id)["request_counts"]
        assert counts["total"] == sum(counts.values()) - counts["total"]
        lines = self.owner.lines(known.public_id)
        if known.valid:
            assert [line["custom_id"] for line in lines] == [f"line:{n}" for n in range(len(known.bad))]
        never = {line["error"]["code"] for line in lines if line["error"] and not line["response"]}
        assert never <= {f"batch_{known.status}"}


@pytest.mark.parametrize(("examples", "length"), [(4, 15), pytest.param(120, 40, marks=pytest.mark.soak)])
def test_any_order_of_events(
    examples: int, length: int, owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    Tenant.objects.update(batch_limit=10_000, requests_per_minute=1_000_000)
    Upstream.objects.update(max_in_flight=4)
    monkeypatch.setattr("batches.engine.pump.FLUSH_SECONDS", 0.01)
    monkeypatch.setattr("batches.engine.pump.FLUSH_RESULTS", 3)
    Service.owner, Service.witness, Service.steps, Service.serial = owner, witness, Counter(), 0
    quick = settings(
        max_examples=examples, stateful_step_count=length, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), derandomize=examples < 100,
        phases=[Phase.generate] if examples < 100 else [Phase.generate, Phase.shrink],
    )  # fmt: skip
    run_state_machine_as_test(Service, settings=quick)
    print(f"{Service.steps.total()} steps, {Service.serial} batches: {dict(Service.steps)}")
