"""The service behind a real PgBouncer that hands connections on between two transactions."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

import httpx
import psycopg
import pytest

from tests import environment
from tests.conftest import until
from tests.service import SERVER, Service, ended, upload
from tests.test_service import numbered, three_ledgers
from tests.witness import Witness

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(environment.DATABASE != "postgres", reason="pools PostgreSQL's connections"),
    pytest.mark.skipif(not shutil.which("pgbouncer"), reason="needs pgbouncer (apt install pgbouncer)"),
]
CONNECTIONS = 6  # to PostgreSQL, of all processes together
CONFIG = """
[databases]
* = host={server} port=5432 user=provocative
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
pidfile = {folder}/pid
auth_type = any
pool_mode = transaction
default_pool_size = {connections}
"""


@contextmanager
def pooling() -> Iterator[Path]:
    """A PgBouncer before the tests' PostgreSQL; the folder of its socket."""
    folder = Path(mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o755)
    (folder / "ini").write_text(CONFIG.format(server=SERVER, folder=folder, connections=CONNECTIONS))
    (folder / "ini").chmod(0o644)
    command = ["pgbouncer", "-q", str(folder / "ini")]
    if os.geteuid() == 0:  # it refuses to be root
        shutil.chown(folder, "embedded_postgres")
        command += ["-u", "embedded_postgres"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _answers(folder))
        yield folder
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        shutil.rmtree(folder)


def _answers(folder: Path) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(f"host={folder} port=6432 user=postgres dbname=postgres"):
        return True
    return False


class Outsider:
    """Asks for each batch that somebody else sees."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.answers: list[int] = []

    def __call__(self, found: dict[str, str]) -> None:
        self.answers.append(self._client.get(f"/v1/batch/{found['id']}").status_code)


def test_a_batch_behind_a_pooler_and_a_tenant_sees_its_own_alone() -> None:
    service = Service("--no-model", "--runners", "2", name="pooled")
    name = service.home.name.replace("-", "_")
    with pooling() as folder, Witness() as witness:
        service.environ["DATABASE_URL"] = f"postgres://provocative@{quote(str(folder), safe='')}:6432/{name}"
        try:
            for start in range(2):  # the second finds no lock that the first left in the pooler
                service.start()
                client = service.tenant(f"acme-{start}")
                service.manage("upstream", "add", f"m{start}", witness.base_url)
                service.manage("price", "set", f"m{start}", "--input", "1.00", "--output", "2.00")
                batch = upload(client, numbered(f"m{start}", 3000))
                polls = Outsider(service.tenant(f"outsider-{start}"))
                done = ended(client, batch["id"], each=polls)
                assert done["completed_count"] == 3000
                assert set(polls.answers) == {404}
                assert three_ledgers(service, client, done, witness) == 0
                witness.reset()
                assert service.stop() == 0
            with psycopg.connect(f"host={SERVER} user=postgres") as server:
                used = b"SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
                (count,) = server.execute(used, [name]).fetchone() or (0,)
                assert count <= CONNECTIONS
        finally:
            service.remove()
