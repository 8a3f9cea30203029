"""Memory of a runner above its start, with 512 lines in flight: flat in the batch's size."""

from benchmarks import pipeline, resources
from benchmarks.report import Figures, Found, Row, Size
from tests.service import running
from tests.witness import Witness

LINES, SLOTS = 50_000, 512
LATENCY_MS = (200, 300)


def measure(size: Size) -> Found:
    count = size.of(LINES)
    with running("--no-model", "--runners", "1") as service, Witness(latency_ms=LATENCY_MS) as witness:
        witness.configure(log=False)
        growth = resources.Growth(resources.runners(service))
        pipeline.on(service, witness, pipeline.lines(count // 10), SLOTS)
        tenth = growth.most()
        pipeline.on(service, witness, pipeline.lines(count), SLOTS)
        whole = growth.most()
        in_flight = witness.stats()["peak_in_flight"]
    figures: Figures = {"tenth": tenth, "whole": whole, "in_flight": in_flight}
    rows = [
        Row("most lines in flight", in_flight),
        Row(f"peak above start after {count // 10:,} lines, MB", tenth),
        Row(f"peak above start after {count:,} lines, MB", whole, "<= 150"),
    ]
    return Found(figures, rows, "long prompts and answers: at most 256 MB of slices and 8 MB of answers more")
