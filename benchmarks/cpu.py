"""CPU of the runners for a line, beside that of a bare loop over the same client."""

import statistics

from benchmarks import loops, pipeline, resources
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running
from tests.witness import Witness

LINES, SLOTS = 20_000, 64


def measure(size: Size) -> Found:
    with running("--no-model", "--runners", "2") as service:
        figures = median_of(size.runs, lambda: _once(service, size.of(LINES)))
    rows = [
        Row("the product's client in a bare loop, CPU µs a line", figures["bare"]),
        Row("runners' cluster, CPU µs a line", figures["ours"]),
        Row("runners / bare loop", figures["ratio"], "<= 2"),
    ]
    return Found(figures, rows, "the CPU of web and chores: upload, validation, output file")


def _once(service: Service, count: int) -> Figures:
    content = pipeline.lines(count)
    path = pipeline.written(service.home / "cpu.jsonl", content)
    with Witness() as witness:
        witness.configure(log=False)
        before = _bare(str(path), witness)
        pids = resources.runners(service)
        started = resources.cpu_seconds(pids)
        pipeline.on(service, witness, content, SLOTS)
        ours = (resources.cpu_seconds(pids) - started) / count * 1e6
        bare = statistics.mean([before, _bare(str(path), witness)])
    return {"bare": bare, "ours": ours, "ratio": ours / bare}


def _bare(path: str, witness: Witness) -> float:
    found = loops.bare(path, witness.base_url, SLOTS)
    return found["cpu"] / found["lines"] * 1e6
