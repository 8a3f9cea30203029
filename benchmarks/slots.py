"""How full an upstream's slots are kept: 200 to 300 ms an answer, 512 slots, and 256."""

from collections.abc import Sequence

from benchmarks import pipeline
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running
from tests.witness import Entry, Witness

LATENCY_MS = (200, 300)
CASES = {512: 30_000, 256: 10_000}  # slots: lines


def measure(size: Size) -> Found:
    figures: Figures = {}
    with running("--no-model", "--runners", "2") as service:
        for slots, count in CASES.items():
            found = median_of(size.runs, lambda s=slots, c=count: _once(service, size.of(c), s))  # type: ignore[misc]
            figures |= {f"{name}_{slots}": value for name, value in found.items()}
    rows = []
    for slots in CASES:
        of = f"{slots} slots:"
        rows += [
            Row(f"{of} most in flight", figures[f"peak_{slots}"], f"<= {slots}"),
            Row(f"{of} in flight / slots, from the first second to the tail", figures[f"full_{slots}"], ">= 0.98"),
            Row(f"{of} whole time / (lines x latency / slots)", figures[f"whole_{slots}"], "<= 1.05"),
            Row(f"{of} run phase / (lines x latency / slots)", figures[f"run_{slots}"]),
            Row(f"{of} from first to last line sent / the same", figures[f"sending_{slots}"]),
        ]
    return Found(figures, rows, "slots of several upstreams; an upstream whose latency rises with its load")


def _once(service: Service, count: int, slots: int) -> Figures:
    with Witness(latency_ms=LATENCY_MS) as witness:
        took = pipeline.on(service, witness, pipeline.lines(count), slots)
        log = witness.log()
        peak = witness.stats()["peak_in_flight"]
    ideal = count * sum(LATENCY_MS) / 2 / 1000 / slots
    first, last = log[0].at, log[-1].at
    return {
        "peak": peak,
        "full": _in_flight(log, min(first + 1.0, last), last) / slots,
        "whole": took.whole / ideal,
        "run": took.run / ideal,
        "sending": (last - first) / ideal,
    }


def _in_flight(log: Sequence[Entry], since: float, until: float) -> float:
    """How many were in flight on average between two moments."""
    inside = sum(max(0.0, min(entry.done_at or until, until) - max(entry.at, since)) for entry in log)
    return inside / max(until - since, 1e-9)
