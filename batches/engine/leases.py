"""Who runs what: runners' own leases, and the claims of slices. The database is the only judge.

A claim is one compare-and-set with a fresh token; every later write says `lease_token = mine`. Attempts are counted
in the claim, before anything is sent.
"""

import json
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import F, Q

from batches import identity, life, measures, tasks
from batches.core.scheduling import corrected, ranked, virtual_times, weights
from batches.core.states import ACTIVE, Status
from batches.engine import standing
from batches.models import Batch, Permit, Runner, Slice
from tenants import clock

LEASE = timedelta(seconds=30)
HEARTBEAT = 5.0  # seconds
CLAIMED_AT_ONCE = 16  # slices in one transaction
SUSPECT_AFTER = 2  # runners that a slice lost in a row, without a commit between


@dataclass(eq=False)
class Claim:
    """A slice that this runner holds, with what it needs to run it."""

    slice: int
    batch: int
    token: str
    tenant: int
    model: str
    plan_key: str
    offset: int
    length: int
    lines: int
    entries: bytes
    tokens: int
    virtual: float  # where its tenant stands after it: core/scheduling.py
    endpoint: str
    secret: str
    rates: str
    suspect: bool = False  # engine/suspects.py
    sole: tuple[int, int] = (0, 0)  # its line that was last sent alone, and how often since a commit of it
    carried: dict[int, tuple[int, float]] = field(default_factory=dict)  # line -> attempts, not before (unix time)
    named: tuple[str, str] = ("", "")  # its batch and tenant, by their public ids


def register() -> Runner:
    """A row for this runner: from now on it is alive for one lease."""
    now = clock.now()
    return Runner.objects.create(
        token=secrets.token_hex(16),
        host=identity.HOST,
        pid=os.getpid(),
        started_ticks=identity.own_start(),
        created_at=now,
        lease_until=now + LEASE,
    )


def heartbeat(runner: Runner, claims: Iterable[Claim]) -> set[int] | None:
    """Renew the runner's lease and its slices'; the slices that are still its own.

    None when it was too late: others may have its slots and slices already.
    """
    now = clock.now()
    until = now + LEASE
    tokens = {claim.token for claim in claims}
    with transaction.atomic():
        if not Runner.objects.filter(pk=runner.pk, lease_until__gt=now).update(lease_until=until):
            return None
        mine = Slice.objects.filter(runner=runner, state=Slice.State.LEASED, lease_token__in=tokens)
        kept = set(mine.values_list("pk", flat=True))
        Slice.objects.filter(pk__in=kept, lease_token__in=tokens).update(lease_until=until)
    return kept


def hand_over(runner: Runner) -> None:
    """It sends nothing new from here on: a successor may take its place at once."""
    Runner.objects.filter(pk=runner.pk).update(draining=True)
    tasks.ring_work()


def unregister(runner: Runner) -> None:
    """Give back every permit; slices that are still leased to it are free at once."""
    with transaction.atomic():
        Slice.objects.filter(runner=runner, state=Slice.State.LEASED).update(
            state=Slice.State.WAITING, lease_token="", lease_until=None, runner=None, not_before=None
        )
        Runner.objects.filter(pk=runner.pk).delete()


def live_runners(host: str | None = None) -> int:
    """How many runners hold a lease and send, on one host or on all."""
    rows = Runner.objects.filter(lease_until__gt=clock.now(), draining=False)
    return (rows.filter(host=host) if host else rows).count()


def bury(host: str, alive: Callable[[int, int], bool]) -> int:
    """End at once the leases of runners and steps on `host` whose process is gone, and ring; returns how many."""
    dead = [row for row in Runner.objects.filter(host=host) if not alive(row.pid, row.started_ticks)]
    for runner in dead:
        unregister(runner)
    if dead:
        tasks.ring_work()
    return len(dead) + _bury_steps(host, alive)


