"""What each process counts of its work, for Prometheus: docs/metrics.md says what each means.

Without `--metrics` the counts stay in the process. With it every process writes its own into mapped files of one
folder, and the host's metrics child adds them up (docs/decisions/0042-metrics.md). No label names a tenant, or
anything a tenant chose: models and upstreams are the operator's.
"""

import os
from bisect import bisect_left
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.db import transaction
from prometheus_client import CollectorRegistry, Counter, Histogram, values

from batches import mapped
from batches.core.answers import Verdict

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's name for it
SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
STATUSES = {int(status): str(int(status)) for status in HTTPStatus}

mapped.install()
PROCESS = CollectorRegistry(auto_describe=True)


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"provocative_{name}", meaning, labels, registry=PROCESS)


class Tallied(Histogram):
    """A histogram that takes what was tallied elsewhere, many at once."""

    def add(self, counts: list[int], total: float) -> None:
        """`counts` of its buckets, the last of those above all bounds; `total` of what they are made of."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            if count:
                bucket.inc(count)
        self._sum.inc(total)


def _histogram(name: str, meaning: str, buckets: tuple[float, ...], *labels: str) -> Tallied:
    return Tallied(f"provocative_{name}", meaning, labels, buckets=buckets, registry=PROCESS)


REQUESTS = _counter("http_requests_total", "Requests that were answered.", "route", "method", "status")
DURATIONS = _histogram(
    "http_request_duration_seconds", "Until the answer began, bodies included.", SHORT, "route", "method"
)
UPLOADED = _counter("uploaded_bytes_total", "Bytes of files that were stored.")
LINES = _counter("lines_total", "Lines that ended, once committed.", "model", "outcome")
WASTED = _counter("wasted_answers_total", "Answers that came after their batch closed, or twice after a crash.")
TOKENS = _counter("tokens_total", "Tokens of charged lines; cached ones are a part of the input.", "model", "kind")
ATTEMPTS = _counter("upstream_attempts_total", "Answers, or what came of none.", "upstream", "model", "outcome")
RETRIES = _counter("upstream_retries_total", "Attempts after which a line is sent again.", "upstream", "model", "cause")
ANSWERS = _histogram(
    "upstream_answer_duration_seconds", "From sending a line to its whole answer.", LONG, "upstream", "model"
)
COMMITS = _histogram("commit_duration_seconds", "Of a group of results.", SHORT)
DATABASE_ERRORS = _counter("runner_database_errors_total", "Times that the database failed a runner.")
CLAIMED = _counter("slices_claimed_total", "Slices that runners took in hand.", "model")
STEPS = _histogram("step_duration_seconds", "Of validating, finalizing or sealing a batch.", LONG, "step")
ENDED = _counter("batches_ended_total", "Batches that came to their end.", "status")
WEBHOOKS = _counter("webhook_attempts_total", "Events that were sent to endpoints.", "outcome")
CHILD_EXITS = _counter("child_exits_total", "Children of the supervisor that ended unasked.", "child")
CHILD_WEDGES = _counter("child_wedges_total", "Children of the supervisor that hung and were killed.", "child")


def share(folder: Path) -> None:
    """Count in files of `folder` from here on, in this process and its children. Before anything was counted."""
    os.environ[FOLDER] = str(folder)
    values.ValueClass = values.MultiProcessValue()


def supervised(child: str) -> None:
    """Begin at 0, so that the first time is seen as one more."""
    CHILD_EXITS.labels(child)
    CHILD_WEDGES.labels(child)


def step(name: str) -> Any:
    """Measures what is done in its context."""
    return STEPS.labels(name).time()


def ended(status: str) -> None:
    """A batch has ended, once the transaction under way is committed."""
    transaction.on_commit(lambda: ENDED.labels(status).inc())


def committed(taken: list[tuple[str, dict[str, int]]], answers: int) -> None:
    """A group of so many `answers` is stored: by model, what was taken of it, by metering.MEASURES."""
    for model, lines in taken:
        for outcome in ("completed", "failed"):
            if lines[outcome]:
                LINES.labels(model, outcome).inc(lines[outcome])
        for kind in ("input", "cached", "output"):
            if tokens := lines[f"{kind}_tokens"]:
                TOKENS.labels(model, kind).inc(tokens)
    wasted = answers - sum(lines["completed"] + lines["failed"] for _, lines in taken)
    if wasted:
        WASTED.inc(wasted)


def _named(status: int | None) -> str:
    """An upstream may send any number: only what HTTP knows becomes a label."""
    return STATUSES.get(status or 0, "other")


class Tally:
    """The attempts of one runner at one upstream, until they are told: plain numbers, since each line passes here."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._delivered = self._refused = 0
        self._again: dict[str, int] = {}
        self._seconds = [0] * (len(LONG) + 1)
        self._total = 0.0

    def saw(self, verdict: Verdict, seconds: float) -> None:
        """An attempt has ended."""
        if verdict.delivered:
            self._delivered += 1
        elif verdict.final:
            self._refused += 1
        else:
            cause = verdict.code or _named(verdict.status)
            self._again[cause] = self._again.get(cause, 0) + 1
        self._seconds[bisect_left(LONG, seconds)] += 1
        self._total += seconds

    def tell(self, upstream: int, model: str) -> None:
        """Add them to what is exposed, and begin anew."""
        names = (str(upstream), model)
        retried = sum(self._again.values())
        for outcome, count in (("delivered", self._delivered), ("refused", self._refused), ("retried", retried)):
            if count:
                ATTEMPTS.labels(*names, outcome).inc(count)
        for cause, count in self._again.items():
            RETRIES.labels(*names, cause).inc(count)
        if any(self._seconds):
            ANSWERS.labels(*names).add(self._seconds, self._total)
        self._begin()
