"""Results into files: merged into input order from the committed segments, repeatable byte for byte.

Each segment is decompressed once into a local spool; the merge then walks an index of the Result rows. A line without
a row was never run: its output line is derived here, and it gets no row.
"""

import logging
import os
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec
from django.conf import settings
from django.db import DatabaseError, transaction

from batches import alerting, keeping, life, lifecycle, marks, measures, metering, objects, tasks
from batches.core import jsonl, rendering, requests, sla, states
from batches.core.states import Status
from batches.lifecycle import Step, StepLost
from batches.models import Batch, File, Result, Segment, Slice
from billing import ledger
from tenants import admission, clock, observed, scope
from tenants.models import Tenant

log = logging.getLogger(__name__)


class Spool:
    """A batch's committed output lines in a local file, and where each line's lies."""

    def __init__(self, batch: Batch, file: Any, renew: Callable[[], None]) -> None:
        self._file, self._renew = file, renew
        starts = self._fill(batch)
        self.lines, self._offsets, self._lengths, self.delivered = array("I"), array("Q"), array("I"), bytearray()
        rows = Result.objects.filter(batch=batch).order_by("line")
        for line, segment, offset, length, error in rows.values_list(
            "line", "segment_id", "offset", "length", "error_code"
        ).iterator(chunk_size=5000):
            if segment not in starts:  # committed, or dropped, since the segments were read
                continue
            self.lines.append(line)
            self._offsets.append(starts[segment] + offset)
            self._lengths.append(length)
            self.delivered.append(not error)

    def _fill(self, batch: Batch) -> dict[int, int]:
        """Write every segment to the file, one after another; where each begins."""
        starts, end = {}, 0
        for pk in list(Segment.objects.filter(batch=batch).order_by("pk").values_list("pk", flat=True)):
            self._renew()
            data = Segment.objects.filter(pk=pk).values_list("data", flat=True).first()
            if data is None:  # dropped: the batch has ended meanwhile
                continue
            body = zlib.decompress(data)
            self._file.write(body)
            starts[pk], end = end, end + len(body)
        self._file.flush()
        return starts

    def read(self, index: int) -> bytes:
        """The output line at `index` of `lines`."""
        return os.pread(self._file.fileno(), self._lengths[index], self._offsets[index])

    def __iter__(self) -> Iterator[tuple[bytes, bool]]:
        """Every committed output line in input order, and whether it was delivered."""
        for index in range(len(self.lines)):
            yield self.read(index), bool(self.delivered[index])


@contextmanager
def spool(batch: Batch, renew: Callable[[], None] = lambda: None) -> Iterator[Spool]:
    """The batch's committed lines, for as long as `with` lasts; `renew` is called often while they are gathered."""
    with objects.scratch() as file:
        yield Spool(batch, file, renew)


def finalize(batch_pk: int) -> None:
    """Write the files, post the charge, set the terminal status. A leased step; killed and repeated it does the same.

    It is never given up: what it works from is committed and paid for (docs/decisions/0004-finalize-never-fails.md).
    """
    step = lifecycle.claim_step(batch_pk, Status.FINALIZING)
    if step is None:
        return
    batch = Batch.objects.select_related("input_file", "tenant").get(pk=batch_pk)
    with observed.step("finalize", batch.public_id, batch.tenant.public_id):
        _finalize_leased(batch, step)


def _finalize_leased(batch: Batch, step: Step) -> None:
    ending = states.ending(batch.cancelling_at is not None, batch.expiring_at is not None)
    try:
        with measures.step("finalize"), scope.tenant(batch.tenant_id):
            _finalize(batch, ending, step)
    except StepLost:
        return
    except (OSError, DatabaseError) as error:
        log.error("%s can't be finalized now, it is tried again: %s", batch, error)
        step.postpone()


def _finalize(batch: Batch, ending: Status, step: Step) -> None:
    began = time.monotonic()
    with spool(batch, step.renew) as lines:
        written = _write(_merged(batch, lines, ending, step), step)
    size = sum(writer.bytes for writer, _ in written.values())
    life.say("finalized", files=len(written), bytes=size, seconds=round(time.monotonic() - began, 3))
    try:
        ended = _end(batch, step, ending, written)
    except BaseException as error:
        if not isinstance(error, DatabaseError) or _is_undone(batch, written):
            _discard(written)
        raise
    if ended:
        marks.move()
        drop_scaffolding(batch.pk)
    else:
        _discard(written)


def _is_undone(batch: Batch, written: dict[str, tuple[objects.Writer, int]]) -> bool:
    """Whether an end that raised did not take place; False when nobody knows, and the sweep of orphans will see."""
    with suppress(DatabaseError), transaction.atomic():
        Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)  # so it is over, one way or the other
        return not File.objects.filter(storage_key=written["results"][0].key).exists()
    return False


def _discard(written: dict[str, tuple[objects.Writer, int]]) -> None:
    for writer, _ in written.values():
        objects.delete(writer.key)


def _merged(batch: Batch, lines: Spool, ending: Status, step: Step) -> Iterator[tuple[bytes, bool]]:
    """An output line for every input line, in input order."""
    if len(lines.lines) == batch.total:
        yield from lines
        return
    if ending == Status.COMPLETED:
        raise RuntimeError(f"{batch} has {len(lines.lines)} results for {batch.total} lines")
    code = f"batch_{ending}"
    index = 0
    for line in _input(batch):
        step.renew()
        if index < len(lines.lines) and lines.lines[index] == line.number:
            yield lines.read(index), bool(lines.delivered[index])
            index += 1
        else:
            yield rendering.render_never_run(batch.secret, line.number, _custom_id(line.data), code), False


