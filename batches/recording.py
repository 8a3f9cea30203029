"""Finished lines into the database: the output lines of a group as one segment, and the rows that point into it."""

import zlib
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from batches.core.answers import NO_USAGE, UNCHARGED, Usage
from batches.models import Batch, Segment

COLUMNS = (
    "tenant_id", "batch_id", "line", "seq", "custom_id", "status_code", "error_code", "flag", "input_tokens",
    "cached_tokens", "output_tokens", "cost", "attempts", "upstream_id", "latency_ms", "finished_at", "segment_id",
    "offset", "length",
)  # fmt: skip
_QUOTED = ", ".join(f'"{column}"' for column in COLUMNS)
_INSERT = f"INSERT INTO batches_result ({_QUOTED}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
_COPY = f"COPY batches_result ({_QUOTED}) FROM STDIN"


class Record(NamedTuple):
    """A finished line: its output line, and the columns of its row that are its own."""

    body: bytes
    line: int
    custom_id: str
    status_code: int | None = None
    error_code: str = ""
    flag: str = ""
    usage: Usage = NO_USAGE
    cost: int = 0
    attempts: int = 0
    upstream: int | None = None
    latency_ms: int = 0

    @property
    def charged(self) -> bool:
        return not self.error_code and self.flag != UNCHARGED


class Packed(NamedTuple):
    """A group of finished lines, and their output lines as a segment's data."""

    records: list[Record]
    data: bytes


def pack(records: list[Record]) -> Packed:
    return Packed(records, zlib.compress(b"\n".join(record.body for record in records), 1))


def record(batch: Batch, packed: Packed, now: datetime) -> None:
    """Store a group, its seq after the batch's last. Under the batch's lock; the caller moves its counters."""
    segment = Segment.objects.create(tenant_id=batch.tenant_id, batch_id=batch.pk, data=packed.data)
    rows: list[tuple[Any, ...]] = []
    offset = 0
    for seq, (body, line, custom_id, status, code, flag, usage, *measures) in enumerate(
        packed.records, batch.last_seq + 1
    ):
        outcome = (custom_id, status, code, flag, *usage, *measures)
        rows.append((batch.tenant_id, batch.pk, line, seq, *outcome, now, segment.pk, offset, len(body)))
        offset += len(body) + 1
    _insert(rows)


def _insert(rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            stamp = connection.ops.adapt_datetimefield_value(rows[0][15])
            cursor.executemany(_INSERT, [(*row[:15], stamp, *row[16:]) for row in rows])
