"""PostgreSQL's row-level security: tables that show and take the rows of one tenant, or of all. For migrations.

The database is told whose by the setting of tenants/scope.py; without it, nothing is shown or taken. FORCE, because
the service owns its tables. SQLite has no such thing: there the managers stand alone.

The setting stands in subqueries without a row: so it is read once a statement and not once a row, and the planner,
which can't know it, reckons with half of the rows instead of a two-hundredth (docs/decisions/0034-twice-isolated.md).
"""

from typing import Any

from tenants.scope import SETTING

_NOW = f"current_setting('{SETTING}', true)"
EVERYONE = f"(SELECT {_NOW} = '*')"
ONE = f"(SELECT nullif(nullif({_NOW}, '*'), '')::bigint)"
SOMEBODY = f"(SELECT {_NOW} <> '')"


def isolate(schema_editor: Any, table: str, column: str = "tenant_id", shared: bool = False) -> None:
    """Show and take rows whose `column` is the tenant's. `shared`: those without one are shown to every tenant."""
    if schema_editor.connection.vendor != "postgresql":
        return
    own = f"{EVERYONE} OR {column} = {ONE}"
    statements = [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY own ON {table} USING ({own}) WITH CHECK ({own})",
    ]
    if shared:
        statements.append(f"CREATE POLICY shared ON {table} FOR SELECT USING ({column} IS NULL AND {SOMEBODY})")
    for statement in statements:
        schema_editor.execute(statement, params=None)


def expose(schema_editor: Any, table: str) -> None:
    """Undo `isolate`."""
    if schema_editor.connection.vendor != "postgresql":
        return
    for statement in (
        f"DROP POLICY own ON {table}",
        f"DROP POLICY IF EXISTS shared ON {table}",
        f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY",
    ):
        schema_editor.execute(statement, params=None)
