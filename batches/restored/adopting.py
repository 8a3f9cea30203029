"""Ending a batch by the results that a lost state of the database wrote: nothing is sent, all else is as ever.

The stored lines are committed as a runner would commit them: rows, counters, usage and cost at the batch's frozen
prices follow from the answers in them. Then it is finalized: the file must come out the same, byte for byte.
"""

from array import array
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice, zip_longest
from pathlib import Path

from django.db import transaction

from batches import lifecycle, objects, results, sealing, validation
from batches.core import jsonl, rendering, requests
from batches.core.answers import Answer, Verdict, judge
from batches.core.states import CLOSING, Status
from batches.engine import leases
from batches.engine.commit import commit
from batches.engine.committing import GROUP_RESULTS
from batches.engine.lines import Held, Line
from batches.engine.pump import Outcome
from batches.findings import Findings
from batches.models import Batch, Runner, Slice
from batches.restored.finding import Found
from tenants import clock, holding, scope

UNKNOWN = 0  # in place of the upstream's number: no row says which one it was
LEASE = timedelta(minutes=10)
NEVER_RUN = {"batch_cancelled": Status.CANCELLING, "batch_expired": Status.EXPIRING}
_TAIL = len(b'},"error":null}')


class NotAdopted(Exception):
    """The stored results are not what this batch can have come to, or it can't be ended now. Nothing was changed, but
    that it may have been validated."""


class Stored:
    """The lines of a results file, found by their numbers in the input."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._places: dict[int, int] = {}
        self._starts = array("Q", [0])
        self.never_run: Status | None = None  # how the batch ended, where not all was run
        self.to_commit = 0

    def close(self) -> None:
        self._file.close()

    def check(self, batch: Batch) -> None:
        """Each line is of this batch's line, and what is committed of it says the same. Raises NotAdopted."""
        with results.spool(batch) as committed:
            known = {line: index for index, line in enumerate(committed.lines)}
            for asked, line in zip_longest(_input(batch), self._file):
                if asked is None or line is None:
                    raise NotAdopted("it has another number of lines than the batch")
                body = line.rstrip(b"\n")
                self._take(asked, body, rendering.response_id(batch.secret, asked.number))
                if asked.number in known and committed.read(known[asked.number]) != body:
                    raise NotAdopted(f"line {asked.number} was answered otherwise before the backup was made")
                self._count(asked.number in known, rendering.outcome(body))
                self._starts.append(self._starts[-1] + len(line))

    def _take(self, asked: jsonl.Line, body: bytes, token: str) -> None:
        if not body.startswith(b'{"id":"resp_%b",' % token.encode()):
            raise NotAdopted(f"line {asked.number} is not this batch's")
        self._places[asked.number] = len(self._places)

    def _count(self, known: bool, outcome: rendering.Outcome) -> None:
        if outcome.code in NEVER_RUN:
            self.never_run = NEVER_RUN[outcome.code]
        elif not known:
            self.to_commit += 1

    def read(self, number: int) -> bytes:
        place = self._places[number]
        self._file.seek(self._starts[place])
        return self._file.read(self._starts[place + 1] - self._starts[place] - 1)


def _input(batch: Batch) -> Iterator[jsonl.Line]:
    return jsonl.lines(objects.chunks(batch.input_file.storage_key), requests.MAX_LINE)


def adopt(batch: Batch, found: Found, note: Callable[[], object]) -> Batch:
    """End the batch by the stored results; as it is then. `note` is called in the last transaction before it is
    finalized. Raises NotAdopted, OSError."""
    with holding.deciding(), scope.tenant(batch.tenant_id):
        _start(batch)
        batch = Batch.objects.select_related("input_file").get(pk=batch.pk)
        with objects.local(found.key) as path:
            stored = Stored(path)
            try:
                stored.check(batch)
                _replay(batch, stored)
            finally:
                stored.close()
        with transaction.atomic():
            _keep_promise(batch, found.modified)
            _close(batch, stored.never_run)
            note()
        results.finalize(batch.pk)
        sealing.seal(batch.pk)
    return Batch.objects.select_related("results_file", "tenant").get(pk=batch.pk)


