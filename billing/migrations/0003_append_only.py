"""The ledger is append-only: the database itself refuses to change or remove a row.

SQLite forgets a table's triggers when Django rebuilds the table to change a column: a migration that does so calls
`protect` again, and tests/test_ledger.py fails where one did not.
"""

from typing import Any

from django.db import migrations

TABLES = ("billing_ledgerentry", "billing_chargeline", "billing_invoicedentry")
FUNCTION = """
CREATE OR REPLACE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '% is append-only: post a correction', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation'; END $$
"""


def protect(apps: Any, schema_editor: Any) -> None:
    """Refuse UPDATE and DELETE, and TRUNCATE where there is one."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(FUNCTION, params=None)
    for table in TABLES:
        for statement in _triggers(table, schema_editor.connection.vendor):
            schema_editor.execute(statement, params=None)


def _triggers(table: str, vendor: str) -> list[str]:
    if vendor == "postgresql":
        refuse = "FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only()"
        return [
            f"DROP TRIGGER IF EXISTS append_only ON {table}",
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} {refuse}",
        ]
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: post a correction'); END"
    return [
        f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb.lower()} BEFORE {verb} ON {table} {refuse}"
        for verb in ("UPDATE", "DELETE")
    ]


def unprotect(apps: Any, schema_editor: Any) -> None:
    """Undo `protect`."""
    for table in TABLES:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f"DROP TRIGGER IF EXISTS append_only ON {table}")
        else:
            for verb in ("update", "delete"):
                schema_editor.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")


class Migration(migrations.Migration):

    dependencies = [("billing", "0002_money")]

    operations = [migrations.RunPython(protect, unprotect)]
