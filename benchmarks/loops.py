"""The plain closed loop over the product's own client: no retries, order, receipts or durability.

`python -m benchmarks.loops FILE BASE_URL IN_FLIGHT` sends the file's lines in their order and prints what it took.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import uvloop

from batches.core import requests
from batches.engine.upstream import Client, Target
from benchmarks import ROOT


def bare(path: Path, base_url: str, in_flight: int) -> dict[str, float]:
    """Run the loop in a process of its own: seconds, CPU seconds, lines, and the tokens that the answers report."""
    command = [sys.executable, "-m", "benchmarks.loops", str(path), base_url, str(in_flight)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def tokens(bodies: Iterable[dict[str, Any]]) -> dict[str, float]:
    """What answers say they used."""
    total = {"prompt_tokens": 0.0, "completion_tokens": 0.0, "cached_tokens": 0.0}
    for body in bodies:
        usage = body.get("usage") or {}
        total["prompt_tokens"] += usage.get("prompt_tokens", 0)
        total["completion_tokens"] += usage.get("completion_tokens", 0)
        total["cached_tokens"] += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return total


async def _drain(source: IO[bytes], sink: IO[bytes], target: Target, in_flight: int) -> int:
    client, done = Client(), 0

    async def slot() -> None:
        nonlocal done
        for line in source:
            answer = await client.post(target, bytes(requests.sendable(line).body))
            assert answer.status == 200, answer
            sink.write(answer.body + b"\n")
            done += 1

    await asyncio.gather(*(slot() for _ in range(in_flight)))
    client.close()
    return done


def main() -> None:
    path, base_url, in_flight = sys.argv[1:]
    target = Target(base_url, "/v1/chat/completions")
    with open(path, "rb") as source, tempfile.TemporaryFile() as sink:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            started, cpu = time.perf_counter(), time.process_time()
            done = runner.run(_drain(source, sink, target, int(in_flight)))
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        sink.seek(0)
        used = tokens(json.loads(line) for line in sink)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "lines": done, **used}))


if __name__ == "__main__":
    main()
