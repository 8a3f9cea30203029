"""Who else works on this database, as far as it shows."""

from typing import Any

from django.db import connection

from batches import identity
from batches.models import Runner

CLIENTS = """
SELECT count(*), count(DISTINCT client_addr), count(*) FILTER (WHERE client_addr IS NULL) > 0
FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user
"""


def runners() -> set[str]:
    """The hosts of runners that are registered, and this one."""
    return {identity.HOST, *Runner.objects.values_list("host", flat=True)}


def count() -> int:
    """How many hosts are seen: by their runners, or on PostgreSQL by the addresses their connections come from."""
    if connection.vendor != "postgresql":
        return len(runners())
    _, addresses, is_local = row(CLIENTS)
    return max(len(runners()), int(addresses) + int(is_local))


def row(query: str, *values: Any) -> Any:
    """The first row of a query."""
    with connection.cursor() as cursor:
        cursor.execute(query, values or None)
        return cursor.fetchone()
