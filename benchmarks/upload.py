"""An upload of 100 MB: memory of the web process, and time beside a copy through Django's TemporaryFileUploadHandler."""

import statistics
import time
from pathlib import Path

import httpx

from benchmarks import bareweb, large, resources
from benchmarks.report import Figures, Found, Row, Size, median_of
from tests.service import Service, ended, running

PATIENCE = 300.0  # seconds


def measure(size: Size) -> Found:
    with running("--no-model", "--runners", "1") as service, bareweb.serving(service) as url:
        path = large.written(service.home / "large.jsonl", size.of(large.LINES))
        tiny = large.written(service.home / "tiny.jsonl", 1)
        for each in (tiny, tiny):  # what is loaded once is part of the start
            _copy(url, each)
            _ours(service, each)
        figures = median_of(size.runs, lambda: _once(service, url, path))
        megabytes = path.stat().st_size / 1024 / 1024
    rows = [
        Row("the file, MB", megabytes),
        Row("bare copy through TemporaryFileUploadHandler, MB/s", megabytes / figures["bare"]),
        Row("POST /v1/batch / bare copy, seconds", figures["ratio"], "<= 2"),
        Row("web memory above start at its peak, MB", figures["grown"], "<= 32"),
    ]
    return Found(figures, rows, "many uploads at once; S3. Ours is hashed, counted and fsynced, the bare copy is not")


def _once(service: Service, url: str, path: Path) -> Figures:
    before = _copy(url, path)
    growth = resources.Growth(resources.web(service))
    ours = _ours(service, path)
    grown = growth.most()
    copy = statistics.mean([before, _copy(url, path)])
    return {"bare": copy, "ours": ours, "ratio": ours / copy, "grown": grown}


def _copy(url: str, path: Path) -> float:
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE) as client:
        return _send(client, "/upload", path)[0]


def _ours(service: Service, path: Path) -> float:
    """The time of the POST alone; then its validation is waited for, so that it disturbs nothing. It fails: no model."""
    client = service.tenant(f"upload-{time.time_ns()}")
    client.timeout = PATIENCE
    seconds, answer = _send(client, "/v1/batch", path)
    assert ended(client, answer.json()["id"], seconds=PATIENCE)["status"] == "failed"
    return seconds


def _send(client: httpx.Client, address: str, path: Path) -> tuple[float, httpx.Response]:
    data = path.read_bytes()
    started = time.perf_counter()
    answer = client.post(address, files={"file": ("large.jsonl", data)})
    seconds = time.perf_counter() - started
    assert answer.status_code == 200, answer.text
    return seconds, answer
