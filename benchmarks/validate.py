"""Validation of 100 MB: the product's read and plan, without the plan's write, beside a bare msgspec loop.

`python -m benchmarks.validate FILE` does both in a process of its own and prints what they took.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import ROOT, large, resources
from benchmarks.report import Figures, Found, Row, Size, median_of
from tenants import scope


def measure(size: Size) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        path = large.written(Path(folder) / "large.jsonl", size.of(large.LINES))
        megabytes = path.stat().st_size / 1024 / 1024
        figures = median_of(size.runs, lambda: _child(path))
    rows = [
        Row("the file, MB", megabytes),
        Row("bare msgspec loop, MB/s", megabytes / figures["bare"]),
        Row("read, check and plan / bare msgspec loop, seconds", figures["ratio"], "<= 4"),
        Row("memory above start at its peak, MB", figures["grown"], "<= 64"),
    ]
    return Found(figures, rows, "the rows and, where prefixes are shared, the plan's file; a file full of faults")


def _child(path: Path) -> Figures:
    command = [sys.executable, "-m", "benchmarks.validate", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def _bare(path: Path) -> float:
    import msgspec

    started = time.perf_counter()
    with open(path, "rb") as file:
        for line in file:
            msgspec.json.decode(line)
    return time.perf_counter() - started


def _ours(path: Path) -> float:
    from batches import validation
    from batches.core import planning
    from batches.findings import Findings

    started = time.perf_counter()
    findings = Findings()
    columns = validation.read(path, validation.Checks("/v1/chat/completions", {"bench"}), findings)
    assert not findings.counts, findings.counts
    cuts = list(planning.cut(columns, planning.order(columns), {"bench": 64}))
    assert sum(len(cut.lines) for cut in cuts) == len(columns)
    return time.perf_counter() - started


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    import django

    django.setup()
    scope.settle_every()
    from batches import validation  # noqa: F401 - part of the start

    path = Path(sys.argv[1])
    before = _bare(path)
    growth = resources.Growth([os.getpid()])
    ours = _ours(path)
    grown = growth.most()
    bare = statistics.mean([before, _bare(path)])
    print(json.dumps({"bare": bare, "ours": ours, "ratio": ours / bare, "grown": grown}))


if __name__ == "__main__":
    main()
