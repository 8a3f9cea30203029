"""The witness's process: its book of what it saw, the control routes, the command line."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import random
import signal
import stat
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from operator import attrgetter
from typing import Any
from urllib.parse import parse_qs

from . import faults
from .faults import Ask, Reply, Step
from .server import TRAP, Connection, Head

PR_SET_PDEATHSIG = 1
GOOD = ("200", "drip")  # statuses of requests that got a good answer
MODEL_LIST = b'{"object":"list","data":[{"id":"witness","object":"model","created":0,"owned_by":"witness"}]}'


@dataclass(slots=True)
class Settings:
    """What POST /witness/configure sets."""

    latency_ms: tuple[float, float] = (0, 0)
    slots: int | None = None
    tokens: int | None = None
    fault_rates: Mapping[str, float] = field(default_factory=dict)
    lasting_rates: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    log: bool = True
    samples: bool = False
    down: bool = False
    required_key: str | None = None

    def __post_init__(self) -> None:
        low, high = self.latency_ms
        if not 0 <= low <= high:
            raise ValueError(f"latency_ms {self.latency_ms} is not [low, high]")
        for rates in (self.fault_rates, self.lasting_rates):
            wrong = [kind for kind in rates if not faults.known(kind)]
            if wrong or not 0 <= sum(rates.values()) <= 1 + 1e-9:
                raise ValueError(f"unknown kinds {wrong}, or rates that do not add up to 0..1: {rates}")


@dataclass(slots=True)
class Record:
    """One request received; `status` is None while in flight, `fault` is what was decided for it."""

    n: int
    marker: str
    path: str
    at: float
    attempt: int
    in_flight: int
    authorization: str | None
    auth_ok: bool
    user_agent: str | None
    body_sha256: str
    connection: int
    done_at: float | None = None
    status: str | None = None
    fault: str | None = None


FIELDS = [each.name for each in fields(Record)]
VALUES = attrgetter(*FIELDS)


class Book:
    """Settings, log and counters; one for all connections."""

    def __init__(self, settings: Settings) -> None:
        self.first_settings = self.settings = settings
        self.in_flight = self.serial = self.connection_numbers = 0
        self.connections: set[Connection] = set()
        self.reset()

    def reset(self, keep_settings: bool = False) -> None:
        """Forget every request; the settings go back to those of the start unless kept."""
        if not keep_settings:
            self.settings = self.first_settings
        self.rng = random.Random(self.settings.seed)
        self.records: list[Record] = []
        self.attempts: dict[str, int] = {}
        self.answered: dict[str, int] = {}  # good answers that were sent to their end
        self.arrived: dict[str, float] = {}
        self.endings: Counter[str] = Counter()  # of requests: what was decided for each, and how it ended
        self.samples: list[tuple[float, int]] = []
        self.requests = self.refused = self.malformed = 0
        self.peak = self.in_flight
        self.first_at: float | None = None
        self.last_at: float | None = None

    def configure(self, changes: dict[str, Any]) -> None:
        """Change the settings given; going down drops every connection that has carried a request."""
        self.settings = replace(self.settings, **changes)
        if "seed" in changes:
            self.rng = random.Random(self.settings.seed)
        if self.settings.down:
            for connection in [each for each in self.connections if each.number]:
                connection.drop()

    def next_connection(self) -> int:
        self.connection_numbers += 1
        return self.connection_numbers

    def latency(self) -> float:
        low, high = self.settings.latency_ms
        return self.rng.uniform(low, high) / 1000 if high else 0.0

    def arrive(self, head: Head, body: bytes, marker: str, connection: int, works: bool) -> Record:
        """Note a request; one that `works` is in flight until it is finished."""
        now = time.time()
        settings = self.settings
        attempt = self.attempts[marker] = self.attempts.get(marker, 0) + 1
        self.arrived[marker] = now
        self.serial += 1
        self.requests += 1
        if works:
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        self.first_at = self.first_at or now
        self._touch(now)
        auth_ok = settings.required_key is None or head.authorization == f"Bearer {settings.required_key}"
        digest = sha256(body).hexdigest() if settings.log else ""
        where = (head.authorization, auth_ok, head.user_agent, digest, connection)
        record = Record(self.requests, marker, head.path, now, attempt, self.in_flight, *where)
        if settings.log:
            self.records.append(record)
        return record

    def finish(self, record: Record, status: str, works: bool) -> None:
        now = time.time()
        record.status, record.done_at = status, now
        self.endings[f"{record.fault or 'none'} {status}"] += 1
        if status in GOOD:
            self.answered[record.marker] = self.answered.get(record.marker, 0) + 1
        self.in_flight -= works
        self._touch(now)

    def _touch(self, now: float) -> None:
        self.last_at = now
        if self.settings.samples:
            self.samples.append((now, self.in_flight))

    def refusal(self, head: Head, record: Record, works: bool) -> Reply | None:
        """The answer that needs no decision: a side route, a wrong key, no free slot."""
        slots = self.settings.slots
        if head.path == TRAP:
            return Reply(faults.http(200, faults.answer(Ask(faults.CHAT, "trap", "trap", 0, self.serial, record.at))))
        if not record.auth_ok:
            return Reply(faults.error(401, "witness: wrong API key", "invalid_api_key"), "401")
        if not works:
            return side_route(head)
        if slots is not None and record.in_flight > slots:
            return Reply(faults.error(429, "witness: no free slot", "rate_limit_exceeded"), "429")
        return None

    def decide(self, record: Record, body: bytes) -> Step | None:
        now = self.settings
        return faults.decide(record.marker, record.attempt, body, now.fault_rates, now.lasting_rates, now.seed)

    def stats(self) -> dict[str, Any]:
        counts: dict[str, Any] = {"requests": self.requests, "peak_in_flight": self.peak, "in_flight": self.in_flight}
        counts |= {"markers": len(self.attempts.keys() - {"-", "trap"})}
        counts |= {"refused": self.refused, "malformed": self.malformed, "endings": self.endings}
        return counts | {"first_at": self.first_at, "last_at": self.last_at, "in_flight_samples": self.samples}

    def plan(self, marker: str) -> dict[str, Any]:
        """What the rates hold for a marker: its lasting fault and those of its first ten attempts."""
        now = self.settings
        fate = faults.lasting(marker, now.lasting_rates, now.seed)
        return {"marker": marker, "lasting": fate, "passing": faults.passing(marker, now.fault_rates, now.seed, 10)}

    def control(self, head: Head, body: bytes) -> bytes:
        """Answer a control route."""
        routes: dict[str, Callable[[], Any]] = {
            "GET /witness/log": lambda: [dict(zip(FIELDS, VALUES(record), strict=True)) for record in self.records],
            "GET /witness/stats": self.stats,
            "GET /witness/markers": lambda: self.attempts,
            "GET /witness/lines": lambda: {
                marker: (self.answered.get(marker, 0), at) for marker, at in self.arrived.items()
            },
            "GET /witness/plan": lambda: self.plan(parse_qs(head.query).get("marker", ["-"])[0]),
            "POST /witness/reset": lambda: self.reset(**json.loads(body or b"{}")),
            "POST /witness/configure": lambda: self.configure(json.loads(body)),
        }
        route = routes.get(f"{head.method} {head.path}")
        if route is None:
            return faults.error(404, "witness: no such control route")
        try:
            return faults.http(200, json.dumps(route()).encode())
        except (TypeError, ValueError, AttributeError) as wrong:
            return faults.error(400, f"witness: {wrong}")


def side_route(head: Head) -> Reply:
    """Whatever is no POST to a work route: the list of models, or the status of a wrong request."""
    if (head.method, head.path) == ("GET", "/v1/models"):
        return Reply(faults.http(200, MODEL_LIST))
    status = 405 if head.path in faults.SHAPES or head.path == "/v1/models" else 404
    return Reply(faults.error(status, f"witness: {head.method} {head.path}"), str(status), "fin")


def stop_with_parent(loop: asyncio.AbstractEventLoop, stop: Callable[[], None]) -> None:
    """Stop on SIGTERM or SIGINT, on the end of a piped stdin, and when the parent process (not just a thread of it) ends."""
    parent = os.getppid()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(signal.SIGINT, stop)
    loop.add_signal_handler(signal.SIGUSR1, lambda: stop() if os.getppid() != parent else None)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        loop.add_reader(0, lambda: None if os.read(0, 4096) else stop())


def fastest_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def serve(settings: Settings, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    book = Book(settings)
    server = await loop.create_server(lambda: Connection(book, loop), host, port, backlog=4096)
    stop_with_parent(loop, stopped.set)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await stopped.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.witness", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, nargs=2, default=(0, 0), metavar=("LOW", "HIGH"))
    parser.add_argument("--slots", type=int, help="more requests in flight than this are answered 429")
    parser.add_argument("--tokens", type=int, help="completion tokens of every answer")
    given = parser.parse_args()
    settings = Settings(latency_ms=tuple(given.latency_ms), slots=given.slots, tokens=given.tokens)
    with asyncio.Runner(loop_factory=fastest_loop) as runner:
        runner.run(serve(settings, given.host, given.port))


if __name__ == "__main__":
    main()
