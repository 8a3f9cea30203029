"""A retry: a new batch of the lines that another one did not deliver, and the outputs of both as one.

A results file has a line for every line of its batch's input, in that order, and each says whether it was delivered,
and why not. So both files side by side are all that is asked: memory stays flat, and rows that retention took are not
missed. A retry may take the lines of some causes alone; it remembers them, since merging follows each line through the
same choices: docs/decisions/0027-retries-of-some-causes.md
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.db import DatabaseError

from batches import codes, files, intake, objects
from batches.core import causes, jsonl, rendering, requests
from batches.core.causes import Causes
from batches.core.states import TERMINAL, Status
from batches.idempotency import Attempt
from batches.models import Batch
from batches.uploads import Stored
from tenants.errors import Refused

MAX_RETRIES = 20  # one of the other: their files are all open while they are merged
MAX_RESULT = 1 << 40  # bytes of a line that we wrote ourselves: no limit


def retry(batch: Batch, attempt: Attempt, some: Causes | None = None, **columns: Any) -> Batch:
    """A new batch of what `batch` did not deliver, of `some` causes alone where they are named; `columns` are its caps.

    Raises Refused 409, 410 or 429, Replayed.
    """
    _check(batch)
    attempt.match()  # `submit` looks again, under the lock: this one saves the copying
    if not attempt.again:
        intake.check_room(attempt.tenant)
    stored = _store(batch, some)
    columns |= {name: getattr(batch, name) for name in ("on_invalid_line", "output_expires_after")}
    columns["retry_causes"] = causes.pack(some)
    try:
        keep = files.kept_for(batch.input_file)
        return intake.submit(attempt, stored, batch.endpoint, batch.metadata, keep, retry_of=batch, **columns)
    except DatabaseError:
        raise  # the batch may be there after all: an object that nobody names is swept a day later
    except BaseException:
        with suppress(OSError):
            objects.delete(stored.key)
        raise


def _check(batch: Batch) -> None:
    if batch.status not in TERMINAL:
        raise Refused(
            409, "batch_not_complete", "The batch has not ended: only what is left at its end can be retried."
        )
    if batch.status == Status.FAILED:
        raise Refused(409, "batch_failed", "The batch never ran: see its errors, then submit its file anew.")
    if batch.completed == batch.total:
        raise Refused(409, "nothing_to_retry", "Every line of the batch was delivered.")
    if len(_chain(batch)) > MAX_RETRIES:
        raise Refused(
            409, "too_many_retries", f"It is the {MAX_RETRIES}th retry already: submit its lines as a new file."
        )


def read_causes(value: Any) -> Causes | None:
    """The field `error_codes`: a list, or of a form a text with commas; null is all. Raises Refused 400."""
    if value is None:
        return None
    named = value.split(causes.SEPARATOR) if isinstance(value, str) else value
    if not isinstance(named, list) or not named or not all(isinstance(each, str) for each in named):
        raise _bad_causes("error_codes must be a list of at least one code, such as request_timeout or 429.")
    if unknown := causes.unknown(named, codes.of_lines()):
        shown = unknown[0][:64].encode(errors="replace").decode()
        raise _bad_causes(f"error_codes: {shown} is neither a code of a line nor an HTTP status.")
    return frozenset(named)


def _bad_causes(message: str) -> Refused:
    return Refused(400, "invalid_error_codes", message, param="error_codes")


def _store(batch: Batch, some: Causes | None) -> Stored:
    """Write the lines that were not delivered, as they came and in their order, as a new input."""
    count = 0
    try:
        if batch.input_file.deleted_at:  # though its object may be there until the batch is sealed
            raise FileNotFoundError
        with objects.Writer(objects.fresh_key("inputs")) as writer:
            for line in _undelivered(batch, some):
                for piece in _bytes(batch, line):
                    writer.write(piece)
                writer.write(b"\n")
                count += 1
            if not count:
                raise Refused(409, "nothing_to_retry", "No line of the batch failed with one of these error_codes.")
    except FileNotFoundError:
        raise Refused(410, "file_expired", "The batch's input or output is not stored any more.") from None
    return Stored(writer.key, batch.input_file.filename, writer.bytes, count, writer.sha256)


def _undelivered(batch: Batch, some: Causes | None) -> Iterator[jsonl.Line]:
    lines = jsonl.lines(objects.chunks(batch.input_file.storage_key), requests.MAX_LINE)
    for line, result in zip(lines, _results(batch), strict=True):
        if causes.takes(some, rendering.outcome(result)):
            yield line


def _bytes(batch: Batch, line: jsonl.Line) -> Iterator[bytes]:
    """The line; one that is too long is copied as the others are: the retry says so of it again."""
    if line.data is not None:
        yield line.data
    else:
        yield from objects.chunks(batch.input_file.storage_key, line.offset, line.length)


def _results(batch: Batch) -> Iterator[bytes]:
    """The lines of an ended batch's results file."""
    assert batch.results_file is not None
    for line in jsonl.lines(objects.chunks(batch.results_file.storage_key), MAX_RESULT):
        assert line.data is not None
        yield line.data


def merged(batch: Batch) -> Iterator[bytes]:
    """A line for each line of the original's input: of the first batch that delivered it, else of the last that it was
    in. Raises Refused 410 when one of their files is not stored any more."""
    chain = _chain(batch)
    if any(each.results_file is None or files.is_gone(each.results_file) for each in chain):
        raise Refused(410, "file_expired", "The output of a batch that is to be merged is not stored any more.")
    original, *others = chain
    return _merge(_results(original), [(causes.unpack(each.retry_causes), _results(each)) for each in others])


def _merge(original: Iterator[bytes], others: list[tuple[Causes | None, Iterator[bytes]]]) -> Iterator[bytes]:
    """The n-th line of a retry is the n-th that the batch before it did not deliver, of the causes that it took."""
    for line in original:
        for some, retried in others:
            if not causes.takes(some, rendering.outcome(line)):
                break
            line = next(retried)
        yield line + b"\n"


def _chain(batch: Batch) -> list[Batch]:
    """The batch after all that it retries, the original first."""
    chain = [batch]
    while (before := chain[0].retry_of_id) is not None:
        chain.insert(0, Batch.objects.select_related("results_file").get(pk=before))
    return chain
