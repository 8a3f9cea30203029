"""Tables whose rows the database itself refuses to change or remove: for migrations.

SQLite forgets a table's triggers when Django rebuilds the table to change a column: a migration that does so protects
it again.
"""

from typing import Any


def protect(schema_editor: Any, table: str, cure: str) -> None:
    """Refuse UPDATE and DELETE, and TRUNCATE where there is one; `cure` says what to do instead."""
    for statement in _statements(schema_editor.connection.vendor, table, f"{table} is append-only: {cure}"):
        schema_editor.execute(statement, params=None)


def unprotect(schema_editor: Any, table: str) -> None:
    """Undo `protect`."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP TRIGGER IF EXISTS append_only ON {table}")
        schema_editor.execute(f"DROP FUNCTION IF EXISTS {table}_append_only")
        return
    for verb in ("update", "delete"):
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")


def _statements(vendor: str, table: str, message: str) -> list[str]:
    if vendor == "postgresql":
        refuse = f"RAISE EXCEPTION '{message}' USING ERRCODE = 'integrity_constraint_violation'"
        function = f"CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql"
        each = f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()"
        return [
            f"{function} AS $$ BEGIN {refuse}; END $$",
            f"DROP TRIGGER IF EXISTS append_only ON {table}",
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} {each}",
        ]
    refuse = f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
    return [
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}"
        for verb in ("UPDATE", "DELETE")
    ]
