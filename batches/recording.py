"""Finished lines into the database: the output lines of a group as one segment, and the rows that point into it."""

import json
import zlib
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from batches.core.answers import NO_USAGE, UNCHARGED, Usage
from batches.models import Batch, Segment

COLUMNS = {  # and their types in PostgreSQL
    "tenant_id": "bigint", "batch_id": "bigint", "line": "int", "seq": "int", "custom_id": "text",
    "status_code": "smallint", "error_code": "text", "flag": "text", "input_tokens": "bigint",
    "cached_tokens": "bigint", "output_tokens": "bigint", "cost": "bigint", "attempts": "smallint",
    "upstream_id": "bigint", "latency_ms": "int", "finished_at": "timestamptz", "segment_id": "bigint",
    "offset": "int", "length": "int",
}  # fmt: skip
_QUOTED = ", ".join(f'"{column}"' for column in COLUMNS)
_INSERT = f"INSERT INTO batches_result ({_QUOTED}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
# COPY, which takes half of the time, is refused on a table that has policies (tenants/policies.py).
_TYPED = ", ".join(f'"{column}" {type_}' for column, type_ in COLUMNS.items())
_INSERT_ALL = f"INSERT INTO batches_result ({_QUOTED}) SELECT {_QUOTED} FROM json_to_recordset(%s) AS rows({_TYPED})"


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
            stamp = rows[0][15].isoformat()
            named = [dict(zip(COLUMNS, (*row[:15], stamp, *row[16:]), strict=True)) for row in rows]
            cursor.execute(_INSERT_ALL, [json.dumps(named)])
        else:
            stamp = connection.ops.adapt_datetimefield_value(rows[0][15])
            cursor.executemany(_INSERT, [(*row[:15], stamp, *row[16:]) for row in rows])
