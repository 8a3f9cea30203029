"""200 programs that ask how far a batch is, beside one that runs: the API's latencies, and what the batch pays for it.

On PostgreSQL, with one `web` and one `worker`. `python -m benchmarks.pollers LINES BARE_FIRST` does it once.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx

from benchmarks import ROOT, bareweb, pipeline
from benchmarks.polling import polling
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests import environment
from tests.hosts import Host
from tests.service import Service
from tests.witness import Witness

LINES, SLOTS, LATENCY_MS = 50_000, 64, (40, 60)
POLLERS, SECONDS = 200, 8.0
PATIENCE = 1800.0  # seconds for a batch
WAYS = {"paced": 2.0, "flat_out": 0.0}  # seconds between two requests of a poller
SIDES = ("ours", "bare")
WHEN = {"idle": "idle", "beside": "beside the batch"}
CALLED = {
    "paced": f"{POLLERS} pollers, a request each 2 s",
    "flat_out": f"{POLLERS} pollers, each at once again",
    "ours": "ours",
    "bare": "bare view",
}


def measure(size: Size) -> Found:
    turn = iter(range(size.runs))
    figures = median_of(size.runs, lambda: _apart(size.of(LINES), next(turn) % 2 == 1))
    rows = [Row(f"a batch of {size.of(LINES):,} lines alone, seconds", figures["alone"])]
    for way in WAYS:
        for when, called in WHEN.items():
            rows += _rows(figures, way, when)
            ratio = figures[f"{way}_ours_{when}_rate"] / figures[f"{way}_bare_{when}_rate"]
            rows.append(Row(f"{CALLED[way]}, {called}, ours / bare view: requests/s", ratio))
        for side in SIDES:
            what = f"{CALLED[way]}, {CALLED[side]}: the batch's time / alone"
            rows.append(Row(what, figures[f"{way}_{side}_batch"] / figures["alone"]))
    return Found(figures, rows, "a database and an upstream on machines of their own: all share two cores")


def _rows(figures: Figures, way: str, when: str) -> Iterator[Row]:
    for side in SIDES:
        for figure, unit in (("rate", "requests/s"), ("p50", "p50, ms"), ("p99", "p99, ms"), ("errors", "errors")):
            goal = "<= 0" if figure == "errors" else ""
            name = f"{CALLED[way]}, {WHEN[when]}, {CALLED[side]}: {unit}"
            yield Row(name, figures[f"{way}_{side}_{when}_{figure}"], goal)


def _apart(count: int, bare_first: bool) -> Figures:
    """Once, in a process of its own, whose database is PostgreSQL."""
    command = [sys.executable, "-m", "benchmarks.pollers", str(count), str(int(bare_first))]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TEST_DATABASE": "postgres"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


class Side(NamedTuple):
    """Who is asked."""

    name: str
    url: str
    key: str


class Bench(NamedTuple):
    """A service that is up, a tenant's client, its input."""

    service: Service
    client: httpx.Client
    content: bytes


def _once(count: int, bare_first: bool) -> Figures:
    with _hosts() as service, Witness(latency_ms=LATENCY_MS) as witness, bareweb.serving(service) as bare:
        witness.configure(log=False)
        model = pipeline.served(service, witness.base_url, SLOTS)
        client = pipeline.unthrottled(service, model)
        key = client.headers["Authorization"].removeprefix("Bearer ")
        sides = [Side("ours", f"{service.url}/v1/batch", key), Side("bare", f"{bare}/batch", key)]
        lines = pipeline.lines(count)
        for line in lines:
            line["body"]["model"] = model
        bench = Bench(service, client, "".join(json.dumps(line) + "\n" for line in lines).encode())
        return _figures(bench, sides[::-1] if bare_first else sides)


def _figures(bench: Bench, sides: list[Side]) -> Figures:
    """The batch alone, then for each way both sides by turns: idle, and beside a batch of their own."""
    figures = {"alone": _batch(bench)}
    ended = bench.client.get("/v1/batch?limit=1").json()["data"][0]["id"]
    for way, every in WAYS.items():
        for side in sides:
            name = f"{way}_{side.name}"
            _settle(bench.service)
            figures |= {f"{name}_idle_{key}": value for key, value in _idle(side, ended, every).items()}
            found: Figures = {}
            figures[f"{name}_batch"] = _batch(bench, side, every, found)
            figures |= {f"{name}_beside_{key}": value for key, value in found.items()}
    return figures


def _settle(service: Service) -> None:
    """Receipts are written, and the runners' loops have ended."""
    query = "SELECT (SELECT count(*) FROM batches_batch WHERE receipts_file_id IS NULL) + count(*) FROM batches_runner"
    _until(lambda: service.sql(query) == [(0,)])


def _idle(side: Side, batch: str, every: float) -> Figures:
    """Nothing runs."""
    with polling(side.url, batch, side.key, SECONDS, POLLERS, every, until=False) as figures:
        pass
    return figures


def _batch(bench: Bench, side: Side | None = None, every: float = 0.0, found: Figures | None = None) -> float:
    """Seconds from the batch's acceptance to its end, with pollers beside it; their figures into `found`."""
    answer = bench.client.post("/v1/batch", files={"file": ("bench.jsonl", bench.content)}, timeout=120)
    assert answer.status_code == 200, answer.text
    batch = answer.json()["id"]
    if side is None:
        return _seconds(bench.service, batch)
    with polling(side.url, batch, side.key, PATIENCE, POLLERS, every, until=True) as figures:
        took = _seconds(bench.service, batch)
    if found is not None:
        found |= figures
    return took


def _seconds(service: Service, batch: str) -> float:
    query = f"SELECT extract(epoch FROM ended_at - created_at), status FROM batches_batch WHERE public_id = '{batch}'"
    [(seconds, status)] = _until(lambda: [row for row in service.sql(query) if row[0] is not None])
    assert status == "completed", status
    return float(seconds)


def _until(condition: Callable[[], Any]) -> Any:
    """Wait for it; its first true value."""
    end = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.5)
    return value


@contextmanager
def _hosts() -> Iterator[Service]:
    """A web and a worker, on one home and a PostgreSQL."""
    service = Service("--no-model", name="pollers")
    service.manage("migrate", "-v0")
    environ = service.environ
    hosts = [Host("web", "--bind", "127.0.0.1:0", environ=environ, home=service.home)]
    hosts += [Host("worker", "--runners", "2", environ=environ, home=service.home)]
    try:
        service.url = hosts[0].start().ready
        hosts[1].start()
        yield service
    finally:
        for host in hosts:
            host.remove()
        service.remove()


if __name__ == "__main__":
    try:
        print(json.dumps(_once(int(sys.argv[1]), sys.argv[2] == "1")))
    finally:
        environment.remove()
