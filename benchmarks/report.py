"""What a subject found, and how it is shown: rows beside their goals, as text, Markdown and JSON."""

import json
import operator
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, float]
_OPERATORS = {">=": operator.ge, "<=": operator.le}


class Row(NamedTuple):
    """One line of the table. A goal is an operator and a number, or nothing."""

    what: str
    value: float
    goal: str = ""

    @property
    def met(self) -> bool | None:
        if not self.goal:
            return None
        sign, bound = self.goal.split()[:2]
        return bool(_OPERATORS[sign](self.value, float(bound)))

    @property
    def is_counted(self) -> bool:
        return self.what.startswith("queries")

    def cells(self) -> tuple[str, str, str, str]:
        met = {True: "yes", False: "NO", None: ""}[self.met]
        return self.what, f"{self.value:.3g}" if abs(self.value) < 100 else f"{self.value:,.0f}", self.goal, met


class Found(NamedTuple):
    """A subject's figures and rows, and what they did not show."""

    figures: Figures
    rows: list[Row]
    unshown: str


class Size(NamedTuple):
    """How much is measured: lines where a subject counts them (None: its own number), and runs of which the median is
    taken."""

    lines: int | None
    runs: int

    def of(self, usual: int) -> int:
        return self.lines or usual


Subject = Callable[[Size], Found]


def median_of(runs: int, once: Callable[[], Figures]) -> Figures:
    """Each figure's median over so many runs."""
    found = [once() for _ in range(runs)]
    return {name: statistics.median(run[name] for run in found) for name in found[0]}


def show(name: str, found: Found) -> None:
    print(f"\n{name}")
    for row in found.rows:
        what, value, goal, met = row.cells()
        print(f"  {what:<72}{value:>10}   {goal:<9}{met}")
    print(f"  not shown: {found.unshown}", flush=True)


def markdown(subjects: dict[str, Found]) -> str:
    """The table as benchmarks/README.md carries it."""
    lines = ["| subject | what | value | goal | met |", "|---|---|---|---|---|"]
    for name, found in subjects.items():
        for row in found.rows:
            what, value, goal, met = row.cells()
            lines.append(f"| {name} | {what} | {value} | {goal} | {met} |")
        lines.append(f"| {name} | *not shown: {found.unshown}* | | | |")
    return "\n".join(lines)


def as_json(subjects: dict[str, Found], about: dict[str, Any]) -> str:
    found = {
        name: {
            "figures": one.figures,
            "rows": [{"what": row.what, "value": row.value, "goal": row.goal, "met": row.met} for row in one.rows],
            "not_shown": one.unshown,
        }
        for name, one in subjects.items()
    }
    return json.dumps({**about, "subjects": found}, indent=2) + "\n"


def load(path: Path) -> dict[str, Found]:
    """The subjects of a JSON that was written before."""
    return {
        name: Found(
            one["figures"], [Row(row["what"], row["value"], row["goal"]) for row in one["rows"]], one["not_shown"]
        )
        for name, one in json.loads(path.read_text())["subjects"].items()
    }
