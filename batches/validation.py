"""Validating a batch: read every line, collect every bad one, plan the rest, write the slices. A leased step."""

import logging
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from django.db import DatabaseError, transaction
from django.db.models import Q

from batches import enqueued, files, lifecycle, measures, objects, reserving, tasks, uploads
from batches.core import jsonl, planning, requests
from batches.core.bounds import Work
from batches.core.requests import Fault, Request
from batches.core.states import Status
from batches.findings import Findings
from batches.lifecycle import Step, StepLost
from batches.models import Batch, Slice, Upstream
from batches.skipping import Skipped
from billing import prices
from tenants import clock, observed, scope

log = logging.getLogger(__name__)

MAX_PADDING = 64 * 1024  # bytes of blank lines in an input that serves as its own plan
MISSING = Fault("input_missing", "The stored file is gone. Submit it again, and tell the operator.")


Planned = tuple[str, list[Slice]]


class Plan(NamedTuple):
    """What validation found: the object that slices are ranges of, their rows, and the work of each model."""

    key: str
    slices: list[Slice]
    works: dict[str, Work]


def validate(batch_pk: int) -> None:
    """Move the batch to in_progress with its slices, or to failed with its bad lines."""
    step = lifecycle.claim_step(batch_pk, Status.VALIDATING)
    if step is None:
        return
    batch = Batch.objects.select_related("input_file", "tenant").get(pk=batch_pk)
    with observed.step("validate", batch.public_id, batch.tenant.public_id):
        _validate_leased(batch, step)


def _validate_leased(batch: Batch, step: Step) -> None:
    if step.attempts > lifecycle.MAX_VALIDATIONS:
        fault = Fault("validation_failed", "The file could not be validated in three tries. Ask the operator.")
        _fail(batch, step, fault)
        return
    key = batch.input_file.storage_key
    try:
        with measures.step("validate"), scope.tenant(batch.tenant_id), objects.local(key) as path:
            _validate(batch, path, step)
    except StepLost:
        return
    except FileNotFoundError:
        _fail(batch, step, MISSING)
    except (OSError, DatabaseError) as error:
        log.error("%s can't be validated now, it is tried again: %s", batch, error)
        step.postpone()


def _validate(batch: Batch, path: Path, step: Step) -> None:
    if fault := whole_fault(path, batch.input_file.lines):
        _fail(batch, step, fault)
        return
    reachable = reachable_models(batch.tenant_id)
    findings = Findings()
    with objects.scratch() as scratch:
        skipped = Skipped(batch.secret, scratch) if batch.on_invalid_line == Batch.OnInvalidLine.SKIP else None
        bad = _ignore if skipped is None else skipped.add
        works: dict[str, Work] = defaultdict(Work)
        checks = Checks(batch.endpoint, set(reachable))
        columns = read(path, checks, findings, step.renew, lambda good: works[good.model].add(good), bad)
        if findings.counts and skipped is None:
            lifecycle.fail(batch.pk, findings.listed(), findings.counts, step.mine)
        else:
            plan = Plan(*_plan(batch, path, columns, reachable, step), works)
            if not _start(batch, step, plan, findings, skipped) and plan.key != batch.input_file.storage_key:
                objects.delete(plan.key)


def whole_fault(path: Path, lines: int) -> Fault | None:
    """What is wrong with a file of so many lines before any of them is looked at."""
    if lines > uploads.MAX_LINES:
        return Fault("too_many_requests_in_batch", uploads.TOO_MANY_LINES)
    with open(path, "rb") as file:
        if disguise := jsonl.disguise(file.read(8)):
            return Fault("invalid_json_line", f"The file is {disguise}, not JSONL in UTF-8.")
    return None if lines else Fault("empty_file", uploads.EMPTY)


def _fail(batch: Batch, step: Step, fault: Fault) -> None:
    findings = Findings()
    findings.add(None, fault)
    lifecycle.fail(batch.pk, findings.listed(), findings.counts, step.mine)


def reachable_upstreams(tenant: int) -> dict[str, list[Upstream]]:
    """The models this tenant can reach, and the upstreams it uses for each.

    A dedicated upstream for a model takes the place of the shared ones.
    """
    found: dict[bool, dict[str, list[Upstream]]] = {False: {}, True: {}}
    rows = Upstream.objects.filter(Q(tenant=None) | Q(tenant_id=tenant))
    for upstream in rows.only("model", "tenant_id", "max_in_flight", "created_at"):
        found[upstream.tenant_id is not None].setdefault(upstream.model, []).append(upstream)
    return found[False] | found[True]


def reachable_models(tenant: int) -> dict[str, int]:
    """The models this tenant can reach, and how many requests of each may be in flight."""
    return {model: sum(row.max_in_flight for row in rows) for model, rows in reachable_upstreams(tenant).items()}


class Checks:
    """What a line is checked against: its endpoint, the models there are, and the lines before it."""

    def __init__(self, endpoint: str, models: set[str]) -> None:
        self._endpoint, self._models = endpoint, models
        self._seen: dict[int, int] = {}  # hash of a custom_id -> its line

    def check(self, line: jsonl.Line) -> tuple[Request | None, list[Fault]]:
        """The request, as far as it could be read, and all that is wrong with it."""
        if line.data is None:
            return None, [_too_large(line.length)]
        found = requests.parse(line.data, self._endpoint)
        if isinstance(found, Fault):
            return None, [found]
        faults = []
        first = self._seen.setdefault(hash(found.custom_id), line.number)
        if first != line.number:
            message = f"The custom_id stands on line {first} already."
            faults.append(Fault("duplicate_custom_id", message, "custom_id"))
        if found.model not in self._models:
            faults.append(_no_model(found.model))
        return found, faults


