"""Lines through the whole product: a service, a model of its own on an upstream, a batch, and what it took.

`python -m benchmarks.pipeline BASE_URL LINES` does it once, on the database that TEST_DATABASE names.
"""

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests import environment
from tests.service import Service, ended, output, running
from tests.witness import Witness, request_line

PATIENCE = 3600.0  # seconds for a batch


class Took(NamedTuple):
    """Seconds from the upload's first byte to the finished output file, and of the run phase alone."""

    whole: float
    run: float


class Job(NamedTuple):
    """A finished batch: what it took, its id, and its tenant's client."""

    took: Took
    batch: str
    client: httpx.Client

    def answers(self) -> list[dict[str, Any]]:
        """The upstream's answers, in input order."""
        return [line["response"]["body"] for line in output(self.client, self.batch)]


def lines(count: int, pad: int = 200) -> list[dict[str, Any]]:
    return [request_line(str(n), custom_id=f"line:{n}", model="bench", pad=pad) for n in range(count)]


def written(path: Path, content: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in content))
    return path


def served(service: Service, base_url: str, slots: int, *options: str) -> str:
    """A model of its own on this upstream."""
    model = f"bench-{time.time_ns()}"
    service.manage("upstream", "add", model, base_url, "--max-in-flight", str(slots), *options)
    return model


def unthrottled(service: Service, name: str) -> httpx.Client:
    """A new tenant's API, for who asks thousands of times a second."""
    client = service.tenant(name)
    service.manage("tenant", "set", name, "--requests-per-minute", "1000000000")
    return client


def run(service: Service, model: str, content: list[dict[str, Any]]) -> Job:
    """Submit the lines for `model` and wait for the output."""
    client = service.tenant(f"tenant-{time.time_ns()}")
    for line in content:
        line["body"]["model"] = model
    return run_file(service, client, "".join(json.dumps(line) + "\n" for line in content).encode(), len(content))


def run_file(service: Service, client: httpx.Client, data: bytes, count: int) -> Job:
    started = time.perf_counter()
    answer = client.post("/v1/batch", files={"file": ("bench.jsonl", data)}, timeout=120)
    assert answer.status_code == 200, answer.text
    done = ended(client, answer.json()["id"], seconds=PATIENCE)
    whole = time.perf_counter() - started
    assert done["completed_count"] == count, done
    return Job(Took(whole, seconds_of_run(service, done["id"])), done["id"], client)


def seconds_of_run(service: Service, batch: str) -> float:
    """The run phase alone, by the batch's own timestamps."""
    rows = service.sql(f"SELECT in_progress_at, finalizing_at FROM batches_batch WHERE public_id = '{batch}'")
    first, last = (value if isinstance(value, datetime) else datetime.fromisoformat(value) for value in rows[0])
    return (last - first).total_seconds()


def on(service: Service, witness: Witness, content: list[dict[str, Any]], slots: int) -> Took:
    """The lines through the product on a witness, whose counters start anew."""
    model = served(service, witness.base_url, slots)
    witness.reset(keep_settings=True)  # the probe of the new upstream is no line
    return run(service, model, content).took


def main() -> None:
    base_url, count = sys.argv[1], int(sys.argv[2])
    with running("--no-model", "--runners", "2") as service:
        took = run(service, served(service, base_url, 64), lines(count)).took
    print(json.dumps(took._asdict()))


if __name__ == "__main__":
    try:
        main()
    finally:
        environment.remove()
