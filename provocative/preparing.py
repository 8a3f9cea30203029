"""What stands before anything starts: folders, tables, schedules. Any number of hosts may do it at once."""

import logging

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor

from batches import marks, tasks
from tenants import holding

log = logging.getLogger(__name__)

LOCK = 7_682_201_174_420_532  # any number, as long as nobody else locks it in this database


def prepare() -> None:
    """Make the folders, bring the tables up to date, install the queue's schedules. Repeatable."""
    _make_folders()
    if missing_migrations():
        call_command("migrate", interactive=False, verbosity=0)
    _install_schedules()
    compare_marks()


def compare_marks() -> None:
    """Hold, before anything works, where this database is not the one of the storage; and say so."""
    if not marks.look() and (held := holding.held()):
        log.warning("the service holds: %s Nothing is sent or charged: `manage.py hold report` tells more", held.text)


def prepare_worker() -> None:
    """The same on a host of many, where migrating is a step of its own. Raises CommandError when that is missing."""
    require_migrated()
    _install_schedules()


def require_migrated() -> None:
    """Make the folders, compare the marks. Raises CommandError when the tables are not up to date."""
    _make_folders()
    if missing := missing_migrations():
        raise CommandError(f"the database lacks {missing} migrations: run `manage.py migrate` once, then start again.")
    compare_marks()


def missing_migrations() -> int:
    """How many this code wants that the database has not seen."""
    executor = MigrationExecutor(connection)
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def unknown_migrations(applied: list[str]) -> list[str]:
    """Which of these, as app.name, this code does not have. What apps left behind that it has no more is not meant."""
    loader = MigrationExecutor(None).loader
    known = {".".join(each) for each in loader.disk_migrations}
    return sorted(each for each in set(applied) - known if each.partition(".")[0] in loader.migrated_apps)


def _install_schedules() -> None:
    """One host at a time; by a lock of the transaction, since behind a pooler the connection is not ours to lock."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        tasks.install_schedules()


def _make_folders() -> None:
    for folder in (settings.HOME, settings.HOME / "files", settings.SPOOL_DIR):
        folder.mkdir(parents=True, exist_ok=True)
