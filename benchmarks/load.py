"""A small closed loop of GETs: `python -m benchmarks.load URL KEY SECONDS IN_FLIGHT` prints requests a second.

KEY is an API key, or a cookie as name=value.
"""

import asyncio
import subprocess
import sys
import time
from urllib.parse import urlsplit

import uvloop

from benchmarks import ROOT


def rate(url: str, key: str, seconds: float, in_flight: int) -> float:
    """Requests a second, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load", url, key, str(seconds), str(in_flight)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


async def _slot(url: str, key: str, end: float) -> int:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    who = f"Cookie: {key}" if "=" in key else f"Authorization: Bearer {key}"
    asked = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{who}\r\n\r\n".encode()
    done = 0
    while time.perf_counter() < end:
        writer.write(asked)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
        done += 1
    writer.close()
    return done


async def _all(url: str, key: str, seconds: float, in_flight: int) -> float:
    started = time.perf_counter()
    done = await asyncio.gather(*(_slot(url, key, started + seconds) for _ in range(in_flight)))
    return sum(done) / (time.perf_counter() - started)


def main() -> None:
    url, key, seconds, in_flight = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(runner.run(_all(url, key, float(seconds), int(in_flight))))


if __name__ == "__main__":
    main()
