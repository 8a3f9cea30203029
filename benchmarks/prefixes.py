"""Shared prefixes on the embedded model: the plan's chains beside the file's own, shuffled order."""

from dataclasses import dataclass

from benchmarks import llama, loops, pipeline
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, running

LINES, SIBLINGS, WORDS = 64, 4, 400  # 16 system prompts of some 2,900 bytes
CACHE_MIB = 2048

NAMES = {"bare": (0, SIBLINGS), "cache": (CACHE_MIB, SIBLINGS), "alone": (0, 1)}


def measure(size: Size) -> Found:
    count = max(size.of(LINES), 16)
    with running("--no-model", "--runners", "2") as service:
        figures: Figures = {}
        for name, (cache, siblings) in NAMES.items():
            found = median_of(size.runs, _Pair(service, count, cache, siblings))
            figures |= {f"{name}_{figure}": value for figure, value in found.items()}
    rows = [
        Row("shared, no RAM prompt cache: file order, seconds", figures["bare_file"]),
        Row("shared, no RAM prompt cache: file order / ours", figures["bare_speedup"], ">= 2.2"),
        Row("shared, 2 GB RAM prompt cache: file order / ours", figures["cache_speedup"], ">= 1.15"),
        Row("shared, no RAM prompt cache: share of prompt tokens cached", figures["bare_share"], ">= 0.65"),
        Row("shared, 2 GB RAM prompt cache: share of prompt tokens cached", figures["cache_share"], ">= 0.65"),
        Row("the same in file order: no cache", figures["bare_file_share"]),
        Row("the same in file order: 2 GB", figures["cache_file_share"]),
        Row("nothing shared: file order / ours", figures["alone_speedup"], ">= 0.98"),
    ]
    return Found(figures, rows, "an engine that shares prefix blocks between requests (vLLM, SGLang); two upstreams")


@dataclass
class _Pair:
    """File order by a bare loop, then ours, each on a fresh server; each run has a shuffle of its own.

    What file order loses hangs on how often siblings meet: no single shuffle may decide.
    """

    service: Service
    count: int
    cache: int
    siblings: int
    shuffle: int = 0

    def __call__(self) -> Figures:
        self.shuffle += 1
        content = llama.families(self.count, -(-self.count // self.siblings), WORDS, self.shuffle)
        path = pipeline.written(self.service.home / "prefixes.jsonl", content)
        with llama.serving(self.cache) as url:
            file = loops.bare(path, url, llama.SLOTS)
        with llama.serving(self.cache) as url:
            model = pipeline.served(self.service, url, llama.SLOTS, "--kind", "llamacpp")
            job = pipeline.run(self.service, model, content)
        return _compared(file, job)


def _compared(file: Figures, job: pipeline.Job) -> Figures:
    used = loops.tokens(job.answers())
    return {
        "file": file["seconds"],
        "ours": job.took.whole,
        "speedup": file["seconds"] / job.took.whole,
        "share": used["cached_tokens"] / used["prompt_tokens"],
        "file_share": file["cached_tokens"] / file["prompt_tokens"],
    }
