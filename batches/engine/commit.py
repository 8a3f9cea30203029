"""One transaction a group of results: bodies, rows, counters, slices. The first terminal record of a line wins.

Every commit holds the lock of the batches it writes to (SQLite: the whole database), so "which of these lines have a
result already" and the insert that follows can't be torn apart; the unique constraint stands behind it.
docs/decisions/0003-commit-under-the-batch-lock.md
"""

import logging
import time
from collections import Counter, defaultdict
from datetime import datetime

from django.db import transaction
from django.db.models import F
from msgspec import json

from batches import lifecycle, measures, metering, recording
from batches.core.answers import UNCHARGED
from batches.core.rendering import render
from batches.core.states import CLOSING, TAKING, Status
from batches.engine import leases
from batches.engine.lines import Held
from batches.engine.pump import Outcome
from batches.models import Batch, Slice
from batches.recording import Packed, Record
from billing import money
from tenants import clock, observed

log = logging.getLogger(__name__)

Taken = tuple[str, dict[str, int]]  # a model, and what its lines took
_told: set[int | None] = set()  # upstreams whose low counts were reported by this process


def commit(outcomes: list[Outcome]) -> None:
    """Store a group of results, whole or not at all. Raises django.db.Error; the group can then be handed in again."""
    began = time.time()
    by_batch: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_batch[outcome.line.held.claim.batch].append(outcome)
    taken: list[Taken] = []
    packed = {pk: recording.pack([_record(outcome) for outcome in some]) for pk, some in by_batch.items()}
    # on SQLite this is the only writer's lock: nothing is worked out under it
    with measures.COMMITS.time(), transaction.atomic():
        locked = Batch.objects.select_for_update(no_key=True).filter(pk__in=by_batch).order_by("pk")
        batches = {batch.pk: batch for batch in locked}
        now = clock.now()
        for pk in sorted(by_batch):
            if pk in batches:
                name, tenant = by_batch[pk][0].line.held.claim.named
                with observed.within(batch=name, tenant=tenant):
                    taken += _commit_batch(batches[pk], by_batch[pk], packed[pk], now)
    for batch in batches.values():
        observed.done("commit", batch.public_id, began, {"results": len(by_batch[batch.pk])})
    measures.committed(taken, len(outcomes))
    paused = {pk for pk, batch in batches.items() if batch.paused_reason}
    for outcome in outcomes:
        held = outcome.line.held
        held.open -= 1
        held.carried.pop(outcome.line.number, None)
        held.stopped = held.stopped or held.claim.batch in paused


def _commit_batch(batch: Batch, outcomes: list[Outcome], packed: Packed, now: datetime) -> list[Taken]:
    stranger = batch.secret != outcomes[0].line.held.claim.secret  # the database was restored: it has that number anew
    if stranger or batch.status not in TAKING:
        Batch.objects.filter(pk=batch.pk).update(wasted=F("wasted") + len(outcomes))
        return []
    known = leases.finished_lines(batch.pk, [outcome.line.number for outcome in outcomes])
    fresh = {record.line: record for record in packed.records if record.line not in known}
    if len(fresh) < len(outcomes):
        packed = recording.pack(list(fresh.values()))
    if fresh:
        recording.record(batch, packed, now)
        _report_flagged(batch, packed.records)
    taken = metering.measured(packed.records)
    _count(batch, taken, now, stored=len(fresh), wasted=len(outcomes) - len(fresh))
    by_model = _by_model(batch, outcomes, packed.records, taken) if fresh else []
    for model, lines in by_model:  # the tenant's usage moves by the same numbers
        metering.add(batch, model, now, lines)
    _advance_slices({outcome.line.held: outcome for outcome in outcomes}, outcomes)
    if batch.status == Status.IN_PROGRESS and batch.completed + batch.failed == batch.total:
        lifecycle.finalize_now(batch.pk)
    elif batch.status == Status.IN_PROGRESS:
        _pause_at_caps(batch, taken["cost"])
    elif batch.status in CLOSING:
        lifecycle.close_if_drained(batch.pk)  # this may have been the last slice in flight
    return by_model


def _pause_at_caps(batch: Batch, grown: int) -> None:
    reason = lifecycle.cap_reached(batch, grown)
    if reason and not batch.paused_reason:
        lifecycle.pause(batch.pk, reason)
        batch.paused_reason = reason


def _report_flagged(batch: Batch, records: list[Record]) -> None:
    """An upstream that reports no believable usage works for nothing, one that counts too little for too little: its
    operator should know. The latter once: it does so with every line that asks for several choices."""
    for (upstream, flag), count in Counter((record.upstream, record.flag) for record in records if record.flag).items():
        if flag == UNCHARGED:
            log.warning("upstream %s: %d answers of %s without a believable usage, not charged", upstream, count, batch)
        elif upstream not in _told:
            _told.add(upstream)
            log.warning(
                "upstream %s reports fewer tokens than its choices must have taken (%s, n > 1): charged as reported",
                upstream,
                batch,
            )


def _record(outcome: Outcome) -> Record:
    line, verdict, upstream, latency = outcome
    return Record(
        body=render(line.held.claim.secret, line.number, line.custom_id, verdict),
        line=line.number,
        custom_id=json.decode(line.custom_id, type=str),
        status_code=verdict.status,
        error_code="" if verdict.delivered else verdict.code or "upstream_error",
        flag=verdict.flag,
        usage=verdict.usage,
        cost=_cost(outcome),
        attempts=line.attempts,
        upstream=upstream,
        latency_ms=latency,
    )


def _cost(outcome: Outcome) -> int:
    verdict = outcome.verdict
    return money.cost(outcome.line.held.rates, *verdict.usage) if verdict.charged else 0


def _count(batch: Batch, taken: dict[str, int], now: datetime, stored: int, wasted: int) -> None:
    """Move the batch's counters, in the database and in `batch`, by what was really inserted."""
    moved = {**taken, "last_seq": stored, "wasted": wasted}
    seen = {"last_result_at": now} if stored else {}
    Batch.objects.filter(pk=batch.pk).update(**{name: F(name) + by for name, by in moved.items()}, **seen)
    for name, by in moved.items():
        setattr(batch, name, getattr(batch, name) + by)


def _by_model(batch: Batch, outcomes: list[Outcome], records: list[Record], taken: dict[str, int]) -> list[Taken]:
    """What was taken; where lines name several models, of each model."""
    if batch.model is not None:
        return [(batch.model, taken)]
    models = {outcome.line.number: outcome.line.held.claim.model for outcome in outcomes}
    by_model: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_model[models[record.line]].append(record)
    return [(model, metering.measured(some)) for model, some in sorted(by_model.items())]


def _advance_slices(helds: dict[Held, Outcome], outcomes: list[Outcome]) -> None:
    """A slice whose lines all have a result is done; a commit shows that its runner lives: attempts begin anew.

    Not those of a suspect: the lines that it has not sent yet are still suspected.
    """
    done_now: dict[Held, int] = defaultdict(int)
    for outcome in outcomes:
        done_now[outcome.line.held] += 1
    for held in helds:
        state = Slice.State.DONE if done_now[held] == held.open else Slice.State.LEASED
        alive = {} if held.claim.suspect else {"attempts": 0}
        Slice.objects.filter(pk=held.claim.slice, lease_token=held.claim.token).update(state=state, **alive)
