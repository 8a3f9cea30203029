"""Django's PostgreSQL backend, but that each statement tells the database for whom the code works.

The setting goes before the statement in the same message (a simple query of two statements: one round trip, and one
transaction when none is open) and is LOCAL to the transaction. So it is right whatever was sent before, behind any
pooler too, and nothing is left for whoever has the connection next. Who works for nobody sends none, and the policies
show nothing (tenants/policies.py).
"""

import re
from typing import Any, Self

from django.db import NotSupportedError
from django.db.backends.postgresql import base
from django.db.backends.postgresql.operations import DatabaseOperations
from psycopg import ClientCursor, sql

from tenants import scope
from tenants.postgres.schema import SchemaEditor

# Rows are read and written by these alone. What controls a transaction, or can't be in one, is sent as it is.
_ROWS = re.compile(r"[\s(]*(?:SELECT|INSERT|UPDATE|DELETE|WITH|MERGE|VALUES|TABLE|EXPLAIN|DO|CALL)\b", re.IGNORECASE)

_BEGIN, _END = f"SET LOCAL {scope.SETTING} = ", "; "

# Of hosts that went without a word, or stopped in a transaction: the server gives their locks to others, within seconds
# of the leases of a dead runner. Set by a statement, since poolers refuse what comes with the connection.
_SESSION = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3; "
    "SET tcp_user_timeout = 25000; SET idle_in_transaction_session_timeout = 60000"
)


class Cursor(base.CursorMixin, ClientCursor[Any]):
    """What Django's own is, with the setting before the statement."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        setting = scope.setting()
        text = query.as_string(self) if isinstance(query, sql.Composable) else query
        if setting is None or not _ROWS.match(text):
            super().execute(query, params, **options)
            return self
        super().execute(f"{_BEGIN}'{setting}'{_END}{text}", params, **options)
        self.nextset()  # past what the setting came to
        return self

    def executemany(self, *args: Any, **options: Any) -> None:
        """Psycopg would send the statements in another way."""
        raise NotSupportedError("send one statement with all the rows")


class Operations(DatabaseOperations):
    """Logs and tests read the statement alone."""

    def last_executed_query(self, cursor: Any, sql: Any, params: Any) -> Any:
        sent = super().last_executed_query(cursor, sql, params)
        return sent.partition(_END)[2] if sent and sent.startswith(_BEGIN) else sent


class DatabaseWrapper(base.DatabaseWrapper):
    """No named cursors: they outlive their statement, and what it worked for."""

    ops_class = Operations
    SchemaEditorClass = SchemaEditor

    def get_connection_params(self) -> dict[str, Any]:
        return {**super().get_connection_params(), "cursor_factory": Cursor}

    def _configure_connection(self, connection: Any) -> bool:
        """Django's own hook, of each new connection, pooled or not; whether there is something to commit."""
        with connection.cursor() as cursor:
            cursor.execute(_SESSION)
        super()._configure_connection(connection)  # type: ignore[misc]
        return True

    def create_cursor(self, name: str | None = None) -> Any:
        if name is not None:
            raise NotSupportedError("DISABLE_SERVER_SIDE_CURSORS is to be set")
        return super().create_cursor()
