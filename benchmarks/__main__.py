"""`make bench`: everything that PERFORMANCE.md's table promises, measured, beside its goal.

`python -m benchmarks [SUBJECT …] [--lines N] [--runs N] [--markdown] [--json PATH]`. Every figure is a ratio within one
run: the machine's speed drifts, the ratio holds. Prints a table, writes benchmarks/results/latest.json.
"""

import argparse
import importlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report import Found, Size, as_json, load, markdown, show
from tests import environment

RESULTS = Path(__file__).parent / "results" / "latest.json"
SUBJECTS = (
    "throughput",
    "postgres",
    "cpu",
    "slots",
    "model",
    "prefixes",
    "validate",
    "upload",
    "reading",
    "pollers",
    "pages",
    "console",
    "first",
    "memory",
    "scaling",
    "growth",
)


def _measured(name: str, size: Size) -> Found:
    subject = importlib.import_module(f"benchmarks.{name}")
    try:
        found: Found = subject.measure(size)
    except Exception as error:  # the other subjects are measured all the same
        found = Found({}, [], f"anything: it broke off with {type(error).__name__}: {error}"[:400])
    show(name, found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"{', '.join(SUBJECTS)}; all when none is named")
    parser.add_argument("--lines", type=int, help="instead of each subject's own number")
    parser.add_argument("--runs", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--markdown", action="store_true", help="print the table of the last JSON, and measure nothing")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="PATH")
    options = parser.parse_args()
    if options.markdown:
        print(markdown(load(options.json)))
        return
    if unknown := set(options.subjects) - set(SUBJECTS):
        parser.error(f"there is no subject {', '.join(sorted(unknown))}; there are {', '.join(SUBJECTS)}")
    size = Size(options.lines, options.runs)
    about = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "lines": options.lines,
        "runs": options.runs,
    }
    found: dict[str, Found] = {}
    for name in SUBJECTS:
        if not options.subjects or name in options.subjects:
            found[name] = _measured(name, size)
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(as_json(found, about))  # after each subject: a run that breaks off keeps the others
    if broken := [name for name, one in found.items() if not one.rows]:
        sys.exit(f"not measured: {', '.join(broken)}")
    if missed := [row.what for one in found.values() for row in one.rows if row.is_counted and row.met is False]:
        sys.exit(f"too many: {'; '.join(missed)}")  # what is counted is the same on every machine


if __name__ == "__main__":
    try:
        main()
    finally:
        environment.remove()
