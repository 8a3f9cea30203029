"""Asking model servers what they serve: whether each is there, and what is wrong with it.

One GET /models a server, with a deadline over all of it. No redirect is followed (our key would go with it), no more
than MOST_BYTES of an answer are read, and nothing of it is shown or logged but how many models it lists.
"""

import asyncio
import json
import time
from collections.abc import Iterable
from typing import NamedTuple

import httpx

from batches.models import Upstream
from tenants.sealed import Unopened

SECONDS = 5.0
MOST_BYTES = 1 << 20
AT_ONCE = 20


class Probe(NamedTuple):
    """What came of asking a server: None is no problem."""

    problem: str | None
    milliseconds: int
    models: int = 0  # that it lists


def probe(row: Upstream) -> Probe:
    """Ask one."""
    return probe_all([row])[0]


def probe_all(rows: Iterable[Upstream]) -> list[Probe]:
    """Ask them, AT_ONCE at a time; in their order. Raises nothing for what a server does."""
    return asyncio.run(_ask_all(list(rows)))


async def _ask_all(rows: list[Upstream]) -> list[Probe]:
    places = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(timeout=2 * SECONDS, trust_env=False, follow_redirects=False) as client:
        return list(await asyncio.gather(*(_ask(client, places, row) for row in rows)))


async def _ask(client: httpx.AsyncClient, places: asyncio.Semaphore, row: Upstream) -> Probe:
    async with places:
        began = time.monotonic()
        problem, models = await _found(client, row)
    return Probe(problem, round((time.monotonic() - began) * 1000), models)


async def _found(client: httpx.AsyncClient, row: Upstream) -> tuple[str | None, int]:
    """What is wrong, in a few words, and how many models it lists."""
    try:
        async with asyncio.timeout(SECONDS):  # over all of it: httpx's own are each for one read
            status, body = await _get(client, row)
    except TimeoutError:
        return f"{row.base_url} did not answer within {SECONDS:.0f} seconds", 0
    except Unopened as error:
        return f"its API key can't be opened: {error.cure}", 0
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return f"{row.base_url} can't be reached ({type(error).__name__})", 0
    if not 200 <= status < 300:
        return f"GET {row.base_url}/models answered {status}", 0
    names = _names(body)
    if names is None:
        return f"GET {row.base_url}/models is no list of models", 0
    wanted = row.upstream_model or row.model
    return (None if wanted in names else f"it does not list {wanted!r} among its {len(names)} models"), len(names)


async def _get(client: httpx.AsyncClient, row: Upstream) -> tuple[int, bytes]:
    """Status and body; a body that is too long is cut, and so is no JSON any more."""
    headers = {"Accept-Encoding": "identity"}
    if row.api_key:
        headers["Authorization"] = f"Bearer {row.api_key.open()}"
    body = bytearray()
    async with client.stream("GET", f"{row.base_url}/models", headers=headers) as answer:
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > MOST_BYTES:
                break
    return answer.status_code, bytes(body[:MOST_BYTES])


def _names(body: bytes) -> list[str] | None:
    try:
        return [str(entry["id"]) for entry in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