def _start(batch: Batch) -> None:
    """Validate it, if that was not done when the backup was made: only where it can't fail."""
    if batch.status != Status.VALIDATING:
        return
    if batch.on_invalid_line == Batch.OnInvalidLine.FAIL:
        findings = Findings()
        checks = validation.Checks(batch.endpoint, set(validation.reachable_models(batch.tenant_id)))
        with objects.local(batch.input_file.storage_key) as path:
            validation.read(path, checks, findings)
        if findings.counts:
            codes = ", ".join(sorted(findings.counts))
            raise NotAdopted(f"it would fail now ({codes}): is an upstream missing that was added since?")
    validation.validate(batch.pk)
    status = Batch.objects.values_list("status", flat=True).get(pk=batch.pk)
    if status not in (Status.IN_PROGRESS, Status.FINALIZING):
        raise NotAdopted(f"it is {status}: try again in half a minute, if that is validating")


def _replay(batch: Batch, stored: Stored) -> None:
    """Commit what is not committed. All is judged once before anything is written."""
    if not stored.to_commit:
        return
    runner = leases.register()
    try:
        helds = list(_in_hand(batch, runner))
        judged = sum(1 for _ in _outcomes(helds, stored))
        if judged != stored.to_commit:
            raise NotAdopted(f"{stored.to_commit - judged} lines are in no slice that is free: try again later")
        outcomes = _outcomes(helds, stored)
        while group := list(islice(outcomes, GROUP_RESULTS)):
            commit(group)
    finally:
        leases.unregister(runner)


def _in_hand(batch: Batch, runner: Runner) -> Iterator[Held]:
    now = clock.now()
    free = leases.claimable(now)
    for row in Slice.objects.filter(batch=batch, state__lt=Slice.State.DONE).order_by("index"):
        row.virtual = row.virtual or 0.0
        anyhow = free | leases.claimable(now + timedelta(days=1))  # also one whose lines all wait
        if token := leases.take(runner, row, anyhow, now + LEASE):
            yield Held(leases.as_claim(batch, row, token), (row.model, None))


def _outcomes(helds: list[Held], stored: Stored) -> Iterator[Outcome]:
    for held in helds:
        yield from _of_slice(held, stored)


def _of_slice(held: Held, stored: Stored) -> Iterator[Outcome]:
    claim = held.claim
    data = objects.read(claim.plan_key, claim.offset, claim.length)
    for line in held.read(data, leases.finished_lines(claim.batch, held.numbers())):
        body = stored.read(line.number)
        if (outcome := rendering.outcome(body)).code in NEVER_RUN:
            continue
        verdict = _verdict(held, line, body, outcome)
        if rendering.render(claim.secret, line.number, line.custom_id, verdict) != body:
            raise NotAdopted(f"line {line.number} is not as this version writes it")
        line.attempts = max(line.attempts, 1)
        yield Outcome(line, verdict, UNKNOWN, 0)


def _verdict(held: Held, line: Line, stored: bytes, outcome: rendering.Outcome) -> Verdict:
    """As the runner judged the answer, whose very bytes the line has."""
    if outcome.status is None:
        if outcome.code not in rendering.MESSAGES:
            raise NotAdopted(f"line {line.number} has an error that no runner gives: {outcome.code!r}")
        return Verdict(final=True, code=outcome.code)
    body = stored[outcome.start : -_TAIL]
    if outcome.delivered:
        return judge(held.endpoint, Answer(outcome.status, body), line.body)
    return Verdict(final=True, status=outcome.status, body=body)


def _keep_promise(batch: Batch, written: datetime) -> None:
    """It ended when its results were written: where that was in time, this later end breaks no promise."""
    if written <= batch.deadline < clock.now():
        Batch.objects.filter(pk=batch.pk).update(held_back=True)


def _close(batch: Batch, ending: Status | None) -> None:
    """Towards its end, if the last commit has not brought it there: it was cancelled, or expired."""
    row = Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
    if row.status == Status.IN_PROGRESS and ending:
        lifecycle.transition(batch.pk, ending)
        row.status = ending
    if row.status in CLOSING:
        lifecycle.finalize_now(batch.pk)
