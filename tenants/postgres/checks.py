"""Whether policies bind the role that the service has: they bind no superuser, and nobody with BYPASSRLS."""

from typing import Any

from django.core import checks
from django.db import connections

FREE = "SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
HINT = (
    "Give the database to a role of its own, and name that in DATABASE_URL: CREATE ROLE provocative LOGIN PASSWORD '…' "
    "NOSUPERUSER NOBYPASSRLS; docs/operating.md says how to hand over what is there."
)


@checks.register(checks.Tags.database)
def check_role(databases: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """A warning when row-level security does nothing. Asks the database, so only where one is named."""
    found: list[checks.CheckMessage] = []
    for name in databases or ():
        connection = connections[name]
        if connection.vendor != "postgresql":
            continue
        with connection.cursor() as cursor:
            cursor.execute(FREE)
            role, is_free = cursor.fetchone()
        if is_free:
            message = (
                f"Row-level security does not bind the role {role} of DATABASE_URL: tenants are isolated once only."
            )
            found.append(checks.Warning(message, hint=HINT, id="tenants.W001"))
    return found
