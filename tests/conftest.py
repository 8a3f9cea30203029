"""The small world most tests share: an owner, an outsider of another tenant, an upstream that witnesses."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any, NamedTuple

import httpx
import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management.color import no_style
from django.db import connection
from django.test import Client, TransactionTestCase
from whitenoise.middleware import WhiteNoiseMiddleware

from batches import files, marks, tasks
from batches.engine import runner
from batches.models import Batch, Upstream
from billing import tasks as billing_tasks
from billing.models import Invoice, Price
from provocative import console
from tenants import keys, observed, scope, strangers, transfers
from tenants.models import Tenant
from tests import documented, environment, fakestripe, service
from tests.fakestripe import FakeStripe
from tests.receiver import Receiver
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness

# The tests' own code works for everyone; a request begins as nobody, through the middleware.
scope.settle_every()
console.load()  # the console's pages come with the addresses, which not every test asks for


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """SQLite's is a copy of what is migrated already; what a migration lacks there is made up for."""
    return environment.DATABASE == "sqlite"


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    if environment.DATABASE == "sqlite":
        name = settings.DATABASES["default"]["TEST"]["NAME"] = str(environment.HOME / "test.sqlite3")
        shutil.copy(service.migrated(), name)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    if environment.DATABASE == "postgres":
        with django_db_blocker.unblock():
            service.keep_template()


# always the same, as the migrations leave them
KEPT = {"django_migrations", "django_content_type", "auth_permission", "auth_group", "auth_group_permissions"}
APPEND_ONLY = ("billing_ledgerentry", "tenants_auditevent")  # the first of each chapter that triggers keep
MANY = 1_000  # rows; to remove so many leaves holes that slow the tests after it
EMPTY = """
DO $$ DECLARE name text; removed bigint; total bigint := 0; BEGIN
    SET LOCAL session_replication_role = replica;
    FOREACH name IN ARRAY ARRAY[{names}] LOOP
        EXECUTE format('DELETE FROM %I', name);
        GET DIAGNOSTICS removed = ROW_COUNT;
        total := total + removed;
    END LOOP;
    IF total > {many} THEN TRUNCATE {tables}; END IF;
END $$"""


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """Empty the tables after each test in a few milliseconds: Django's own flush takes up to 90."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TransactionTestCase, "_fixture_teardown", lambda case: empty())
        yield


def empty() -> None:
    """What Django's flush does, but for the tables in KEPT; on PostgreSQL in one statement. And forget attempts."""
    cache.clear()
    shutil.rmtree(settings.HOME / "files" / marks.FOLDER, ignore_errors=True)
    strangers.failures.clear()
    tables = sorted(set(connection.introspection.django_table_names()) - KEPT)
    if connection.vendor == "sqlite":
        with unprotected():
            connection.ops.execute_sql_flush(connection.ops.sql_flush(no_style(), tables))
        return
    names = ", ".join(f"'{name}'" for name in tables)
    with connection.cursor() as cursor:
        cursor.execute(EMPTY.format(names=names, many=MANY, tables=", ".join(tables)))


@contextmanager
def unprotected() -> Iterator[None]:
    """The database without the triggers that keep the ledger and the trail."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            yield
            cursor.execute("SET session_replication_role = DEFAULT")
        return
    triggers: list[tuple[str, str]] = []
    with connection.cursor() as cursor:
        if any(cursor.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in APPEND_ONLY):
            triggers = cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            cursor.execute(f"DROP TRIGGER {name}")
        yield
        for _, sql in triggers:
            cursor.execute(sql)


@pytest.fixture(autouse=True)
def free_places() -> Iterator[None]:
    """A server closes every answer; the tests' client leaves open those whose body nobody reads, and their places."""
    yield
    transfers.Transfer._places = threading.BoundedSemaphore(transfers.DOWNLOADS)


@pytest.fixture(autouse=True)
def nobodys_subject() -> Iterator[None]:
    """What a test worked on is not told of the next one."""
    with observed.within():
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> None:
    """PBKDF2 is there to be slow; it stays known, for what was stored with it."""
    settings.PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{name}PasswordHasher" for name in ("MD5", "PBKDF2")]


@pytest.fixture(scope="session", autouse=True)
def quick_clients() -> Iterator[None]:
    """Look for the static files once: the middleware does it for each new client."""
    find = WhiteNoiseMiddleware.add_files_from_finders
    known: dict[str, Any] = {}

    def remember(middleware: WhiteNoiseMiddleware) -> None:
        if not known:
            find(middleware)
            known.update(middleware.files)
        middleware.files.update(known)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(WhiteNoiseMiddleware, "add_files_from_finders", remember)
        yield


class Person(NamedTuple):
    """A tenant's user of the API."""

    tenant: Tenant
    key: str
    client: Client

    def get(self, path: str, **headers: str) -> Any:
        answer = self.client.get(path, headers={"Authorization": f"Bearer {self.key}", **headers})
        return documented.checked("GET", path, answer)

    def post(self, path: str, data: Any = None, **headers: str) -> Any:
        answer = self.client.post(path, data or {}, headers={"Authorization": f"Bearer {self.key}", **headers})
        return documented.checked("POST", path, answer)

    def delete(self, path: str) -> Any:
        answer = self.client.delete(path, headers={"Authorization": f"Bearer {self.key}"})
        return documented.checked("DELETE", path, answer)

    def submit(self, lines: Iterable[Any], **fields: str) -> Any:
        """Upload lines (dicts, or bytes as they are) as a batch."""
        content = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
        return self.post("/v1/batch", {"file": SimpleUploadedFile("batch.jsonl", content), **fields})

    def batch(self, batch_id: str) -> dict[str, Any]:
        answer = self.get(f"/v1/batch/{batch_id}")
        assert answer.status_code == 200, answer.content
        found: dict[str, Any] = answer.json()
        return found

    def lines(self, batch_id: str, what: str = "output") -> list[dict[str, Any]]:
        answer = self.get(f"/v1/batch/{batch_id}/{what}")
        assert answer.status_code == 200, answer.content
        lines = [json.loads(line) for line in b"".join(answer.streaming_content).splitlines()]
        for line in lines:
            documented.valid(line, "components", "schemas", "OutputLine")
        return lines


