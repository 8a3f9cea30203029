"""More runners: two where the CPU is the limit, four where each may have so many lines in flight.

The product has no limit for a runner: an upstream's slots are shared by those that live. So an upstream with 16 slots
for each runner gives each 16, and its latency fixes how fast each can be.
"""

from benchmarks import pipeline
from benchmarks.report import Found, Row, Size, median_of
from tests.service import running
from tests.witness import Witness

LINES, SLOTS = 30_000, 64
CAPPED_LINES, CAP, LATENCY_MS = 4_000, 16, 100


def measure(size: Size) -> Found:
    bound = median_of(size.runs, lambda: {str(n): _cpu_bound(n, size.of(LINES)) for n in (1, 2)})
    capped = median_of(size.runs, lambda: {str(n): _capped(n, size.of(CAPPED_LINES)) for n in (1, 4)})
    figures = {f"bound_{n}": rate for n, rate in bound.items()} | {f"capped_{n}": rate for n, rate in capped.items()}
    figures |= {"bound_ratio": bound["2"] / bound["1"], "capped_ratio": capped["4"] / capped["1"]}
    rows = [
        Row("CPU-bound, one runner, run phase, requests/s", bound["1"]),
        Row("CPU-bound, 1 -> 2 runners", figures["bound_ratio"], ">= 1.5"),
        Row(f"{CAP} in flight a runner, {LATENCY_MS} ms: one runner, requests/s", capped["1"]),
        Row(f"{CAP} in flight a runner, {LATENCY_MS} ms: 1 -> 4 runners", figures["capped_ratio"], ">= 3.8"),
    ]
    return Found(figures, rows, "runners on several machines; more cores than the upstream and two runners need")


def _cpu_bound(runners: int, count: int) -> float:
    with running("--no-model", "--runners", str(runners)) as service, Witness() as witness:
        witness.configure(log=False)
        return count / pipeline.on(service, witness, pipeline.lines(count), SLOTS).run


def _capped(runners: int, count: int) -> float:
    latency = (LATENCY_MS, LATENCY_MS)
    with running("--no-model", "--runners", str(runners)) as service, Witness(latency_ms=latency) as witness:
        witness.configure(log=False)
        return count / pipeline.on(service, witness, pipeline.lines(count), CAP * runners).run
