"""Django's settings for the database: SQLite in PROVOCATIVE_HOME, or DATABASE_URL."""

from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

WEB_CONNECTIONS = 60  # to PostgreSQL, at most, of a web server
# Seconds, then who waits for a connection has it tried anew. Each pause is twice the last: by psycopg's own 300 a web
# server would stay away for up to as long again as its database was.
TRIED_FOR = 3


def database(url: str, home: Path, role: str) -> dict[str, Any]:
    """The DATABASES entry. `role` is that of a child of `up`, or empty. Raises ImproperlyConfigured."""
    found = _parsed(url or f"sqlite:///{home / 'provocative.sqlite3'}")
    if found["ENGINE"].endswith("sqlite3"):
        # IMMEDIATE takes the write lock at BEGIN: two writers queue up instead of failing when a read lock is upgraded.
        found["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=30000;"
            "PRAGMA cache_size=-32000; PRAGMA temp_store=MEMORY;"
            "PRAGMA secure_delete=ON;"  # what is deleted is zeroed: docs/decisions/0037-erasing.md
            "PRAGMA recursive_triggers=ON",  # or what is append-only could be replaced
        }
        found["CONN_MAX_AGE"] = None
        return found
    options = found.setdefault("OPTIONS", {})
    found["CONN_MAX_AGE"], found["CONN_HEALTH_CHECKS"] = None, True
    if role == "web":
        # A pool in the web process only: django-q2 forks, and a forked pool is a broken one.
        found["CONN_MAX_AGE"] = 0
        options["pool"] = {"min_size": 2, "max_size": WEB_CONNECTIONS, "timeout": 10, "reconnect_timeout": TRIED_FOR}
    if found["ENGINE"].endswith("postgresql"):
        found["ENGINE"] = "tenants.postgres"  # Django's, but that statements say for which tenant they work
        found["DISABLE_SERVER_SIDE_CURSORS"] = True  # they outlive a statement; nor could a pooler between serve them
        found["OPTIONS"] = {**_vigilant(role), **options}
    return found


def _parsed(url: str) -> dict[str, Any]:
    """Never quotes the address: its password is in it."""
    try:
        found: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError:
        found = {"ENGINE": ""}
    if not found["ENGINE"].endswith(("postgresql", "sqlite3")):
        raise ImproperlyConfigured(
            "DATABASE_URL must be postgres://USER:PASSWORD@HOST:5432/NAME, with USER and PASSWORD percent-encoded."
        )
    return found


def _vigilant(role: str) -> dict[str, Any]:
    """A server that went without a word (its power, its cable) is given up, and asked again: decision 41."""
    return {
        "connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,  # seconds
        "tcp_user_timeout": 25_000,  # ms
        "application_name": f"provocative {role}".strip(),
    }  # fmt: skip
