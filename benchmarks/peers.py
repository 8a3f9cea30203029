"""What users run today on the same file and upstream: a bare aiohttp loop, AsyncOpenAI, LiteLLM.

`python -m benchmarks.peers PEER FILE BASE_URL [LINES]` in the peers' own environment prints {"seconds", "cpu", "lines"}.
The bare loop is the ceiling of a script without retries, order, receipts or durability.
"""

import asyncio
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvloop

IN_FLIGHT = 64
Send = Callable[[dict[str, Any]], Awaitable[bytes]]


async def drain(lines: Iterator[bytes], send: Send) -> tuple[float, int]:
    """Send every line with IN_FLIGHT at once, append the answers to a file: seconds, lines."""
    done = 0
    with tempfile.TemporaryFile() as sink:

        async def slot() -> None:
            nonlocal done
            for line in lines:
                sink.write(await send(json.loads(line)["body"]) + b"\n")
                done += 1

        started = time.perf_counter()
        await asyncio.gather(*(slot() for _ in range(IN_FLIGHT)))
        return time.perf_counter() - started, done


async def bare(lines: Iterator[bytes], base_url: str) -> tuple[float, int]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def send(body: dict[str, Any]) -> bytes:
            async with session.post(base_url + "/chat/completions", json=body) as answer:
                return bytes(await answer.read())

        return await drain(lines, send)


async def openai(lines: Iterator[bytes], base_url: str) -> tuple[float, int]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=base_url, api_key="none") as client:

        async def send(body: dict[str, Any]) -> bytes:
            answer = await client.chat.completions.create(**body)
            return bytes(answer.model_dump_json().encode())

        return await drain(lines, send)


async def litellm(lines: Iterator[bytes], base_url: str) -> tuple[float, int]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as peer

    async def send(body: dict[str, Any]) -> bytes:
        answer = await peer.acompletion(
            **body, custom_llm_provider="openai", api_base=base_url, api_key="none", num_retries=0
        )
        return bytes(answer.model_dump_json().encode())

    return await drain(lines, send)


PEERS = {"bare": bare, "openai": openai, "litellm": litellm}


def main() -> None:
    peer, path, base_url, *limit = sys.argv[1:]
    with open(path, "rb") as source, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lines = itertools.islice(source, int(limit[0]) if limit else None)
        seconds, done = runner.run(PEERS[peer](lines, base_url))
        cpu = time.process_time()  # its start included: nothing beside 50,000 lines
    print(json.dumps({"seconds": seconds, "cpu": cpu, "lines": done}))


if __name__ == "__main__":
    main()
