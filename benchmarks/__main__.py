"""`make bench`: the whole pipeline beside what users run today, and how full it keeps an upstream's slots.

Every figure is a ratio within one run: the machine's speed drifts, the ratio holds. Prints a table, writes
benchmarks/results/latest.json. The peers run in an environment of their own (benchmarks/requirements.txt); the slow
ones get a part of the file.
"""

import argparse
import json
import statistics
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests import environment
from tests.service import ROOT, Service, ended, running, upload
from tests.witness import Witness, request_line

RESULTS = Path(__file__).parent / "results" / "latest.json"
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEER_LINES = {"bare": None, "openai": 3000, "litellm": 1000}  # how much of the file each gets
SLOTS, LATENCY_MS, SLOT_LINES = 256, (200, 300), 10_000
GOALS = {"bare": 1.0, "openai": 10.0, "litellm": 30.0}


def lines(model: str, count: int) -> list[dict[str, Any]]:
    return [request_line(str(n), custom_id=f"line:{n}", model=model, pad=200) for n in range(count)]


def served(service: Service, witness: Witness, slots: int) -> str:
    """A model of its own on this witness."""
    model = f"bench-{time.time_ns()}"
    service.manage("upstream", "add", model, witness.base_url, "--max-in-flight", str(slots))
    witness.reset(keep_settings=True)  # the probe of the new upstream is no line
    return model


def seconds_of_run(service: Service, batch: str) -> float:
    """The run phase alone, by the batch's own timestamps."""
    rows = service.sql(f"SELECT in_progress_at, finalizing_at FROM batches_batch WHERE public_id = '{batch}'")
    first, last = (value if isinstance(value, datetime) else datetime.fromisoformat(value) for value in rows[0])
    return (last - first).total_seconds()


def ours(service: Service, count: int, slots: int, witness: Witness) -> tuple[float, float]:
    """Seconds from the upload to the finished output file, and of the run phase alone."""
    model = served(service, witness, slots)
    client = service.tenant(model)
    content = lines(model, count)
    started = time.perf_counter()
    batch = upload(client, content)
    done = ended(client, batch["id"], seconds=900)
    whole = time.perf_counter() - started
    assert done["completed_count"] == count, done
    return whole, seconds_of_run(service, batch["id"])


def peer(name: str, path: Path, witness: Witness) -> float:
    """Requests a second of a peer on the same file and upstream."""
    command = [str(PEERS_PYTHON), "-m", "benchmarks.peers", name, str(path), witness.base_url]
    command += [str(PEER_LINES[name])] if PEER_LINES[name] else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return float(found["lines"] / found["seconds"])


def throughput(service: Service, count: int) -> dict[str, float]:
    """`count` lines through everything on a zero-latency upstream, between runs of the peers."""
    with Witness() as witness:
        witness.configure(log=False)
        path = service.home / "bench.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines("bench", count)))
        before = peer("bare", path, witness)
        whole, run = ours(service, count, 64, witness)
        rates = {"bare": statistics.mean([before, peer("bare", path, witness)])}
        rates |= {name: peer(name, path, witness) for name in PEER_LINES if name != "bare"}
    return {
        "whole_per_second": count / whole,
        "run_per_second": count / run,
        "run_to_bare": count / run / rates["bare"],
        **{f"{name}_per_second": rate for name, rate in rates.items()},
        **{f"whole_to_{name}": count / whole / rate for name, rate in rates.items()},
    }


def slots(service: Service) -> dict[str, float]:
    """An upstream of 200 to 300 ms and 256 slots: how near the ideal the span comes."""
    with Witness(latency_ms=LATENCY_MS) as witness:
        whole, _ = ours(service, SLOT_LINES, SLOTS, witness)
        stats = witness.stats()
    ideal = SLOT_LINES * sum(LATENCY_MS) / 2 / 1000 / SLOTS
    return {
        "peak_in_flight": stats["peak_in_flight"],
        "whole_to_ideal": whole / ideal,
        "sending_to_ideal": (stats["last_at"] - stats["first_at"]) / ideal,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--lines", type=int, default=50_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with running("--no-model", "--runners", "2") as service:
        pairs = [throughput(service, options.lines) for _ in range(options.runs)]
        full = slots(service)
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "database": environment.DATABASE,
        "lines": options.lines,
        "throughput": {name: statistics.median(pair[name] for pair in pairs) for name in pairs[0]},
        "runs": pairs,
        "slots": full,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    _print(report)


def _print(report: dict[str, Any]) -> None:
    speed, full = report["throughput"], report["slots"]
    rows = [
        ("whole pipeline, requests/s", f"{speed['whole_per_second']:.0f}", ""),
        ("run phase alone, requests/s", f"{speed['run_per_second']:.0f}", ""),
        *((f"{name} loop, requests/s", f"{speed[f'{name}_per_second']:.0f}", "") for name in PEER_LINES),
        *(
            (f"whole pipeline / {name}", f"{speed[f'whole_to_{name}']:.2f}", f">= {goal}")
            for name, goal in GOALS.items()
        ),
        ("run phase / bare", f"{speed['run_to_bare']:.2f}", ">= 1.2"),
        (f"most in flight of {SLOTS} slots", f"{full['peak_in_flight']:.0f}", f"<= {SLOTS}"),
        ("whole span / (lines x latency / slots)", f"{full['whole_to_ideal']:.3f}", "<= 1.15"),
        ("sending span / (lines x latency / slots)", f"{full['sending_to_ideal']:.3f}", "<= 1.05"),
    ]
    print(f"{report['lines']} lines, {report['database']}, 2 runners, median of {len(report['runs'])}")
    for what, figure, goal in rows:
        print(f"  {what:<44}{figure:>10}   {goal}")


if __name__ == "__main__":
    try:
        main()
    finally:
        environment.remove()
