"""Every check, in the order in which they are taken: what others stand on comes first."""

from provocative.doctor import database, framework, host, keys, network, storage, work
from provocative.doctor.findings import Check

_DATABASE, _ROWS = ("database",), ("database", "migrations")

CHECKS = (
    Check("settings", framework.settings_checks, seconds=30),
    Check("database", database.answers),
    Check("migrations", database.is_migrated, _DATABASE),
    Check("role", database.role, _DATABASE),
    Check("policies", database.policies, _ROWS),
    Check("connections", database.connections, _ROWS),
    Check("latency", database.latency, _DATABASE),
    Check("clock", database.clocks, _DATABASE),
    Check("one-machine", host.one_machine, _ROWS),
    Check("storage", storage.answers, seconds=30),
    Check("files", storage.holds_the_files, (*_ROWS, "storage"), seconds=20),
    Check("disk", storage.room),
    Check("home", host.home),
    Check("open-files", host.open_files, _ROWS),
    Check("kernel", host.kernel, _ROWS),
    Check("secret-key", keys.secret_key, _ROWS),
    Check("secrets", keys.opened, _ROWS, seconds=30),
    Check("addresses", network.addresses),
    Check("mail", network.mail_server, seconds=25),
    Check("stripe", network.payments, seconds=25),
    Check("redis", network.redis),
    Check("held", work.holds, _ROWS),
    Check("workers", work.workers, _ROWS),
    Check("queue", work.queue, _ROWS),
    Check("upstreams", work.upstreams, _ROWS, seconds=30),
    Check("models", work.models, _ROWS),
    Check("batches", work.jobs, _ROWS),
    Check("webhooks", work.webhooks, _ROWS),
    Check("invoices", work.invoices, _ROWS),
    Check("staff", work.staff, _ROWS),
)