def person(name: str, **fields: Any) -> Person:
    tenant = Tenant.objects.create(name=name, **fields)
    return Person(tenant, keys.create(tenant)[1], Client(raise_request_exception=False))


@pytest.fixture
def owner(transactional_db: None) -> Person:
    return person("owner")


@pytest.fixture
def outsider(transactional_db: None) -> Person:
    return person("outsider")


@pytest.fixture(scope="session")
def witness_server() -> Iterator[Witness]:
    with Witness() as witness:
        yield witness


@pytest.fixture
def witness(witness_server: Witness, transactional_db: None) -> Witness:
    """An upstream for the model `witness`, priced at 1 and 2 USD per million tokens."""
    witness_server.reset()
    Upstream.objects.create(model="witness", base_url=witness_server.base_url, max_in_flight=32)
    Price.objects.create(model="witness", input=10**6, cached_input=5 * 10**5, output=2 * 10**6)  # on no trail
    return witness_server


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit twenty lines at a time, so that there are many commits in a small batch, on a slow machine too."""
    for name in ("pump.FLUSH_RESULTS", "pump.AHEAD_RESULTS", "committing.GROUP_RESULTS"):
        monkeypatch.setattr(f"batches.engine.{name}", 20)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """A tenant's web server for webhooks, on this machine, whose network the operator allows."""
    settings.WEBHOOK_NETWORKS = [ip_network("127.0.0.0/8")]
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def stripe(settings: Any) -> Iterator[FakeStripe]:
    """A Stripe of our own, that the operator has set up."""
    with FakeStripe() as fake:
        settings.STRIPE_API_KEY, settings.STRIPE_API_BASE = fakestripe.KEY, fake.url
        settings.STRIPE_WEBHOOK_SECRET = fakestripe.SECRET
        yield fake


@pytest.fixture
def sent(owner: Person, stripe: FakeStripe) -> Invoice:
    """An invoice of the owner's that is at Stripe, where it has no payment method yet."""
    from tests.stripes import USD, month

    month(owner, ("a", 4 * USD + 1))
    billing_tasks.send_invoices()
    invoice = Invoice.objects.get()
    assert invoice.sent_at
    return invoice


@pytest.fixture
def work() -> Callable[..., None]:
    """Do what the queue would: validate, run and finalize everything there is, in this process.

    `idle`: more than the runner's HOUSEKEEPING, so that it looks twice, and less than the turn that has nothing to do.
    """

    def do(stop: Callable[[], bool] = lambda: False, idle: float = 0.21) -> None:
        step("validating", tasks.validate)
        runner.run(stop=stop, idle=idle)
        step("finalizing", tasks.finalize)

    return do


def validate_at_once(batches: list[Batch]) -> list[str]:
    """Validate them in as many threads at the same moment; their statuses."""
    gate = threading.Barrier(len(batches))

    def validate(batch: Batch) -> None:
        gate.wait(30)
        try:
            tasks.validate(batch.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(len(batches)) as pool:
        list(pool.map(validate, batches))
    statuses = list(Batch.objects.filter(pk__in=[batch.pk for batch in batches]).values_list("status", flat=True))
    assert set(statuses) <= {"failed", "in_progress"}
    return statuses


def step(status: str, task: Callable[[int], None]) -> None:
    for pk in Batch.objects.filter(status=status).values_list("pk", flat=True):
        task(pk)


def seal() -> None:
    """Write what the ended batches lack: receipts and manifests."""
    for pk in Batch.objects.filter(files.UNSEALED).values_list("pk", flat=True):
        tasks.seal(pk)


@pytest.fixture(scope="session")
def web_server(django_db_setup: None) -> Iterator[str]:
    """The real web server over the tests' own database; its address."""
    with serving() as address:
        yield address


@contextmanager
def serving(application: str = "provocative.wsgi:application", /, **variables: str) -> Iterator[str]:
    """The same, told something else by its environment."""
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", application, "--no-ws"]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
        "--blocking-threads",
        str(settings.WEB_THREADS),
    ]
    environ = os.environ | {"DATABASE_URL": database_url(), "PROVOCATIVE_ROLE": "web", "LOG_LEVEL": "ERROR"}
    process = subprocess.Popen(command, env=environ | variables, cwd=settings.BASE_DIR, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(f"{address}/healthz"))
        yield address
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def answers(url: str) -> bool:
    """Whether a server is there, and content."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for a condition, looking often; its first true value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return value


def database_url() -> str:
    """The tests' own database, for another process."""
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{name}"


@pytest.fixture
def http(web_server: str, transactional_db: None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web_server, trust_env=False, limits=httpx.Limits(max_connections=100)) as client:
        yield client
