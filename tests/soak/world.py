"""What is run for an hour: a PostgreSQL, a web and two worker hosts, upstreams, a receiver of webhooks, tenants."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from tests.hosts import Host
from tests.postgres import Server
from tests.receiver import Receiver
from tests.service import SERVER, Service
from tests.soak.asking import Tenant
from tests.witness import Witness

RUNNERS = 2  # of each worker host
FLUSH = 256 + 64  # lines that are answered and not stored yet, of a runner
LEASE = 30.0  # seconds
GONE, STOPPED = 30.0, 120.0  # seconds in which a host that was killed, or told to stop, must be
TENANTS = (
    Tenant("shared-1", "shared", ("mixed", "steady"), brief=True),
    Tenant("shared-2", "shared", ("mixed",)),
    Tenant("shared-3", "shared", ("mixed", "steady"), sdk=True),
    Tenant("shared-4", "shared", ("slow",)),
    Tenant("reserved-1", "reserved", ("steady", "slow")),
    Tenant("reserved-2", "reserved", ("mixed",), brief=True),
    Tenant("reserved-3", "reserved", ("mixed",), sdk=True),
    Tenant("dedicated-1", "dedicated", ("steady",), dedicated=True),
    Tenant("dedicated-2", "dedicated", ("mixed", "slow")),
)
LIMITS = {
    "shared-2": ("--batch-limit", "3"),
    "shared-4": ("--enqueued-token-limit", "2000000"),
    "shared-1": ("--retention-days", "1"),
    "reserved-1": ("--reserved-slots", "8"),
    "reserved-2": ("--weight", "3"),
}
PRICES = {"steady": (1, 2), "slow": (2, 6), "mixed": (3, 5)}  # USD per million tokens, in and out
WITNESSES = {  # name: (its model, latency in ms, slots)
    "steady": ("steady", (10, 40), 32),
    "slow": ("slow", (300, 800), 24),
    "faulty": ("mixed", (20, 80), 24),
    "unsteady": ("mixed", (20, 80), 24),
    "own": ("steady", (20, 50), 16),
}
SLOTS = sum(slots for _, _, slots in WITNESSES.values())
RATES = {
    "faulty": {
        "429": 0.02, "503": 0.02, "500": 0.01, "reset": 0.01, "reset-body": 0.005, "truncate": 0.005, "html": 0.005,
        "drip": 0.0002,
    },
    "unsteady": {"503": 0.01, "reset-headers": 0.005},
}  # fmt: skip


class Found(NamedTuple):
    """A process of the service."""

    pid: int
    host: str
    role: str  # web, chores, runners, supervisor

    def send(self, number: int) -> None:
        os.kill(self.pid, number)


class World:
    """All of it, up; `remove` it in the end."""

    def __init__(self, seed: int) -> None:
        self.seed, self.rates = seed, RATES
        self.server = Server(SERVER)
        self._make_durable()
        self.service = Service("--no-model", name="soak")
        self.files = self.service.home / "files"
        self.files.mkdir()
        self.service.manage("migrate", "-v0")
        self.receiver = Receiver()
        self.receiver.answers = random.Random(f"receiver {seed}").choices((200, 500), (9, 1), k=100_000)
        self.witnesses = {name: Witness(latency_ms=latency) for name, (_, latency, _) in WITNESSES.items()}
        for name, witness in self.witnesses.items():
            witness.configure(log=False, seed=seed, fault_rates=self.rates.get(name, {}))
        environ = {**self.service.environ, "PROVOCATIVE_WEBHOOK_NETWORKS": "127.0.0.0/8"}
        self.web = Host("web", "--bind", "127.0.0.1:0", environ=environ)
        self.workers = [Host("worker", "--runners", str(RUNNERS), environ=environ) for _ in range(2)]
        self.hosts = [self.web, *self.workers]
        self.keys: dict[str, str] = {}

    def _make_durable(self) -> None:
        """As a PostgreSQL is that must stand a crash; the other tests' need not."""
        with psycopg.connect(f"host={SERVER} user=postgres", autocommit=True) as connection:
            connection.execute("ALTER SYSTEM RESET fsync")
            connection.execute("ALTER SYSTEM RESET full_page_writes")
            connection.execute("SELECT pg_reload_conf()")

    def start(self) -> str:
        """Bring all of it up; the web's address, which stays."""
        self.receiver.__enter__()
        for host in self.hosts:  # one storage, as if each had mounted it
            (host.home / "files").symlink_to(self.files)
        address = self.web.start().ready
        self.web.command[-1] = address.removeprefix("http://")
        for worker in self.workers:
            worker.start()
        self.service.url = address
        self._introduce()
        return address

    def _introduce(self) -> None:
        """Upstreams, prices, tenants with their limits."""
        manage = self.service.manage
        for tenant in TENANTS:
            self.keys[tenant.name] = manage("tenant", "create", tenant.name, "--plan", tenant.plan)["api_key"]
            if tenant.name in LIMITS:
                manage("tenant", "set", tenant.name, *LIMITS[tenant.name])
        dedicated = [("--tenant", tenant.name) for tenant in TENANTS if tenant.dedicated]
        for name, (model, _, slots) in WITNESSES.items():
            options = dedicated[0] if name == "own" else ()
            manage("upstream", "add", model, self.witnesses[name].base_url, "--max-in-flight", str(slots), *options)
        for model, (given, made) in PRICES.items():
            manage("price", "set", model, "--input", str(given), "--output", str(made))

    # --- its processes ----------------------------------------------------------------------------------------------

    def processes(self, role: str = "") -> list[Found]:
        """Those of one role, or all."""
        return [found for found in self._all() if not role or found.role == role]

    def _all(self) -> Iterator[Found]:
        homes = {str(host.home).encode(): host.home.name for host in self.hosts}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = dict(
                    pair.split(b"=", 1) for pair in (entry / "environ").read_bytes().split(b"\0") if b"=" in pair
                )
            except OSError:
                continue
            if host := homes.get(variables.get(b"PROVOCATIVE_HOME", b"")):
                yield Found(int(entry.name), host, variables.get(b"PROVOCATIVE_ROLE", b"supervisor").decode())

    def killed(self, host: Host) -> None:
        """As a host dies: at once, with all that runs on it."""
        host.remove()
        end = time.monotonic() + GONE
        while any(found.host == host.home.name for found in self._all()):
            assert time.monotonic() < end, f"{host.home.name} is dead, and not all of its children"
            time.sleep(0.05)

    def stopped(self, host: Host) -> int:
        """As a deployment does it; the exit code."""
        code = host.stop(signal.SIGTERM, STOPPED)
        host.remove()
        return code

    def revive(self) -> None:
        """Start what a fault left dead."""
        for host in self.hosts:
            if host.process is None or host.process.poll() is not None:
                host.remove()
                host.start()

    # --- its database, behind the product's back --------------------------------------------------------------------

    def sql(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Rows of a query, or of what a change returns. Raises psycopg.Error."""
        with psycopg.connect(f"host={SERVER} user=postgres dbname={self.database}") as connection:
            return connection.execute(query.encode(), arguments).fetchall()

    @property
    def database(self) -> str:
        return self.service.home.name.replace("-", "_")

    def age_files(self) -> int:
        """The time of half of what tenants with a short retention got or sent a while ago is over."""
        brief = [tenant.name for tenant in TENANTS if tenant.brief]
        late = self.sql(
            "UPDATE batches_file SET expires_at = now() WHERE deleted_at IS NULL AND random() < 0.5 "
            "AND created_at < now() - interval '60 seconds' "
            "AND tenant_id IN (SELECT id FROM tenants_tenant WHERE name = ANY(%s)) RETURNING 1",
            brief,
        )
        return len(late)

    def end_time(self, share: float) -> int:
        """The deadline of one running batch is now."""
        return len(
            self.sql(
                "UPDATE batches_batch SET deadline = now() WHERE id = (SELECT id FROM batches_batch "
                "WHERE status = 'in_progress' ORDER BY id OFFSET floor(%s * (SELECT count(*) FROM batches_batch "
                "WHERE status = 'in_progress')) LIMIT 1) RETURNING 1",
                share,
            )
        )

    def remove(self, keep: Path | None = None) -> None:
        """End everything; what the hosts logged goes to `keep`."""
        for host in self.hosts:
            host.remove()
            if keep and (host.home / "host.log").exists():
                keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(host.home / "host.log", keep / f"{host.home.name}.log")
        for witness in self.witnesses.values():
            witness.stop()
        self.receiver.__exit__()
        self.service.remove()
