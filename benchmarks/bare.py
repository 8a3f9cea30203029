"""What a user would write by hand: a bare aiohttp loop that posts each line and appends the answer to a file.

No retries, no order, no receipts, no durability: the ceiling to measure against. `python -m benchmarks.bare FILE URL`.
"""

import asyncio
import json
import sys
import tempfile
import time

import aiohttp
import uvloop

IN_FLIGHT = 64


async def run(path: str, base_url: str, in_flight: int = IN_FLIGHT) -> float:
    """Seconds for the whole file."""
    started = time.perf_counter()
    with open(path, "rb") as source, tempfile.TemporaryFile() as sink:
        lines = iter(source)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def slot() -> None:
                for line in lines:
                    request = json.loads(line)
                    async with session.post(
                        base_url + request["url"].removeprefix("/v1"), json=request["body"]
                    ) as answer:
                        body = await answer.read()
                    sink.write(body + b"\n")

            await asyncio.gather(*(slot() for _ in range(in_flight)))
    return time.perf_counter() - started


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps({"seconds": runner.run(run(sys.argv[1], sys.argv[2]))}))
