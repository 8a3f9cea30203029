"""`make bench`: the whole pipeline beside a bare loop on the same file and upstream, and how full slots are kept.

Every figure is a ratio within one run: the machine's speed drifts, the ratio holds. Prints a table, writes
benchmarks/results/latest.json. `--runs N` repeats the throughput pair and takes the median.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.bare import run as bare_run
from tests import environment
from tests.service import Service, ended, running, upload
from tests.witness import Witness, request_line

RESULTS = Path(__file__).parent / "results" / "latest.json"
SLOTS, LATENCY_MS = 256, (200, 300)


def lines(model: str, count: int) -> list[dict[str, Any]]:
    return [request_line(str(n), custom_id=f"line:{n}", model=model, pad=200) for n in range(count)]


def seconds_of(service: Service, batch: str) -> float:
    """The run phase alone, by the batch's own timestamps."""
    rows = service.sql(f"SELECT in_progress_at, finalizing_at FROM batches_batch WHERE public_id = '{batch}'")
    first, last = (value if isinstance(value, datetime) else datetime.fromisoformat(value) for value in rows[0])
    return (last - first).total_seconds()


def throughput(service: Service, count: int) -> dict[str, float]:
    """`count` lines through everything, zero-latency upstream, and the bare loop on the same file before and after."""
    with Witness() as witness:
        witness.configure(log=False)
        model = f"zero-{time.time_ns()}"
        service.manage("upstream", "add", model, witness.base_url, "--max-in-flight", "64")
        client = service.tenant(model)
        path = service.home / "bench.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines(model, count)))
        before = _bare(path, witness)
        started = time.perf_counter()
        batch = upload(client, lines(model, count))
        done = ended(client, batch["id"], seconds=600)
        whole = time.perf_counter() - started
        assert done["completed_count"] == count, done
        bare = statistics.mean([before, _bare(path, witness)])
        run = seconds_of(service, batch["id"])
    return {
        "lines": count,
        "bare_per_second": count / bare,
        "whole_per_second": count / whole,
        "run_per_second": count / run,
        "whole_to_bare": bare / whole,
        "run_to_bare": bare / run,
    }


def _bare(path: Path, witness: Witness) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bare_run(str(path), witness.base_url))


def slots(service: Service, count: int) -> dict[str, float]:
    """`count` lines on an upstream of 200 to 300 ms and 256 slots: how near the ideal the whole span comes."""
    with Witness(latency_ms=LATENCY_MS) as witness:
        model = f"slow-{time.time_ns()}"
        service.manage("upstream", "add", model, witness.base_url, "--max-in-flight", str(SLOTS))
        witness.reset(keep_settings=True)  # the probe of the new upstream is no line
        client = service.tenant(model)
        started = time.perf_counter()
        batch = upload(client, lines(model, count))
        done = ended(client, batch["id"], seconds=600)
        whole = time.perf_counter() - started
        assert done["completed_count"] == count, done
        stats = witness.stats()
    ideal = count * sum(LATENCY_MS) / 2 / 1000 / SLOTS
    sending = stats["last_at"] - stats["first_at"]
    return {
        "lines": count,
        "peak_in_flight": stats["peak_in_flight"],
        "ideal_seconds": ideal,
        "whole_to_ideal": whole / ideal,
        "sending_to_ideal": sending / ideal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with running("--no-model", "--runners", "2") as service:
        pairs = [throughput(service, options.lines) for _ in range(options.runs)]
        full = slots(service, options.lines)
    median = {name: statistics.median(pair[name] for pair in pairs) for name in pairs[0]}
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "database": environment.DATABASE,
        "throughput": median,
        "throughput_runs": pairs,
        "slots": full,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    _print(report)


def _print(report: dict[str, Any]) -> None:
    speed, full = report["throughput"], report["slots"]
    rows = [
        ("bare aiohttp loop, requests/s", f"{speed['bare_per_second']:.0f}", ""),
        ("whole pipeline, requests/s", f"{speed['whole_per_second']:.0f}", ""),
        ("run phase alone, requests/s", f"{speed['run_per_second']:.0f}", ""),
        ("whole pipeline / bare loop", f"{speed['whole_to_bare']:.2f}", ">= 1.0"),
        ("run phase / bare loop", f"{speed['run_to_bare']:.2f}", ">= 1.2"),
        (f"most in flight of {SLOTS} slots", f"{full['peak_in_flight']:.0f}", f"<= {SLOTS}"),
        ("whole span / (lines x latency / slots)", f"{full['whole_to_ideal']:.3f}", "<= 1.15"),
        ("sending span / (lines x latency / slots)", f"{full['sending_to_ideal']:.3f}", ""),
    ]
    print(f"{speed['lines']:.0f} lines, {report['database']}, 2 runners", file=sys.stdout)
    for what, figure, goal in rows:
        print(f"  {what:<44}{figure:>10}   {goal}")


if __name__ == "__main__":
    try:
        main()
    finally:
        environment.remove()
