"""The whole pipeline on PostgreSQL beside the same on SQLite: each a service of its own, in a process of its own."""

import json
import os
import subprocess
import sys

from benchmarks import ROOT
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.witness import Witness

LINES = 50_000


def measure(size: Size) -> Found:
    figures = median_of(size.runs, lambda: _once(size.of(LINES)))
    rows = [
        Row("whole pipeline on SQLite, requests/s", figures["sqlite_whole"]),
        Row("whole pipeline on PostgreSQL, requests/s", figures["postgres_whole"]),
        Row("PostgreSQL / SQLite, whole pipeline", figures["whole_ratio"], ">= 0.8"),
        Row("PostgreSQL / SQLite, run phase", figures["run_ratio"]),
    ]
    return Found(figures, rows, "a PostgreSQL on another machine, or one with its durability tuned")


def _once(count: int) -> Figures:
    with Witness() as witness:
        witness.configure(log=False)
        took = {database: _on(database, witness, count) for database in ("sqlite", "postgres")}
    rates = {f"{name}_{phase}": count / seconds for name, one in took.items() for phase, seconds in one.items()}
    return rates | {
        "whole_ratio": rates["postgres_whole"] / rates["sqlite_whole"],
        "run_ratio": rates["postgres_run"] / rates["sqlite_run"],
    }


def _on(database: str, witness: Witness, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.pipeline", witness.base_url, str(count)]
    environ = {**os.environ, "TEST_DATABASE": database}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found
