"""The whole pipeline on a zero-latency upstream beside what users run today, on the same file."""

import json
import statistics
import subprocess
from pathlib import Path

from benchmarks import ROOT, pipeline
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running
from tests.witness import Witness

LINES, SLOTS = 50_000, 64
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PEER_LINES = {"openai": 3000, "litellm": 1000}  # how much of the file each of the slow ones gets
GOALS = {"bare": 1.0, "openai": 10.0, "litellm": 30.0}
CALLED = {"bare": "bare aiohttp", "openai": "AsyncOpenAI", "litellm": "LiteLLM"}


def measure(size: Size) -> Found:
    with running("--no-model", "--runners", "2") as service:
        figures = median_of(size.runs, lambda: _once(service, size.of(LINES)))
    rows = [
        Row("whole pipeline, requests/s", figures["whole"]),
        Row("run phase alone, requests/s", figures["run"]),
        *(Row(f"{CALLED[name]} loop, requests/s", figures[name]) for name in GOALS),
        *(Row(f"whole pipeline / {CALLED[name]}", figures[f"whole_to_{name}"], f">= {GOALS[name]}") for name in GOALS),
        Row("run phase / bare aiohttp", figures["run_to_bare"], ">= 1.2"),
    ]
    return Found(figures, rows, "an upstream on another machine: here it shares the two cores with what is measured")


def _once(service: Service, count: int) -> Figures:
    """The bare loop before and after ours, so that drift falls on both; the slow peers last."""
    content = pipeline.lines(count)
    path = pipeline.written(service.home / "throughput.jsonl", content)
    with Witness() as witness:
        witness.configure(log=False)
        before = peer("bare", path, witness)
        took = pipeline.on(service, witness, content, SLOTS)
        rates = {"bare": statistics.mean([before, peer("bare", path, witness)])}
        rates |= {name: peer(name, path, witness, limit) for name, limit in PEER_LINES.items()}
    return {
        "whole": count / took.whole,
        "run": count / took.run,
        "run_to_bare": count / took.run / rates["bare"],
        **rates,
        **{f"whole_to_{name}": count / took.whole / rate for name, rate in rates.items()},
    }


def peer(name: str, path: Path, witness: Witness, limit: int | None = None) -> float:
    """Requests a second of a peer on the same file and upstream."""
    found = peers_figures(name, path, witness, limit)
    return found["lines"] / found["seconds"]


def peers_figures(name: str, path: Path, witness: Witness, limit: int | None = None) -> Figures:
    """A peer in its own environment: seconds, CPU seconds, lines."""
    command = [str(PEERS_PYTHON), "-m", "benchmarks.peers", name, str(path), witness.base_url]
    command += [str(limit)] if limit else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found
