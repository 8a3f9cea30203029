"""The embedded model's server as the product starts it, with a RAM prompt cache of its own size, and questions to it.

`python -m benchmarks.llama PORT CACHE_MIB` serves in the foreground; 0 MiB is no RAM prompt cache.
"""

import itertools
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from benchmarks import ROOT
from tenants import scope

SLOTS = 4
STARTS_WITHIN = 60.0  # seconds
WORDS = "river stone lamp winter paper orange signal garden window engine silver bridge letter mountain copper ocean"


@contextmanager
def serving(cache_mib: int) -> Iterator[str]:
    """A fresh server, its caches empty; its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.llama", str(port), str(cache_mib)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until it answers, and has loaded its weights: the first answer pays for what is lazy."""
    end = time.monotonic() + STARTS_WITHIN
    while True:
        assert process.poll() is None and time.monotonic() < end, "the embedded model's server does not start"
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    body = {"messages": [{"role": "user", "content": "Hi."}], "max_tokens": 2}
    httpx.post(f"{url}/v1/chat/completions", json=body, timeout=STARTS_WITHIN, trust_env=False).raise_for_status()


def text(seed: object, words: int) -> str:
    """So many words, the same for the same seed; texts of two seeds share nothing worth a cache."""
    dice = random.Random(str(seed))
    return " ".join(dice.choice(WORDS.split()) for _ in range(words))


def line(number: int, max_tokens: int, system: str, question: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": "user", "content": question}]
    body = {"model": "bench", "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    return {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def families(count: int, groups: int, words: int, shuffle: int) -> list[dict[str, Any]]:
    """`count` lines over `groups` long system prompts, shuffled; as many groups as lines: no prefix is shared."""
    made = [
        line(number, 4, text(f"system {group}", words), f"Question {number}: {text(number, 6)}?")
        for number, group in zip(range(count), itertools.cycle(range(groups)), strict=False)
    ]
    random.Random(shuffle).shuffle(made)
    return made


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    import django

    django.setup()
    scope.settle_every()
    from provocative import embedded
    from provocative.processes import die_with_parent

    die_with_parent()
    embedded.PROMPT_CACHE_MIB = int(sys.argv[2])
    embedded.serve(int(sys.argv[1]), SLOTS)


if __name__ == "__main__":
    main()
