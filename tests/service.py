"""The whole service as an operator runs it: `manage.py up` in processes of its own, seen only from outside."""

import fcntl
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
from django.db import connection

from tests import environment

ROOT = Path(__file__).resolve().parent.parent
SERVER = environment.HOME / "pg"  # where the tests' PostgreSQL has its socket
TEMPLATE = "migrated"  # a database in it; where there is none, `up` migrates


@cache
def migrated() -> Path:
    """A SQLite database as `up` leaves an empty one: to migrate each anew takes many seconds of a processor.

    Made by the first who needs it, for all the parts of one `make test`, which names a new folder for it.
    """
    home = Path(os.environ.get("TEST_MIGRATED") or environment.HOME / "migrated")
    home.mkdir(exist_ok=True)
    whole, environ = home / "whole", {**os.environ, "PROVOCATIVE_HOME": str(home)}
    environ.pop("DATABASE_URL", None)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environ, check=True)
            whole.touch()
    return home / "provocative.sqlite3"


def keep_template() -> None:
    """The same of PostgreSQL: the tests' own database is copied before anybody is in it."""
    connection.close()
    with psycopg.connect(f"host={SERVER} user=postgres", autocommit=True) as server:
        server.execute(f'CREATE DATABASE {TEMPLATE} TEMPLATE "{connection.settings_dict["NAME"]}"')


