"""What one scrape gets together. The database and the storage are asked at most every few seconds, however many ask."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Generic, TypeVar

from django.db import close_old_connections, connection
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from provocative import health
from provocative.exposition import counted, host, service
from provocative.exposition.gauges import Figure, Gauge, families
from tenants import scope

log = logging.getLogger(__name__)

DATABASE_FRESH, STORAGE_FRESH = 10.0, 60.0  # seconds that an answer is good for; each look at the storage is a write
PATIENCE = 8.0  # seconds, below Prometheus's own 10

DATABASE_UP = Gauge("database_up", "1: the service's figures were read; 0: the database gave none in time.")
STORAGE_UP = Gauge("storage_up", "1: the storage took a write and a delete; 0: it did not.")


Answer = TypeVar("Answer")


class Kept(Generic[Answer]):
    """A question that takes long: asked in a thread, one at a time, and again when its answer is old."""

    def __init__(self, ask: Callable[[], Answer], fresh: float) -> None:
        self._ask, self._fresh = ask, fresh
        self._thread = ThreadPoolExecutor(1)
        self._lock = threading.Lock()
        self._answer: Future[Answer] | None = None
        self._asked = 0.0

    def ask(self) -> "Future[Answer]":
        """The answer, when it is there."""
        with self._lock:
            now = time.monotonic()
            old = self._answer is None or (self._answer.done() and now - self._asked > self._fresh)
            if old:
                self._answer, self._asked = self._thread.submit(self._ask), now
            assert self._answer is not None
            return self._answer


def _given(answer: "Future[Answer]") -> Answer | None:
    """None: it failed, or still takes."""
    return answer.result() if answer.done() and not answer.exception() else None


class Collector:
    """The gauges of host and service."""

    def __init__(self, supervisor: int) -> None:
        self._supervisor = supervisor
        self._service = Kept(_service, DATABASE_FRESH)
        self._storage = Kept(_storage, STORAGE_FRESH)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As prometheus_client's collectors do."""
        service_, storage = self._service.ask(), self._storage.ask()  # at once: they may hang for one reason
        asked: tuple[Future[Any], ...] = (service_, storage)
        yield from families(host.GAUGES, host.read(self._supervisor))
        wait(asked, PATIENCE)
        figures, writable = _given(service_), _given(storage)
        yield from families(service.GAUGES, figures or [])
        up = [(DATABASE_UP, (), float(figures is not None)), (STORAGE_UP, (), float(bool(writable)))]
        yield from families((DATABASE_UP, STORAGE_UP), up)


class Exposed:
    """All that this host exposes; its processes count in `folder`."""

    def __init__(self, folder: Path, supervisor: int | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()  # files that are added up are not read meanwhile
        self._counts, self._gauges = CollectorRegistry(), CollectorRegistry()
        MultiProcessCollector(self._counts, path=str(folder))
        self._gauges.register(Collector(supervisor or os.getppid()))

    def text(self) -> bytes:
        """In Prometheus's text format."""
        with self._lock:
            counts = generate_latest(self._counts)
        return counts + generate_latest(self._gauges)

    def merge_dead(self) -> int:
        """Add up what dead processes counted; how many files went. Raises OSError."""
        with self._lock:
            return counted.merge_dead(self._folder)


def _storage() -> bool:
    return not health.storage()


def _service() -> list[Figure]:
    """In a thread of its own, with a connection of its own."""
    close_old_connections()
    try:
        with scope.every():
            return service.read()
    except Exception as error:
        log.warning("the service's metrics can't be read: %s", type(error).__name__)
        connection.close()
        raise
