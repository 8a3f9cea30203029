"""A consistent copy of the whole database into a file, and back: SQLite by itself, PostgreSQL by its own tools.

Whoever runs this works for everyone: on PostgreSQL policies would else hide rows, and the copy would lack them.
"""

import os
import secrets
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction

NAMES = {"sqlite": "database.sqlite3", "postgresql": "database.dump"}
ENCRYPTED = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")  # of DATABASE_URL: the copy goes the same way


class CannotCopy(Exception):
    """Why, and the cure."""


def dump(folder: Path) -> tuple[Path, dict[str, int]]:
    """Copy the database as it is at one moment: the file, and how many rows each table has in it. Raises CannotCopy."""
    target = folder / NAMES[connection.vendor]
    if connection.vendor == "sqlite":
        source = f"{Path(_name()).absolute().as_uri()}?mode=ro"
        with _copying(), closing(sqlite3.connect(target)) as copy:
            with closing(sqlite3.connect(source, uri=True)) as own:
                own.backup(copy)  # all at once: it hinders no writer, and a write between two steps would begin it anew
            return target, _rows(copy)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # it says nothing for as long as that takes
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        found = counts()
        options = ("--format=custom", "--no-owner", "--enable-row-security", f"--snapshot={snapshot}")
        _run("pg_dump", *options, f"--file={target}", _name())
    return target, found


def counts() -> dict[str, int]:
    """Rows of each table, as they are now."""
    with connection.cursor() as cursor:
        found = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(table)}")  # noqa: S608 - its own name
            found[table] = cursor.fetchone()[0]
    return found


def is_empty() -> bool:
    """Whether the database has no table."""
    with connection.cursor() as cursor:
        return not connection.introspection.table_names(cursor)


def load(source: Path) -> None:
    """Fill the empty database with a copy. Raises CannotCopy."""
    if connection.vendor == "sqlite":
        connection.close()
        with _copying(), closing(sqlite3.connect(source)) as copy, closing(sqlite3.connect(_name())) as target:
            copy.backup(target)
        return
    _run("pg_restore", "--no-owner", "--exit-on-error", "--single-transaction", f"--dbname={_name()}", str(source))


@contextmanager
def _copying() -> Iterator[None]:
    """What SQLite itself says (a full disk, a file that is none of its own), in our words. Raises CannotCopy."""
    try:
        yield
    except sqlite3.Error as error:
        raise CannotCopy(f"SQLite can't copy the database: {error}.") from None


@contextmanager
def scratch() -> Iterator[None]:
    """Within it, the connection is to an empty database of its own, which is gone afterwards. Raises CannotCopy."""
    name = f"rehearsal_{secrets.token_hex(6)}"
    if connection.vendor == "sqlite":
        settings.SPOOL_DIR.mkdir(parents=True, exist_ok=True)
        path = settings.SPOOL_DIR / name
        try:
            with _connected_to(str(path)):
                yield
        finally:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(name + suffix).unlink(missing_ok=True)
        return
    try:
        _alone(f'CREATE DATABASE "{name}"')
    except Exception as error:
        raise CannotCopy(
            f"No database to rehearse in could be made: ALTER ROLE … CREATEDB lets this role. {error}"
        ) from None
    try:
        with _connected_to(name):
            yield
    finally:
        _alone(f'DROP DATABASE "{name}" WITH (FORCE)')


def _alone(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def _connected_to(name: str) -> Iterator[None]:
    own = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = own


def _name() -> str:
    """Of the database; with SQLite, its path."""
    return str(connection.settings_dict["NAME"])


def _rows(database: sqlite3.Connection) -> dict[str, int]:
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    names = [name for (name,) in found]
    return {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}  # noqa: S608


def _run(tool: str, *arguments: str) -> None:
    """One of PostgreSQL's tools, as the service's role. No secret is in its command line."""
    program = shutil.which(tool)
    if program is None:
        raise CannotCopy(f"{tool} is not installed: it comes with PostgreSQL's client tools (postgresql-client).")
    database = connection.settings_dict
    given = {"PGHOST": "HOST", "PGPORT": "PORT", "PGUSER": "USER", "PGPASSWORD": "PASSWORD"}
    environ = dict(os.environ) | {name: str(database[key]) for name, key in given.items() if database.get(key)}
    options = database["OPTIONS"]
    environ |= {f"PG{name.upper()}": str(options[name]) for name in ENCRYPTED if name in options}
    environ["PGOPTIONS"] = "-c provocative.tenant=*"
    done = subprocess.run([program, *arguments], env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotCopy(f"{tool} failed: {_last(done.stderr.splitlines())}")


def _last(lines: Sequence[str]) -> Any:
    return lines[-1] if lines else "it says no more"
