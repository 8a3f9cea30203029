"""Receipts of a batch's lines, from what is committed: its Result rows beside the lines of its input, in order.

A line that was never run has no row, no receipt and no cost. docs/billing.md says what a receipt's fields mean.
"""

import hashlib
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import NamedTuple

import msgspec

from batches import objects
from batches.core import jsonl, requests
from batches.models import Batch, File, Result
from billing import money

PAGE = 5_000  # rows a query: on SQLite no read is long
_COLUMNS = (
    "line", "custom_id", "status_code", "error_code", "flag", "attempts", "upstream_id", "input_tokens",
    "cached_tokens", "output_tokens", "cost", "finished_at",
)  # fmt: skip


class _Row(NamedTuple):
    line: int
    custom_id: str
    status_code: int | None
    error_code: str
    flag: str
    attempts: int
    upstream_id: int | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: int
    finished_at: datetime

    @property
    def was_skipped(self) -> bool:
        """A bad line, which nothing was sent of."""
        return self.upstream_id is None and self.error_code != "worker_crashed"


class Tokens(msgspec.Struct):
    """Of a line that was charged; else 0."""

    input: int
    cached: int
    output: int


class Rates(msgspec.Struct):
    """Pico-USD per million tokens."""

    input: int
    cached_input: int
    output: int


class Receipt(msgspec.Struct):
    """One line of the receipts file. Names of its fields are the tenant's to rely on."""

    line: int
    custom_id: str | None
    input_sha256: str | None
    status_code: int | None
    error_code: str | None
    flag: str | None
    attempts: int
    upstream: int | None
    model: str | None
    tokens: Tokens
    rates: Rates | None
    cost_usd: str
    cost_pico: int
    finished_at: int


class _Asked(msgspec.Struct):
    model: str


class _Line(msgspec.Struct):
    body: _Asked


_model = msgspec.json.Decoder(_Line)


class Inputs:
    """The lines of a batch's input, met in order. `readable` is False where its object is gone."""

    def __init__(self, file: File) -> None:
        self._key = file.storage_key
        lines = jsonl.lines(objects.chunks(self._key), requests.MAX_LINE)
        self._lines: Iterator[jsonl.Line] = lines
        try:
            self._lines = chain([next(lines)], lines)
            self.readable = True
        except (FileNotFoundError, StopIteration):
            self.readable = False  # and what failed once has ended

    def at(self, number: int) -> jsonl.Line | None:
        """The line with this number; each may be asked for once, in order."""
        return next((line for line in self._lines if line.number == number), None)

    def sha256(self, line: jsonl.Line) -> str:
        """Of its bytes in the file, without the newline; one that is too long is read on its own."""
        if line.data is not None:
            return hashlib.sha256(line.data).hexdigest()
        found = hashlib.sha256()
        for piece in objects.chunks(self._key, line.offset, line.length):
            found.update(piece)
        return found.hexdigest()


def of(batch: Batch, inputs: Inputs) -> Iterator[Receipt]:
    """The batch's receipts in the order of its input. Raises OSError."""
    rates = msgspec.json.decode(batch.rates, type=dict[str, money.Rates])
    shown = {model: Rates(rate.input, rate.cached_input, rate.output) for model, rate in rates.items()}
    for row in _rows(batch):
        line = inputs.at(row.line)
        model = None if row.was_skipped else batch.model or _model_of(line)
        yield Receipt(
            line=row.line,
            custom_id=row.custom_id or None,
            input_sha256=inputs.sha256(line) if line else None,
            status_code=row.status_code,
            error_code=row.error_code or None,
            flag=row.flag or None,
            attempts=row.attempts,
            upstream=row.upstream_id,
            model=model,
            tokens=Tokens(row.input_tokens, row.cached_tokens, row.output_tokens),
            rates=shown.get(model or ""),
            cost_usd=money.usd(row.cost),
            cost_pico=row.cost,
            finished_at=int(row.finished_at.timestamp()),
        )


def _rows(batch: Batch) -> Iterator[_Row]:
    last = 0
    rows = Result.objects.filter(batch=batch).order_by("line").values_list(*_COLUMNS)
    while page := list(rows.filter(line__gt=last)[:PAGE]):
        yield from map(_Row._make, page)
        last = page[-1][0]


def _model_of(line: jsonl.Line | None) -> str | None:
    """Where lines name several: the one that the line was validated, sent and priced with."""
    return _model.decode(line.data).body.model if line and line.data else None