def _bury_steps(host: str, alive: Callable[[int, int], bool]) -> int:
    buried = 0
    steps = Batch.objects.filter(status__in=ACTIVE, step_token__startswith=f"{host}/")
    for pk, status, token in steps.values_list("pk", "status", "step_token"):
        _, pid, ticks, _ = token.rsplit("/", 3)
        if not alive(int(pid), int(ticks)):
            Batch.objects.filter(pk=pk, step_token=token).update(step_token="", step_until=None)
            tasks.ring_step(pk, status)
            buried += 1
    return buried


def bury_expired() -> int:
    """Remove runners whose lease ran out, with their permits; their slices expired with them."""
    dead = Runner.objects.filter(lease_until__lt=clock.now())
    Permit.objects.filter(runner__in=dead).delete()
    return dead.delete()[0]


def claimable(now: datetime, suspects: bool | None = None) -> Q:
    """Slices that may be claimed: waiting ones, and those whose lease ran out; all, only suspects, or no suspects."""
    due = Q(not_before=None) | Q(not_before__lte=now)
    waiting = Q(state=Slice.State.WAITING) & due
    found = waiting | Q(state=Slice.State.LEASED, lease_until__lt=now)
    if suspects is None:
        return found
    return found & (Q(attempts__gte=SUSPECT_AFTER) if suspects else Q(attempts__lt=SUSPECT_AFTER))


def claim(runner: Runner, wanted: Q, lines: int, suspects: bool = False) -> list[Claim]:
    """Claim the slices whose turn it is among `wanted`, until they hold at least `lines` lines or there are no more.

    Suspects are claimed by themselves: engine/suspects.py.
    """
    now = clock.now()
    candidates = standing.candidates(wanted, claimable(now, suspects), now)
    if not candidates:
        return []
    model = Slice.objects.filter(batch=candidates[0].batch).filter(wanted).values_list("model", flat=True)[0]
    load = standing.load(model, {candidate.tenant for candidate in candidates})
    weight = weights(candidates, load)
    virtual = virtual_times(candidates, weight, *standing.served(model, list(weight)))
    claims: list[Claim] = []
    while candidates and lines > 0:
        best = ranked(candidates, load, virtual)[0]
        stand = (virtual[best.tenant], weight[best.tenant])
        alone = len(candidates) == 1  # nobody else's turn can come between
        found = _claim_next(runner, best.batch, wanted, stand, suspects, lines if alone else 1)
        if not found:
            candidates.remove(best)
            continue
        claims += found
        virtual[best.tenant] = max(virtual[best.tenant], found[-1].virtual)
        lines -= sum(claimed.lines for claimed in found)
    if claims:
        measures.CLAIMED.labels(model).inc(len(claims))
    return claims


def _claim_next(
    runner: Runner, batch_pk: int, wanted: Q, stand: tuple[float, float], suspects: bool = False, lines: int = 1
) -> list[Claim]:
    """Claim the batch's next open slices until they hold `lines` lines, under the batch's lock, so that a cancel sees
    either all of it or nothing."""
    claims: list[Claim] = []
    virtual, weight = stand
    with transaction.atomic():
        rows = Batch.objects.select_for_update(no_key=True, of=("self",)).select_related("tenant")
        batch = rows.get(pk=batch_pk)
        if batch.status != Status.IN_PROGRESS or batch.paused_reason:
            return []
        first = not (batch.last_result_at or Slice.objects.filter(batch=batch, virtual__isnull=False).exists())
        now = clock.now()
        open_ = claimable(now, suspects)
        for row in Slice.objects.filter(open_, wanted, batch=batch).order_by("index")[: min(lines, CLAIMED_AT_ONCE)]:
            row.virtual = virtual = _tag(batch, row, virtual, weight)
            token = take(runner, row, open_, now + LEASE)
            if token:
                claims.append(as_claim(batch, row, token))
            lines -= row.lines
            if lines <= 0:
                break
        if first and claims:
            life.started(batch)
    return claims


