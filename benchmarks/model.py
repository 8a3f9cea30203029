"""The embedded model: tokens a second through the product beside a bare closed loop on the same server."""

import statistics

from benchmarks import llama, loops, pipeline
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running

LINES, MAX_TOKENS = 64, 16
CACHE_MIB = 512  # as the product starts it


def measure(size: Size) -> Found:
    count = size.of(LINES)
    with running("--no-model", "--runners", "2") as service:
        figures = median_of(size.runs, lambda: _once(service, count))
    rows = [
        Row("tokens/s, bare closed loop", figures["bare_tokens"]),
        Row("tokens/s through the product, run phase / bare loop", figures["run_to_bare"], ">= 0.98"),
        Row("tokens/s from upload to output file / bare loop", figures["whole_to_bare"]),
    ]
    return Found(figures, rows, "longer batches: the start and the end of a run weigh less there")


def _once(service: Service, count: int) -> Figures:
    """Bare, ours, bare: what the machine drifts meanwhile falls on both. Other questions each time, cached nowhere."""
    with llama.serving(CACHE_MIB) as url:
        before = _bare(service, url, "before", count)
        model = pipeline.served(service, url, llama.SLOTS, "--kind", "llamacpp")
        job = pipeline.run(service, model, _questions("ours", count))
        answered = loops.tokens(job.answers())["completion_tokens"]
        bare = statistics.mean([before, _bare(service, url, "after", count)])
    return {
        "bare_tokens": bare,
        "run_to_bare": answered / job.took.run / bare,
        "whole_to_bare": answered / job.took.whole / bare,
    }


def _bare(service: Service, url: str, seed: str, count: int) -> float:
    path = pipeline.written(service.home / "model.jsonl", _questions(seed, count))
    found = loops.bare(path, url, llama.SLOTS)
    return found["completion_tokens"] / found["seconds"]


def _questions(seed: str, count: int) -> list[dict[str, object]]:
    """Of equal length, and of little but questions: a story goes on until its tokens are spent."""
    return [
        llama.line(n, MAX_TOKENS, "", f"Write a long story about: {llama.text((seed, n), 12)}") for n in range(count)
    ]
