"""CPU of the runners for a line, beside that of a bare loop over the same client."""

import statistics
from pathlib import Path

from benchmarks import loops, pipeline, resources
from benchmarks.report import Figures, Found, Row, Size, median_of
from benchmarks.throughput import peers_figures
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
        Row("runners / bare aiohttp loop", figures["to_aiohttp"]),
    ]
    return Found(figures, rows, "the CPU of web and chores: upload, validation, output file")


def _once(service: Service, count: int) -> Figures:
    content = pipeline.lines(count)
    path = pipeline.written(service.home / "cpu.jsonl", content)
    with Witness() as witness:
        witness.configure(log=False)
        before = _bare(path, witness)
        aiohttp = peers_figures("bare", path, witness)
        pids = resources.runners(service)
        started = resources.cpu_seconds(pids)
        pipeline.on(service, witness, content, SLOTS)
        ours = (resources.cpu_seconds(pids) - started) / count * 1e6
        bare = statistics.mean([before, _bare(path, witness)])
    to_aiohttp = ours / (aiohttp["cpu"] / aiohttp["lines"] * 1e6)
    return {"bare": bare, "ours": ours, "ratio": ours / bare, "to_aiohttp": to_aiohttp}


def _bare(path: Path, witness: Witness) -> float:
    found = loops.bare(path, witness.base_url, SLOTS)
    return found["cpu"] / found["lines"] * 1e6
