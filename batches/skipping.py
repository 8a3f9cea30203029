"""Lines that can't run, where the tenant said on_invalid_line=skip: failed results from when their batch starts."""

import os
from array import array
from datetime import datetime
from typing import Any

from batches import recording
from batches.core import jsonl, rendering, requests
from batches.core.requests import Fault
from batches.models import Batch

GROUP = 256  # lines a segment


class Skipped:
    """Their output lines in a scratch file, and of each its number and its error's code: a few MB for 50,000."""

    def __init__(self, secret: str, file: Any) -> None:
        self._secret, self._file = secret, file
        self._numbers, self._ends, self._codes = array("I"), array("Q", [0]), list[str]()

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, line: jsonl.Line, fault: Fault) -> None:
        name = requests.valid_custom_id(line.data)
        body = rendering.render_invalid(self._secret, line.number, name, fault.code, fault.message)
        self._file.write(body)
        self._numbers.append(line.number)
        self._ends.append(self._ends[-1] + len(body))
        self._codes.append(fault.code)

    def record(self, batch: Batch, now: datetime) -> None:
        """Store them, in the transaction that starts the batch: there are all of them, or it has not started."""
        self._file.flush()
        for start in range(0, len(self), GROUP):
            group = [self._record(index) for index in range(start, min(start + GROUP, len(self)))]
            recording.record(batch, recording.pack(group), now)
            batch.last_seq += len(group)

    def _record(self, index: int) -> recording.Record:
        start, end = self._ends[index], self._ends[index + 1]
        body = os.pread(self._file.fileno(), end - start, start)
        name = requests.valid_custom_id(body) or ""
        return recording.Record(body, self._numbers[index], name, error_code=self._codes[index])
