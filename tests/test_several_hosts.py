"""`web` and `worker`: the parts of the service on hosts of their own."""

import shutil
import signal
from collections.abc import Iterator

import httpx
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from provocative import preparing
from tests.hosts import Host
from tests.service import Service, ended, migrated, output, upload
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # PostgreSQL, S3 and network namespaces: test_three_hosts.py


@pytest.fixture
def service() -> Iterator[Service]:
    """A home whose database is migrated, and nobody at work in it."""
    service = Service(name="hosts")
    shutil.copy(migrated(), service.home / "provocative.sqlite3")
    yield service
    service.remove()


def test_a_web_and_a_worker_are_the_service(service: Service) -> None:
    web = Host("web", "--bind", "127.0.0.1:0", environ=service.environ, home=service.home)
    worker = Host("worker", "--runners", "1", environ=service.environ, home=service.home)
    try:
        service.url = web.start().ready
        client = service.tenant()
        with Witness() as witness:
            service.manage("upstream", "add", "witness", witness.base_url)
            batch = upload(client, [request_line(str(n)) for n in range(20)])["id"]
            assert client.get(f"/v1/batch/{batch}").json()["status"] == "validating", "no worker is there"
            worker.start()
            assert ended(client, batch)["completed_count"] == 20
            assert len(output(client, batch)) == sum(witness.requests_by_marker().values()) == 20
        assert web.stop() == 0
        with pytest.raises(httpx.ConnectError):
            client.get("/healthz")
        assert worker.stop(signal.SIGINT) == 0
    finally:
        web.remove()
        worker.remove()


@pytest.mark.parametrize("command", ["web", "worker"])
def test_a_database_that_is_not_migrated_is_named_with_its_cure(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "missing_migrations", lambda: 3)
    with pytest.raises(CommandError, match=r"lacks 3 migrations: run `manage.py migrate`"):
        call_command(command, *(["--bind", "127.0.0.1:0"] if command == "web" else []))
