"""The tests' database as it was at a moment, and back to it: what an operator's own tools do, behind the product's back."""

import shutil
import sqlite3
from contextlib import closing

import psycopg
from django.db import connection

from tests import service


class Yesterday:
    """A copy of the whole database, made now."""

    NAME = "yesterday"

    def __init__(self) -> None:
        self._name = connection.settings_dict["NAME"]
        connection.close()
        if connection.vendor == "sqlite":
            _without_log(self._name)
            shutil.copy(self._name, f"{self._name}.{self.NAME}")
        else:
            self._copy(self._name, self.NAME)

    def restore(self) -> None:
        """The database is as it was; storage, upstreams and Stripe are of today."""
        connection.close()
        if connection.vendor == "sqlite":
            # page by page: to replace the file would break the connections that the tests' web server has
            copy = sqlite3.connect(f"{self._name}.{self.NAME}")
            with closing(copy), closing(sqlite3.connect(self._name, timeout=30)) as here:
                copy.backup(here)
        else:
            self._copy(self.NAME, self._name)

    def _copy(self, source: str, target: str) -> None:
        with psycopg.connect(f"host={service.SERVER} user=postgres dbname=postgres", autocommit=True) as server:
            server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [source])
            server.execute(f'DROP DATABASE IF EXISTS "{target}" WITH (FORCE)'.encode())
            server.execute(f'CREATE DATABASE "{target}" OWNER provocative TEMPLATE "{source}"'.encode())


def _without_log(name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
