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
from typing import Any

from django.db import connection, transaction
from django.db.models import F, Min, Q, Sum

from batches import clock, identity, tasks
from batches.core.scheduling import Candidate, ranked
from batches.core.states import ACTIVE, Status
from batches.models import Batch, Permit, Runner, Slice

LEASE = timedelta(seconds=30)
HEARTBEAT = 5.0  # seconds


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
    entries: bytes
    tokens: int
    endpoint: str
    secret: str
    rates: str
    carried: dict[int, tuple[int, float]] = field(default_factory=dict)  # line -> attempts, not before (unix time)


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


def unregister(runner: Runner) -> None:
    """Give back every permit; slices that are still leased to it are free at once."""
    with transaction.atomic():
        Slice.objects.filter(runner=runner, state=Slice.State.LEASED).update(
            state=Slice.State.WAITING, lease_token="", lease_until=None, runner=None
        )
        Runner.objects.filter(pk=runner.pk).delete()


def live_runners(host: str | None = None) -> int:
    """How many runners hold a lease, on one host or on all."""
    rows = Runner.objects.filter(lease_until__gt=clock.now())
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


def claimable(now: datetime) -> Q:
    """Slices that may be claimed: waiting ones, and those whose lease ran out."""
    due = Q(not_before=None) | Q(not_before__lte=now)
    waiting = Q(state=Slice.State.WAITING) & due
    return waiting | Q(state=Slice.State.LEASED, lease_until__lt=now)


def claim(runner: Runner, wanted: Q, lines: int) -> list[Claim]:
    """Claim the fairest slices among `wanted`, until they hold at least `lines` lines or there are no more."""
    now = clock.now()
    open_slices = Slice.objects.filter(
        claimable(now), wanted, batch__status=Status.IN_PROGRESS, tenant__suspended=False
    )
    candidates = _candidates(open_slices, now)
    leased = _leased_tokens(now) if candidates else {}
    claims: list[Claim] = []
    while candidates and lines > 0:
        best = ranked(candidates, leased)[0]
        claimed, count = _claim_next(runner, best.batch, wanted)
        if claimed is None:
            candidates.remove(best)
            continue
        claims.append(claimed)
        leased[best.tenant] = leased.get(best.tenant, 0) + claimed.tokens
        lines -= count
    return claims


def _candidates(open_slices: Any, now: datetime) -> list[Candidate]:
    rows = open_slices.values("batch_id", "tenant_id", "tenant__weight", "batch__deadline").annotate(
        first=Min("index"), work=Min("tokens")
    )
    return [
        Candidate(
            row["batch_id"],
            row["tenant_id"],
            row["tenant__weight"],
            row["work"],
            (row["batch__deadline"] - now).total_seconds(),
        )
        for row in rows
    ]


def _leased_tokens(now: datetime) -> dict[int, int]:
    leased = Slice.objects.filter(state=Slice.State.LEASED, lease_until__gte=now)
    return dict(leased.values_list("tenant_id").annotate(Sum("tokens")))


def _claim_next(runner: Runner, batch_pk: int, wanted: Q) -> tuple[Claim | None, int]:
    """Claim the batch's next open slice under the batch's lock, so that a cancel sees either all of it or nothing."""
    with transaction.atomic():
        batch = Batch.objects.select_for_update(no_key=True).get(pk=batch_pk)
        now = clock.now()
        row = Slice.objects.filter(claimable(now), wanted, batch=batch).order_by("index").first()
        if row is None or batch.status != Status.IN_PROGRESS:
            return None, 0
        token = secrets.token_hex(16)
        claimed = Slice.objects.filter(claimable(now), pk=row.pk).update(
            state=Slice.State.LEASED,
            lease_token=token,
            lease_until=now + LEASE,
            runner=runner,
            attempts=F("attempts") + 1,
            not_before=None,
        )
        if not claimed:
            return None, 0
    return _as_claim(batch, row, token), row.lines


def _as_claim(batch: Batch, row: Slice, token: str) -> Claim:
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
        entries=bytes(row.entries),
        tokens=row.tokens,
        endpoint=batch.endpoint,
        secret=batch.secret,
        rates=batch.rates,
        carried=carried,
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


def release(claim_: Claim, carried: dict[int, tuple[int, float]], not_before: datetime | None = None) -> bool:
    """Hand a slice back with the attempts of the lines that were tried; False when it is no longer ours."""
    kept = [[line, attempts, moment] for line, (attempts, moment) in carried.items()]
    return bool(
        Slice.objects.filter(pk=claim_.slice, lease_token=claim_.token).update(
            state=Slice.State.WAITING,
            lease_token="",
            lease_until=None,
            runner=None,
            attempts=0,
            not_before=not_before,
            carried=json.dumps(kept) if kept else "",
        )
    )
