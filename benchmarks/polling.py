"""Programs that ask how far a batch is: `python -m benchmarks.polling URL BATCH KEY SECONDS POLLERS EVERY UNTIL`.

Each of POLLERS keeps a connection and asks every EVERY seconds, from a moment of its own on, for URL/BATCH, and each
tenth time for the list at URL; with EVERY 0 at once again. A latency counts from the moment it was due. It ends after
SECONDS, and with UNTIL 1 for who saw that the batch has ended. Prints JSON: requests a second, p50 and p99 in ms,
errors.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks import ROOT

LIST_EACH = 10
Figures = dict[str, float]


@contextmanager
def polling(
    url: str, batch: str, key: str, seconds: float, pollers: int, every: float, until: bool
) -> Iterator[Figures]:
    """Pollers in a process of its own, beside what is done within; then their figures are there."""
    command = [sys.executable, "-m", "benchmarks.polling", url, batch, key]
    command += [str(seconds), str(pollers), str(every), str(int(until))]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    figures: Figures = {}
    try:
        yield figures
        out, _ = process.communicate(timeout=seconds + 60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, f"the pollers ended with {process.returncode}"
    figures |= json.loads(out)


class Pollers:
    """All of them: what they ask, and how long each answer took."""

    def __init__(self, url: str, batch: str, key: str, seconds: float, every: float, until: bool) -> None:
        self.until = until
        self.parts = urlsplit(url)
        self.every, self.started = every, time.perf_counter()
        self.end = self.started + seconds
        self.asked = [self._request(f"{self.parts.path}/{batch}", key), self._request(self.parts.path, key)]
        self.latencies: list[float] = []
        self.errors = 0
        self.last = self.started

    def _request(self, path: str, key: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self.parts.netloc}\r\nAuthorization: Bearer {key}\r\n\r\n".encode()

    async def live(self, offset: float) -> None:
        due, count, connection = self.started + offset * self.every, 0, None
        while due < self.end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            count += 1
            try:
                connection = connection or await asyncio.open_connection(self.parts.hostname, self.parts.port)
                ended = await self._ask(connection, is_list=count % LIST_EACH == 0)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                self.errors += 1
                connection, ended = None, False
            self.last = now = time.perf_counter()
            self.latencies.append(now - due)
            if ended:
                break
            due = max(due + self.every, now)  # who waits for an answer asks nothing else
        if connection:
            connection[1].close()

    async def _ask(self, connection: Any, is_list: bool) -> bool:
        """Whether the batch has ended. Raises ValueError for another answer than 200."""
        reader, writer = connection
        writer.write(self.asked[is_list])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(head)
        return self.until and not is_list and b'"status":"completed"' in body

    def figures(self) -> Figures:
        took = sorted(self.latencies)
        return {
            "rate": len(took) / (self.last - self.started),
            "p50": took[len(took) // 2] * 1000,
            "p99": took[len(took) * 99 // 100] * 1000,
            "errors": self.errors,
        }


async def _all(everyone: Pollers, count: int) -> Figures:
    await asyncio.gather(*(everyone.live(number / count) for number in range(count)))
    return everyone.figures()


def main() -> None:
    url, batch, key, *numbers = sys.argv[1:]
    seconds, pollers, every, until = map(float, numbers)
    everyone = Pollers(url, batch, key, seconds, every, bool(until))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(_all(everyone, int(pollers)))))


if __name__ == "__main__":
    main()
