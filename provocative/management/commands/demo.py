"""`manage.py demo`: start everything, run a small batch through the public API, show each step, stop."""

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from provocative.embedded import MODEL, ModelMissing, weights
from provocative.processes import die_with_parent

QUESTIONS = ("What is 2 plus 2?", "What is the capital of France? Answer in one word.", "How many days are in a week?")
LIMIT = 240.0  # seconds for all of it
STOPS_WITHIN = 60.0  # seconds
POLL = 0.2  # seconds
MANAGE = (sys.executable, str(settings.BASE_DIR / "manage.py"))
ACTIVE = {"validating", "in_progress", "finalizing", "cancelling"}


class Command(BaseCommand):
    help = "Run a sample batch through the public API on the embedded model, in a folder of its own."

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + LIMIT
        try:
            weights()
            with _home() as home, _service(_environ(home), deadline) as (url, environ):
                self._run_batch(url, _tenant_key(environ), deadline)
        except (ModelMissing, httpx.HTTPError, OSError) as error:
            raise CommandError(f"the demo failed: {error or type(error).__name__}") from None

    def _say(self, document: Any) -> None:
        self.stdout.write(json.dumps(document))
        self.stdout.flush()

    def _run_batch(self, url: str, key: str, deadline: float) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as api:
            created = api.post("/v1/batch", files={"file": ("questions.jsonl", _questions())})
            batch = self._follow(api, _body(created), deadline)
            if batch["status"] != "completed":
                raise CommandError(f"the demo's batch ended {batch['status']}: {batch.get('errors')}")
            output = api.get(f"/v1/batch/{batch['id']}/output").raise_for_status()
            for line in output.iter_lines():
                self._say(json.loads(line))
            self._say({"id": batch["id"], "cost": batch.get("cost")})

    def _follow(self, api: httpx.Client, batch: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Poll until the batch has ended, and show each change of its status."""
        shown = None
        while True:
            if batch["status"] != shown:
                shown = batch["status"]
                self._say({name: batch[name] for name in ("id", "status", "completed_count", "failed_count")})
            if shown not in ACTIVE:
                return batch
            if time.monotonic() > deadline:
                raise CommandError(f"the demo's batch is still {shown} after {LIMIT:.0f} s.")
            time.sleep(POLL)
            batch = _body(api.get(f"/v1/batch/{batch['id']}"))


def _questions() -> bytes:
    lines = [
        {
            "custom_id": f"question-{number}",
            "body": {
                "model": MODEL,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 24,
                "temperature": 0,
            },
        }
        for number, question in enumerate(QUESTIONS, start=1)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _body(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise CommandError(f"the demo failed: {response.status_code} {response.text.strip()}")
    document: dict[str, Any] = response.json()
    return document


@contextlib.contextmanager
def _home() -> Iterator[str]:
    """PROVOCATIVE_HOME when it is given, else a folder that goes with the demo."""
    if "PROVOCATIVE_HOME" in os.environ:
        yield str(settings.HOME)
        return
    with tempfile.TemporaryDirectory(prefix="provocative-demo-") as folder:
        yield folder


def _environ(home: str) -> dict[str, str]:
    """The demo's: it makes a tenant and takes over the embedded model, so never in a real database or storage."""
    kept = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "STORAGE_URL"}}
    return kept | {"PROVOCATIVE_HOME": home}


@contextlib.contextmanager
def _service(environ: dict[str, str], deadline: float) -> Iterator[tuple[str, dict[str, str]]]:
    """`up` on a free port, from its `ready` line to a graceful stop. Raises CommandError when it fails."""
    command = (*MANAGE, "up", "--bind", "127.0.0.1:0")
    up = subprocess.Popen(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - no other thread runs yet
    )
    try:
        yield _ready_url(up, deadline), environ
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            status = up.wait(timeout=STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            up.kill()
            status = up.wait()
    if status:
        raise CommandError(f"`up` ended with exit code {status}.", returncode=status if status > 0 else 1)


def _ready_url(up: "subprocess.Popen[str]", deadline: float) -> str:
    """The address in the line `ready http://…`."""
    lines: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=lambda: lines.put(up.stdout.readline() if up.stdout else ""), daemon=True).start()
    try:
        word, _, url = lines.get(timeout=max(0.0, deadline - time.monotonic())).strip().partition(" ")
    except Empty:
        raise CommandError(f"`up` was not ready within {LIMIT:.0f} s.") from None
    if word != "ready":
        raise CommandError("`up` ended before it was ready; its last lines say why.")
    return url


def _tenant_key(environ: dict[str, str]) -> str:
    """A tenant of the demo's own, made as an operator makes one."""
    command = (*MANAGE, "tenant", "create", f"demo-{secrets.token_hex(3)}")
    made = subprocess.run(command, env=environ, stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise CommandError("the demo's tenant could not be made.")
    key: str = json.loads(made.stdout)["api_key"]
    return key