class Service:
    """One `up` with a home and a database of its own."""

    def __init__(self, *options: str, name: str = "service", server: Path = SERVER) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=environment.HOME))
        self.options = options or ("--no-model",)
        self.environ = {**os.environ, "PROVOCATIVE_HOME": str(self.home), "LOG_LEVEL": "WARNING"}
        self.environ.pop("DATABASE_URL", None)
        self.server = server  # where a PostgreSQL has its socket
        if environment.DATABASE == "postgres":
            self._create_database(self.home.name.replace("-", "_"))
        else:
            shutil.copy(migrated(), self.home / "provocative.sqlite3")
        self.process: subprocess.Popen[str] | None = None
        self._operator: subprocess.Popen[str] | None = None
        self._commanded = False
        self.url = ""
        self._clients: list[httpx.Client] = []

    def _create_database(self, name: str) -> None:
        self._dsn = f"host={self.server} user=postgres dbname={name}"
        with psycopg.connect(f"host={self.server} user=postgres", autocommit=True) as server:
            server.execute(environment.ROLE)
            known = server.execute("SELECT 1 FROM pg_database WHERE datname = %s", (TEMPLATE,)).fetchone()
            template = TEMPLATE if known else "template1"
            server.execute(f'CREATE DATABASE "{name}" OWNER provocative TEMPLATE {template}')
        self.environ["DATABASE_URL"] = f"postgres://provocative@{quote(str(self.server), safe='')}/{quote(name)}"

    # --- the operator's hands ---------------------------------------------------------------------------------------

    def start(self) -> "Service":
        command = [sys.executable, "manage.py", "up", "--bind", "127.0.0.1:0", *self.options]
        log = open(self.home / "up.log", "a")  # noqa: SIM115 - the child's
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("ready "):
                self.url = line.split()[1]
                return self
        raise AssertionError(f"up ended: {(self.home / 'up.log').read_text()[-2000:]}")

    def manage(self, *arguments: str) -> Any:
        """An operator's command; its line of JSON. The first is a process of its own, those after it share another."""
        if self._commanded:
            code, out, err = self._told(*arguments)
        else:
            command = [sys.executable, "manage.py", *arguments]
            done = subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True)
            code, out, err = done.returncode, done.stdout, done.stderr
        self._commanded = True
        assert code == 0, err
        return json.loads(out.splitlines()[-1]) if out.strip() else None

    def _told(self, *arguments: str) -> tuple[int, str, str]:
        if self._operator is None:
            self._operator = subprocess.Popen(
                [sys.executable, "-m", "tests.operator"],
                cwd=ROOT,
                env=self.environ,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._operator.stdin and self._operator.stdout
        print(json.dumps(arguments), file=self._operator.stdin, flush=True)
        code, out, err = json.loads(self._operator.stdout.readline())
        return code, out, err

    def tenant(self, name: str = "acme", *options: str) -> httpx.Client:
        """A new tenant's API, with its key."""
        key = self.manage("tenant", "create", name, *options)["api_key"]
        headers = {"Authorization": f"Bearer {key}"}
        client = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)
        self._clients.append(client)
        return client

    def stop(self, how: int = signal.SIGTERM) -> int:
        """End `up`; its exit code."""
        assert self.process
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stdout
        self.process.stdout.close()
        return code

    # --- a witness's eyes -------------------------------------------------------------------------------------------

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query, by a connection that knows nothing of the product."""
        if environment.DATABASE == "postgres":
            with psycopg.connect(self._dsn) as connection:
                return connection.execute(query.encode()).fetchall()
        with closing(
            sqlite3.connect(f"file:{self.home / 'provocative.sqlite3'}?mode=ro", uri=True, timeout=30)
        ) as file:
            return file.execute(query).fetchall()

    def execute(self, statement: str) -> None:
        """A statement behind the product's back."""
        if environment.DATABASE == "postgres":
            with psycopg.connect(self._dsn) as connection:
                connection.execute(statement.encode())
            return
        with closing(sqlite3.connect(self.home / "provocative.sqlite3", timeout=30)) as file, file:
            file.execute(statement)

    def empty(self) -> None:
        """A new, empty database in place of its own, while it is stopped."""
        self._end_operator()
        if environment.DATABASE == "postgres":
            name = self._dsn.rpartition("=")[2]
            with psycopg.connect(f"host={self.server} user=postgres", autocommit=True) as server:
                server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
                server.execute(f'CREATE DATABASE "{name}" OWNER provocative'.encode())
            return
        for path in self.home.glob("provocative.sqlite3*"):
            path.unlink()

    def _end_operator(self) -> None:
        if self._operator:
            self._operator.communicate()
        self._operator = None

    def lose_tasks(self) -> int:
        """Empty the queue behind the product's back; how many tasks are lost."""
        if environment.DATABASE == "postgres":
            with psycopg.connect(self._dsn) as connection:
                return connection.execute("DELETE FROM django_q_ormq").rowcount
        with closing(sqlite3.connect(self.home / "provocative.sqlite3", timeout=30)) as file, file:
            return file.execute("DELETE FROM django_q_ormq").rowcount

    def processes(self, word: str) -> list[int]:
        """Pids of this service's processes with `word` in their command line."""
        marker = f"PROVOCATIVE_HOME={self.home}\0".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if word.encode() in (entry / "cmdline").read_bytes() and marker in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def kill_all(self, word: str) -> int:
        """kill -9 everything with `word` in its command line; how many."""
        pids = self.processes(word)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return len(pids)

    def remove(self) -> None:
        for client in self._clients:
            client.close()
        self._end_operator()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process and self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.home, ignore_errors=True)


@contextmanager
def running(*options: str, server: Path = SERVER) -> Iterator[Service]:
    """A service that is up."""
    service = Service(*options, server=server)
    try:
        yield service.start()
    finally:
        service.remove()


def upload(client: httpx.Client, lines: list[dict[str, Any]], **fields: str) -> dict[str, Any]:
    """Submit lines; the batch."""
    content = "".join(json.dumps(line) + "\n" for line in lines)
    answer = client.post("/v1/batch", files={"file": ("batch.jsonl", content.encode())}, data=fields)
    assert answer.status_code == 200, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


def ended(client: httpx.Client, batch: str, seconds: float = 120, each: Callable[[Any], object] | None = None) -> Any:
    """Poll until the batch has ended; its last object. `each` sees every poll."""
    end = time.monotonic() + seconds
    while True:
        found = client.get(f"/v1/batch/{batch}").json()
        if each:
            each(found)
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05 if each else 0.1)


def output(client: httpx.Client, batch: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.get(f"/v1/batch/{batch}/output").text.splitlines()]
