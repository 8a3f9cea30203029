"""Migrating beside a service that runs: one host at a time, and again when a lock was not to be had."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.db import OperationalError, connections
from psycopg.errors import LockNotAvailable

LOCK = 7_682_201_174_420_531  # any number, as long as nobody else locks it in this database
LOOK_AGAIN = 0.5  # seconds between two looks whether another host has finished
PAUSE = 5.0  # seconds for the service between two attempts
PATIENCE = 300.0  # seconds, after which somebody has to look

OLDEST = """
SELECT pid, coalesce(nullif(application_name, ''), usename, backend_type), state, extract(epoch FROM now() - xact_start)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
ORDER BY xact_start LIMIT 1
"""


def patiently(migrate: Callable[[], None], say: Callable[[str], object], database: str = "default") -> None:
    """Migrate, by attempts that give the service its locks back in between. Raises CommandError when PATIENCE is over.

    What is migrated stays; the migration that got no lock is undone whole, and begun anew.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with alone(database):
                migrate()
            return
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            why = f"A lock was not to be had in time. {_oldest(database)}"
        if time.monotonic() > deadline:
            raise CommandError(f"{why} What was migrated before stays. End that one, or run `manage.py migrate` later.")
        say(f"{why} The service goes on; tried again in {PAUSE:.0f} s.")
        time.sleep(PAUSE)


def _oldest(database: str) -> str:
    """Who is most likely in the way: the oldest transaction. Never its statement, which has tenants' data in it."""
    with connections[database].cursor() as cursor:
        cursor.execute(OLDEST)
        row: tuple[Any, ...] | None = cursor.fetchone()
    if row is None:
        return "Nobody is in the way any more."
    pid, who, state, seconds = row
    return f"The oldest transaction is that of process {pid} ({who}, {state}), {seconds:.0f} s old."


@contextmanager
def alone(database: str = "default") -> Iterator[None]:
    """One at a time: by a lock of the database among hosts, and of a file among those that share this folder."""
    connection = connections[database]
    with open(settings.HOME / ".preparing.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if connection.vendor != "postgresql":
            yield
            return
        while not _asked(database, "pg_try_advisory_lock"):
            # to wait in a statement holds a snapshot, for whose end another's CREATE INDEX CONCURRENTLY would wait
            time.sleep(LOOK_AGAIN)
        try:
            yield
        finally:
            _asked(database, "pg_advisory_unlock")


def _asked(database: str, function: str) -> bool:
    with connections[database].cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
