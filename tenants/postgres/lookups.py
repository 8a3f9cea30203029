"""How PostgreSQL is asked for texts that begin so: by a function that it knows as leakproof, which LIKE is not.

Where a table has policies (tenants/policies.py), what is not leakproof is looked at after them, never by an index.
"""

from typing import Any

from django.db.models import CharField, lookups


@CharField.register_lookup
class StartsWith(lookups.StartsWith):
    """`name__startswith`, as `starts_with(name, …)`: an index of patterns serves it as well."""

    def as_postgresql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        if not isinstance(self.rhs, str):
            sql, parameters = self.as_sql(compiler, connection)
            return sql, parameters
        column, parameters = self.process_lhs(compiler, connection)
        return f"starts_with({column}, %s)", [*parameters, self.rhs]