def _input(batch: Batch) -> Iterator[jsonl.Line]:
    """The input's lines; where the object is gone, lines without content in their number."""
    try:
        yield from jsonl.lines(objects.chunks(batch.input_file.storage_key), requests.MAX_LINE)
    except FileNotFoundError:
        log.error("%s: its input is gone, lines that were not run have no custom_id", batch)
        for number in range(1, batch.total + 1):
            yield jsonl.Line(number, 0, 0, None)


def _custom_id(data: bytes | None) -> bytes:
    """The line's custom_id; null where the batch ended before its lines were validated, and this one would not be."""
    try:
        return requests.custom_id_of(data or b"")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return b"null"


def _write(merged: Iterator[tuple[bytes, bool]], step: Step) -> dict[str, tuple[objects.Writer, int]]:
    """Write results (all lines) and, while both kinds are met, output and errors; each with its number of lines."""
    with spool_pair() as (delivered, failed), objects.Writer(objects.fresh_key("results")) as everything:
        counts = [0, 0]
        for body, good in merged:
            step.renew()
            everything.write(body + b"\n")
            (delivered if good else failed).write(body + b"\n")
            counts[good] += 1
        written = {"results": (everything, sum(counts))}
        try:
            if all(counts):
                for name, file, count in (("output", delivered, counts[1]), ("errors", failed, counts[0])):
                    written[name] = (_store(file, step), count)
        except BaseException:
            for name in written.keys() - {"results"}:
                written[name][0].discard()
            raise
    return written


@contextmanager
def spool_pair() -> Iterator[tuple[Any, Any]]:
    with objects.scratch() as first, objects.scratch() as second:
        yield first, second


def _store(file: Any, step: Step) -> objects.Writer:
    file.flush()
    file.seek(0)
    with objects.Writer(objects.fresh_key("results")) as writer:
        while piece := file.read(objects.CHUNK):
            step.renew()
            writer.write(piece)
    return writer


def _end(batch: Batch, step: Step, ending: Status, written: dict[str, tuple[objects.Writer, int]]) -> bool:
    """The files' rows, the charge and the terminal status, in one transaction; False when the step was lost."""
    with transaction.atomic():
        tenant = admission.lock(batch.tenant_id)  # before the batch's, as everywhere: the charge looks at its credits
        locked = Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
        if locked.status != Status.FINALIZING or locked.step_token != step.token:
            return False
        files = _file_all(tenant, locked, written)
        promise = _promise(locked, ending, tenant.suspended)
        taken = metering.taken(batch.pk)
        ledger.charge_batch(batch.tenant_id, batch.public_id, locked.cost, taken, promise["sla_credit"])
        alerting.look(batch.tenant_id, apart=batch.pk)
        ended = lifecycle.transition(
            batch.pk,
            ending,
            **promise,
            results_file=files["results"],
            output_file=files.get("output"),
            error_file=files.get("errors"),
        )
        if "output" not in files and locked.output_file is not None:
            locked.output_file.delete()
        tasks.ring_seal(batch.pk)
        return ended


def _promise(batch: Batch, ending: Status, suspended: bool) -> dict[str, Any]:
    """The columns of the end: its moment, whether that was in time, and what the tenant gets where it was not."""
    now = clock.now()
    met = sla.met(ending, now, batch.deadline, batch.held_back or suspended)
    credit = sla.credit(met, batch.cost, settings.SLA_CREDIT_PERCENT)
    return {"ended_at": now, "sla_met": met, "sla_credit": credit}


def _file_all(tenant: Tenant, batch: Batch, written: dict[str, tuple[objects.Writer, int]]) -> dict[str, File]:
    """The rows of what was written. One file serves as two where all lines were delivered, or none."""
    one_kind = "output" if batch.completed == batch.total else "errors"
    output = "results" if len(written) == 1 and one_kind == "output" else "output"
    files = {}
    for name, (writer, count) in written.items():
        whole = name == "results" and len(written) > 1
        purpose = File.Purpose.BATCH_RESULTS if whole else File.Purpose.BATCH_OUTPUT
        content = {"purpose": purpose, "filename": f"{batch.public_id}_{name}.jsonl", "lines": count}
        files[name] = _file(tenant, batch, writer, content, batch.output_file if name == output else None)
    if len(files) == 1 and batch.total:
        files[one_kind] = files["results"]
    return files


def _file(tenant: Tenant, batch: Batch, writer: objects.Writer, content: dict[str, Any], begun: File | None) -> File:
    """A new row; or the one that the output has had since the batch began."""
    now = clock.now()
    content |= {
        "bytes": writer.bytes,
        "sha256": writer.sha256,
        "storage_key": writer.key,
        "created_at": now,
        "expires_at": keeping.until(tenant, now, batch.output_expires_after),
    }
    if begun is not None:
        File.objects.filter(pk=begun.pk).update(**content)
        return begun
    return File.objects.create(tenant=tenant, **content)


def drop_scaffolding(batch_pk: int) -> None:
    """Remove what only served to run an ended batch: segments, the plan's object, slices. Slices last: the sweep
    finds by them what a crash left."""
    batch = Batch.objects.select_related("input_file").get(pk=batch_pk)
    while segments := list(Segment.objects.filter(batch=batch).values_list("pk", flat=True)[:50]):
        Segment.objects.filter(pk__in=segments).delete()  # a few at a time: each holds the write lock briefly
    if batch.plan_key != batch.input_file.storage_key:
        objects.delete(batch.plan_key)
    Slice.objects.filter(batch=batch).delete()
