"""How soon after a submit the first result is visible, on a system that has been idle."""

import time

import httpx

from benchmarks import pipeline
from benchmarks.report import Found, Row, Size, median_of
from tests.service import running, upload
from tests.witness import Witness

TIMES = 5
IDLE = 7.0  # seconds before each: the runners' loops have ended


def measure(size: Size) -> Found:
    with running("--no-model", "--runners", "2") as service, Witness() as witness:
        model = pipeline.served(service, witness.base_url, 64)
        client = pipeline.unthrottled(service, model)
        figures = median_of(TIMES, lambda: {"seconds": _once(client, model)})
    rows = [Row("from POST to completed_count = 1, one line, seconds", figures["seconds"], "<= 1")]
    return Found(figures, rows, "a first result of a large file, which is validated whole before any line is sent")


def _once(client: httpx.Client, model: str) -> float:
    time.sleep(IDLE)
    content = pipeline.lines(1)
    content[0]["body"]["model"] = model
    started = time.perf_counter()
    batch = upload(client, content)
    while not client.get(f"/v1/batch/{batch['id']}").json()["completed_count"]:
        assert time.perf_counter() - started < 60, "it never came"
        time.sleep(0.01)
    return time.perf_counter() - started
