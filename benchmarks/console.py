"""The console's pages on a database with 100,000 batches and 1,000 tenants, beside one with a row of each model."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from benchmarks import ROOT
from benchmarks.report import Figures, Found, Row, Size
from tests import environment

MOST_QUERIES = 15
SHOWN = 10
DATABASES = ("empty", "seeded")


def measure(size: Size) -> Found:
    """In a process of its own, as PostgreSQL is started before Django reads its settings."""
    environ = {**os.environ, "TEST_DATABASE": "postgres"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.console", str(size.runs)],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"it ended with {done.returncode}"
    visits: dict[str, Figures] = json.loads(done.stdout.splitlines()[-1])
    worst = sorted(visits, key=lambda name: -visits[name]["ms_seeded"])
    _print(visits, worst)
    figures = {f"{name}: {what}": value for name in worst for what, value in visits[name].items()}
    most = {where: max(visit[f"queries_{where}"] for visit in visits.values()) for where in DATABASES}
    grown = sum(visit["queries_seeded"] - visit["queries_empty"] > GROWTH for visit in visits.values())
    middle = statistics.median(visit["ms_seeded"] / visit["ms_empty"] for visit in visits.values())
    rows = [
        Row("pages visited", len(visits)),
        Row("queries at most, one row of each model", most["empty"], f"<= {MOST_QUERIES}"),
        Row("queries at most, 100,000 batches and 1,000 tenants", most["seeded"], f"<= {MOST_QUERIES}"),
        Row(f"pages that make more than {GROWTH} queries more there", grown, "<= 0"),
        Row("ms there / with one row, median of the pages", middle),
    ]
    rows += [
        Row(f"ms there / with one row, {name} ({visits[name]['ms_seeded']:.0f} ms)", _ratio(visits[name]))
        for name in worst[:SHOWN]
    ]
    return Found(figures, rows, "a cold cache; the web server and the browser; the pages while batches run")


GROWTH = 2  # queries: with more rows there is more to show


def _ratio(visit: Figures) -> float:
    return visit["ms_seeded"] / visit["ms_empty"]


def _print(visits: dict[str, Figures], worst: list[str]) -> None:
    print(f"\n{'page':<64}{'queries':>14}{'ms':>16}{'ratio':>10}{'ms in SQL':>18}")
    print(f"{'':<64}{'empty':>8}{'full':>6}{'empty':>9}{'full':>9}{'':>8}{'empty':>9}{'full':>9}")
    for name in worst:
        one = visits[name]
        counts = f"{one['queries_empty']:>8.0f}{one['queries_seeded']:>6.0f}"
        times = f"{one['ms_empty']:>9.1f}{one['ms_seeded']:>9.1f}{_ratio(one):>8.2f}"
        print(f"{name:<64.64}{counts}{times}{one['sql_empty']:>9.1f}{one['sql_seeded']:>9.1f}")


class _Visitor:
    """The process that has one of the databases."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.pages: dict[str, str] = self.answer()

    def answer(self) -> Any:
        return json.loads(cast("IO[str]", self.process.stdout).readline())

    def visit(self, page: str) -> Figures:
        asked = cast("IO[str]", self.process.stdin)
        asked.write(json.dumps(page) + "\n")
        asked.flush()
        figures: Figures = self.answer()
        return figures


@contextmanager
def _visiting(where: str) -> Iterator[_Visitor]:
    """On a new database of the tests' server."""
    from tests.service import Service

    service = Service(name=f"console-{where}")
    subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=service.environ, check=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.visiting", where],
        cwd=ROOT, env=service.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        try:
            yield _Visitor(process)
        finally:
            process.kill()


def _visits(runs: int) -> dict[str, Figures]:
    """Medians of each page that both have, by turns; the visits before the first are not counted."""
    with _visiting("empty") as empty, _visiting("seeded") as seeded:
        both = {"empty": empty, "seeded": seeded}
        found: dict[str, dict[str, list[Figures]]] = {}
        for turn in range(runs + 1):
            for page in (page for page in seeded.pages if page in empty.pages):
                for where, visitor in both.items():
                    figures = visitor.visit(page)
                    if turn:
                        found.setdefault(page, {name: [] for name in both})[where].append(figures)
    return {
        page: {
            f"{what}_{where}": statistics.median(figures[what] for figures in of[where])
            for what in ("queries", "ms", "sql")
            for where in DATABASES
        }
        for page, of in found.items()
    }


if __name__ == "__main__":
    try:
        print(json.dumps(_visits(int(sys.argv[1]))))
    finally:
        environment.remove()
