"""What stands before anything starts: folders, tables, schedules. Any number of hosts may do it at once."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from batches import tasks

LOCK = 7_682_201_174_420_531  # any number, as long as nobody else locks it in this database


def prepare() -> None:
    """Make the folders, bring the tables up to date, install the queue's schedules. Repeatable."""
    for folder in (settings.HOME, settings.HOME / "files", settings.SPOOL_DIR):
        folder.mkdir(parents=True, exist_ok=True)
    with _alone():
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=0)
        tasks.install_schedules()


@contextmanager
def _alone() -> Iterator[None]:
    """One at a time: by a lock of the database among hosts, and of a file among those that share this folder."""
    with open(settings.HOME / ".preparing.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if connection.vendor != "postgresql":
            yield
            return
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