def _ignore(*_: object) -> None:
    pass


def read(
    path: Path,
    checks: Checks,
    findings: Findings,
    renew: Callable[[], None] = _ignore,
    good: Callable[[Request], None] = _ignore,
    bad: Callable[[jsonl.Line, Fault], None] = _ignore,
) -> planning.Columns:
    """The lines that can run; the others go to `findings`. Each is handed to `good`, or to `bad` with its first fault;
    `renew` is called often."""
    columns = planning.Columns()
    for line in jsonl.lines(_pieces(path, renew), requests.MAX_LINE):
        found, faults = checks.check(line)
        if found is not None and not faults:
            columns.add(line.number, line.offset, line.length, found.model, found.prefix, found.tokens)
            good(found)
            continue
        for fault in faults:
            findings.add(line.number, fault)
        bad(line, faults[0])
    return columns


def _pieces(path: Path, renew: Callable[[], None]) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while piece := file.read(objects.CHUNK):
            renew()
            yield piece


def _too_large(length: int) -> Fault:
    return Fault("line_too_large", f"The line has {length:,} bytes; at most {requests.MAX_LINE:,} are taken.")


def _no_model(model: str) -> Fault:
    return Fault("model_not_found", f"There is no model {model[:100]!r} here for you.", "body.model")


def _plan(batch: Batch, path: Path, columns: planning.Columns, slots: dict[str, int], step: Step) -> Planned:
    """Cut the planned order; where it is the file's order, the input itself is the plan."""
    chains = planning.order(columns)
    cuts = list(planning.cut(columns, chains, slots))
    positions = [planned.position for cut in cuts for planned in cut.lines]
    padding = path.stat().st_size - sum(columns.lengths)  # newlines and blank lines, which a slice would carry
    in_order = all(position == index for index, position in enumerate(positions))
    if not len(columns) or (in_order and padding <= 2 * len(columns) + MAX_PADDING):
        key, starts = batch.input_file.storage_key, columns.offsets
    else:
        key, starts = _rewrite(path, columns, positions, step)
    return key, [_slice(batch, index, cut, columns, starts) for index, cut in enumerate(cuts)]


def _rewrite(path: Path, columns: planning.Columns, positions: list[int], step: Step) -> tuple[str, Any]:
    """Write the lines in planned order; returns the object and each line's offset in it."""
    key = objects.fresh_key("plans")
    starts = array("Q", bytes(8 * len(columns)))
    with objects.Writer(key) as writer, open(path, "rb") as file:
        for position in positions:
            step.renew()
            starts[position] = writer.bytes
            file.seek(columns.offsets[position])
            writer.write(file.read(columns.lengths[position]) + b"\n")
    return key, starts


def _slice(batch: Batch, index: int, cut: planning.Cut, columns: planning.Columns, starts: Any) -> Slice:
    first, last = cut.lines[0].position, cut.lines[-1].position
    offset = starts[first]
    entries = planning.pack(
        (
            columns.numbers[line.position],
            starts[line.position] - offset,
            columns.lengths[line.position],
            line.chain,
            columns.tokens[line.position],
        )
        for line in cut.lines
    )
    return Slice(
        tenant_id=batch.tenant_id,
        batch=batch,
        index=index,
        model=cut.model,
        offset=offset,
        length=starts[last] + columns.lengths[last] - offset,
        lines=len(cut.lines),
        tokens=cut.tokens,
        entries=entries,
    )


def _start(batch: Batch, step: Step, plan: Plan, findings: Findings, skipped: Skipped | None) -> bool:
    """The slices, what was skipped and the move to in_progress, in one transaction; False when the batch moved
    elsewhere meanwhile, or its tenant's limits refuse it."""
    rates = prices.rates_at(batch.tenant_id, plan.works, batch.created_at)
    most = reserving.most(plan.works, rates, batch.max_cost)
    bad = len(skipped) if skipped else 0
    with transaction.atomic():
        tokens = sum(row.tokens for row in plan.slices)
        if fault := enqueued.refusal(batch.tenant_id, tokens) or reserving.refusal(batch.tenant_id, most):
            _fail(batch, step, fault)
            return False
        moved = lifecycle.transition(
            batch.pk,
            Status.IN_PROGRESS,
            step.mine,
            plan_key=plan.key,
            total=bad + sum(row.lines for row in plan.slices),
            model=next(iter(plan.works)) if len(plan.works) == 1 else None,
            reserved=most,
            rates=msgspec.json.encode(rates).decode(),
            failed=bad,
            base_failed=bad,
            last_seq=bad,
            errors=lifecycle.listed(findings.listed(), findings.counts) if bad else "",
        )
        if moved:
            if skipped:
                skipped.record(batch, clock.now())
            Slice.objects.bulk_create(plan.slices, batch_size=200)
            Batch.objects.filter(pk=batch.pk).update(output_file=files.begin_output(batch))
            if plan.slices:
                tasks.ring_work()
            else:
                lifecycle.finalize_now(batch.pk)  # no line is left that could run
    return moved
