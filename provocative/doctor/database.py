"""The database: there, new enough, migrated, with its second wall, near enough and on time."""

import time
from collections.abc import Iterator
from datetime import datetime
from statistics import median

from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, NotSupportedError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from provocative.databases import WEB_CONNECTIONS
from provocative.doctor import hosts
from provocative.doctor.findings import Finding, error, ok, warning
from provocative.doctor.running import reason
from provocative.preparing import unknown_migrations
from tenants import clock
from tenants.owned import Owned
from tenants.postgres import checks

SLOW, TOO_SLOW = 0.010, 0.100  # seconds of a statement: a commit of results takes a dozen
ASKED = 9  # times
OFF, TOO_FAR_OFF = 1.0, 5.0  # seconds between two clocks
NEARLY = 0.9  # of the connections there may be
BESIDE = 8  # connections of a host that are no worker's: supervisor, metrics, each cluster's own

TABLES = """
SELECT relname, relrowsecurity AND relforcerowsecurity
    AND EXISTS (SELECT FROM pg_policy WHERE polrelid = pg_class.oid AND polname = 'own')
FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r' AND pg_table_is_visible(oid)
"""
LIMITS = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)
"""


def answers() -> Iterator[Finding]:
    """Django refuses by itself what is too old."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if connection.vendor == "postgresql":
            yield ok(f"PostgreSQL {hosts.row('SHOW server_version')[0].partition(' ')[0]} answers.")
        else:
            yield ok(f"SQLite {hosts.row('SELECT sqlite_version()')[0]}: one machine, one wall between tenants.")
    except NotSupportedError as fault:
        yield error(reason(fault), "Upgrade the database server: PostgreSQL 14 or newer is needed.")
    except DatabaseError as fault:
        yield error(f"It does not answer. {reason(fault)}", "Start it, or correct DATABASE_URL.")


def is_migrated() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    applied = [".".join(key) for key in executor.loader.applied_migrations]
    missing, ahead = executor.migration_plan(executor.loader.graph.leaf_nodes()), unknown_migrations(applied)
    if missing:
        first = missing[0][0]
        yield error(
            f"{len(missing)} migrations are missing, {first.app_label} {first.name} first.", "manage.py migrate"
        )
    if ahead:
        yield warning(
            f"The database is ahead of this code by {len(ahead)} migrations: {', '.join(ahead[:3])}.",
            "Upgrade this host to the version that the others have.",
        )
    if not missing and not ahead:
        yield ok(f"All {len(applied)} migrations are applied.")


def role() -> Iterator[Finding]:
    """Policies bind no superuser, and nobody with BYPASSRLS."""
    if connection.vendor != "postgresql":
        yield ok("SQLite has no roles.")
        return
    found = checks.check_role(databases=["default"])
    yield from (warning(one.msg, one.hint or "") for one in found)
    if not found:
        yield ok("Policies bind the role of DATABASE_URL.")


def policies() -> Iterator[Finding]:
    """Each table with rows of tenants has its policy, forced upon its owner."""
    if connection.vendor != "postgresql":
        yield ok("SQLite has none: managers stand alone.")
        return
    ours = [model for app in ("tenants", "billing", "batches") for model in apps.get_app_config(app).get_models()]
    wanted = {model._meta.db_table for model in ours if isinstance(model._default_manager, Owned)}
    with connection.cursor() as cursor:
        cursor.execute(TABLES, [sorted(wanted)])
        forced = {name for name, is_forced in cursor.fetchall() if is_forced}
    if missing := sorted(wanted - forced):
        yield error(
            f"Row-level security is not forced on {len(missing)} of {len(wanted)} tables: {', '.join(missing[:3])}.",
            "Somebody took it away: ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; a policy that "
            "is gone comes back by restoring the dump.",
        )
    else:
        yield ok(f"Row-level security is forced on all {len(wanted)} tables of tenants.")


def connections() -> Iterator[Finding]:
    """How many there may be, against what all hosts may want."""
    if connection.vendor != "postgresql":
        yield ok("SQLite counts none.")
        return
    allowed, used, *limits = hosts.row(LIMITS)
    allowed = min([allowed, *(limit for limit in limits if limit >= 0)])
    machines = hosts.count()
    wanted = machines * a_hosts()
    text = f"{used} of {allowed} connections are used; {machines} host(s) may want {wanted}."
    cure = "Raise max_connections (or the limit of the role, of the database), or put a pooler between."
    if used >= NEARLY * allowed:
        yield error(text, cure)
    elif wanted > allowed:
        yield warning(text, cure)
    else:
        yield ok(text)


def a_hosts() -> int:
    """Connections that one host may have at most: a runner commits beside its loop, so has two."""
    return WEB_CONNECTIONS + settings.CHORES + 2 * 2 * settings.RUNNERS + BESIDE


def latency() -> Iterator[Finding]:
    taken = median(_timed()[0] for _ in range(ASKED))
    text = f"A statement takes {taken * 1000:.1f} ms."
    cure = (
        "Bring this host nearer to the database, or find out what slows both: every request and commit takes several."
    )
    if taken > SLOW:
        yield error(text, cure) if taken > TOO_SLOW else warning(text, cure)
    else:
        yield ok(text)


def _timed() -> tuple[float, datetime]:
    """Seconds that a statement took, and the database's time."""
    began = time.monotonic()
    moment = clock.now()
    return time.monotonic() - began, moment


def clocks() -> Iterator[Finding]:
    """Ours against the database's: the best of a few looks, in the middle of each."""
    looks = []
    for _ in range(3):
        ours = timezone.now()
        taken, theirs = _timed()
        looks.append((taken, (theirs - ours).total_seconds() - taken / 2))
    taken, off = min(looks)
    text = f"This host's clock is {abs(off):.2f} s {'behind' if off > 0 else 'ahead of'} the database's."
    cure = "Let NTP set the clocks of all hosts (chrony, systemd-timesyncd)."
    if abs(off) - taken > OFF:
        yield error(text, cure) if abs(off) > TOO_FAR_OFF else warning(text, cure)
    else:
        yield ok(f"This host's clock is within {max(abs(off), 0.01):.2f} s of the database's.")