def take(runner: Runner, row: Slice, open_: Q, until: datetime) -> str:
    """The token of a fresh lease on it; empty when it is not open any more."""
    token = secrets.token_hex(16)
    claimed = Slice.objects.filter(open_, pk=row.pk).update(
        state=Slice.State.LEASED,
        lease_token=token,
        lease_until=until,
        runner=runner,
        attempts=F("attempts") + 1,
        not_before=None,
        virtual=row.virtual,
    )
    return token if claimed else ""


def _tag(batch: Batch, row: Slice, virtual: float, weight: float) -> float:
    """Where the tenant stands after this slice. One that was claimed before keeps its tag: it is counted once."""
    if row.virtual is not None:
        return row.virtual
    last = Slice.objects.filter(model=row.model, tenant=row.tenant_id, virtual__gt=virtual)
    start = last.order_by("-virtual").values_list("virtual", flat=True).first() or virtual
    used = batch.input_tokens + batch.output_tokens
    completed = batch.completed if batch.model else 0  # a mean over several models says nothing of one
    return start + corrected(row.tokens, row.lines, completed, used) / weight


def as_claim(batch: Batch, row: Slice, token: str) -> Claim:
    """What a runner needs to run a slice that it has leased."""
    carried = {line: (attempts, moment) for line, attempts, moment in json.loads(row.carried or "[]")}
    return Claim(
        slice=row.pk,
        batch=batch.pk,
        token=token,
        tenant=batch.tenant_id,
        model=row.model,
        plan_key=batch.plan_key,
        offset=row.offset,
        length=row.length,
        lines=row.lines,
        entries=bytes(row.entries),
        tokens=row.tokens,
        virtual=row.virtual or 0.0,
        endpoint=batch.endpoint,
        secret=batch.secret,
        rates=batch.rates,
        suspect=row.attempts >= SUSPECT_AFTER,
        sole=(row.sole_line, row.sole_sends),
        carried=carried,
        named=(batch.public_id, batch.tenant.public_id),
    )


def finished_lines(batch: int, lines: list[int]) -> set[int]:
    """Which of these lines have a result already. In SQL: the ORM spends 15 µs a number on such a list."""
    if not lines:
        return set()
    marks = ", ".join(["%s"] * len(lines))
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT line FROM batches_result WHERE batch_id = %s AND line IN ({marks})", [batch, *lines])
        return {line for (line,) in cursor.fetchall()}


def finish(claim_: Claim) -> None:
    """Every line of the slice has a result: nothing is left to run."""
    Slice.objects.filter(pk=claim_.slice, lease_token=claim_.token).update(state=Slice.State.DONE)


def accuse(claim_: Claim, line: int) -> int:
    """Write down that `line` is about to be in flight alone; how often it was, now included. 0: the slice was lost."""
    last, before = claim_.sole
    sends = before + 1 if line == last else 1
    mine = Slice.objects.filter(pk=claim_.slice, lease_token=claim_.token)
    return sends if mine.update(sole_line=line, sole_sends=sends) else 0


def note_wait(claim_: Claim, until: datetime) -> None:
    """Every line left of a slice in hand waits until then: for those who ask why it stands still."""
    Slice.objects.filter(pk=claim_.slice, lease_token=claim_.token).update(not_before=until)


def release(claim_: Claim, carried: dict[int, tuple[int, float]], not_before: datetime | None = None) -> bool:
    """Hand a slice back with the attempts of the lines that were tried; False when it is no longer ours.

    A suspect stays one.
    """
    kept = [[line, attempts, moment] for line, (attempts, moment) in carried.items()]
    return bool(
        Slice.objects.filter(pk=claim_.slice, lease_token=claim_.token).update(
            state=Slice.State.WAITING,
            lease_token="",
            lease_until=None,
            runner=None,
            attempts=SUSPECT_AFTER if claim_.suspect else 0,
            not_before=not_before,
            carried=json.dumps(kept) if kept else "",
        )
    )
