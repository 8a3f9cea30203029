"""Django's schema editor for PostgreSQL, but that no statement of a migration waits long for a lock.

A statement that waits for one makes all that come after it wait, too: those of the service. So it gives up after
LOCK_TIMEOUT, its migration is undone, and `migrate` comes again (provocative/migrating.py). The setting is LOCAL to a
transaction: nothing is left of it on the connection, behind a pooler neither.
"""

from typing import Any

from django.db.backends.postgresql.schema import DatabaseSchemaEditor

# milliseconds, for which the service's statements may stand still; a vacuum that is in the way is ended after 1,000
LOCK_TIMEOUT = 2_000


class SchemaEditor(DatabaseSchemaEditor):
    """Statements outside a transaction have the setting before them, but those that lock nobody out."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        if self.atomic_migration and not self.collect_sql:
            self.execute(_setting())
        return entered

    def execute(self, sql: Any, params: Any = ()) -> None:
        text = str(sql)
        if self.collect_sql or self.connection.in_atomic_block or "CONCURRENTLY" in text:
            super().execute(text, params)
        else:
            super().execute(f"{_setting()}; {text}", params)


def _setting() -> str:
    return f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}"
