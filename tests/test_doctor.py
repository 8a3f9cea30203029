"""`manage.py doctor`: a deployment that is well, and for each check one that is not."""

import inspect
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import NotSupportedError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone
from django_q.models import Schedule

from batches import objects, tasks
from batches.console import alerts, home
from batches.console.alerts import Alert
from batches.models import File, Runner, SigningKey, Upstream
from billing.models import Price
from provocative.doctor import database, hosts
from provocative.doctor.findings import Check, Finding, Level, error, ok
from provocative.doctor.registry import CHECKS
from provocative.doctor.running import run
from tenants import clock
from tenants.models import User
from tests.conftest import Person, database_url, free_port, seal
from tests.fakestripe import KEY, SECRET, FakeStripe
from tests.mailserver import MailServer
from tests.staff import signed_in
from tests.test_engine import Work
from tests.witness import Witness, request_line

postgres_only = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has none of it")
MACHINES = {"disk", "open-files", "kernel"}  # what they find is not ours to say
PASSWORD = "a-password-that-nobody-may-read"


def found(name: str) -> list[Finding]:
    """What this check finds."""
    (check,) = (check for check in CHECKS if check.name == name)
    return list(check.look())


def finds(name: str, level: Level, *words: str) -> None:
    """Whether it finds exactly this, in words that name it."""
    (one,) = found(name)
    assert (one.level, [word for word in words if word not in f"{one.seen} {one.cure}"]) == (level, []), one
    assert one.cure or level is Level.OK


def doctor(*options: str, **environ: str) -> tuple[int, str, str]:
    """The command, in a process of its own."""
    command = [sys.executable, "manage.py", "doctor", *options]
    done = subprocess.run(
        command, cwd=settings.BASE_DIR, env=os.environ | environ, capture_output=True, text=True, timeout=90
    )
    return done.returncode, done.stdout, done.stderr


# --- the whole of it --------------------------------------------------------------------------------------------------


def test_a_deployment_that_is_well(owner: Person, witness: Witness, work: Work) -> None:
    tasks.install_schedules()
    boss = User.objects.create_user("op@example.com", is_staff=True)
    Authenticator.objects.create(user=boss, type="webauthn", data={})
    signed_in(boss)
    owner.submit([request_line("hello")])
    work()
    seal()
    before = sorted(path for path in settings.HOME.rglob("*") if path.is_file())
    with MailServer() as mail, FakeStripe() as fake:
        told = doctor(
            "--json", DATABASE_URL=database_url(), HTTPS="1", ALLOWED_HOSTS="batch.example.com",
            CSRF_TRUSTED_ORIGINS="https://batch.example.com", EMAIL_URL=f"smtp+plain://127.0.0.1:{mail.port}",
            EMAIL_FROM="batch@example.com", STRIPE_API_KEY=KEY, STRIPE_API_BASE=fake.url, STRIPE_WEBHOOK_SECRET=SECRET,
        )  # fmt: skip
        assert mail.mails == []
    code, out, err = told
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row for row in rows if row["level"] != "ok" and row["check"] not in MACHINES] == [], err
    assert [row["check"] for row in rows if row["check"] not in MACHINES] == [
        check.name for check in CHECKS if check.name not in MACHINES
    ]
    assert code == any(row["level"] == "error" for row in rows)
    assert sorted(path for path in settings.HOME.rglob("*") if path.is_file()) == before, "it leaves nothing"


@pytest.mark.sqlite_only
def test_where_everything_is_dead_each_check_says_so_and_none_its_password() -> None:
    dead, secret = f"127.0.0.1:{free_port()}", PASSWORD
    code, out, err = doctor(
        DATABASE_URL=f"postgres://u:{secret}@{dead}/x",
        STORAGE_URL=f"s3://key:{secret}@bucket?endpoint_url=http://{dead}&region=r",
        EMAIL_URL=f"smtp+plain://u:{secret}@{dead}",
        STRIPE_API_KEY=f"sk_test_{secret}",
        STRIPE_API_BASE=f"http://{dead}",
    )
    level = {line.split()[1]: line.split()[0] for line in out.splitlines()}
    assert code == 1 and "Traceback" not in err and secret not in out + err
    assert {name for name in level if level[name] == "error"} == {"database", "storage", "mail", "stripe"}
    assert {level[check.name] for check in CHECKS if "database" in check.needs} == {"skipped"}


def test_what_hangs_or_breaks_stops_no_other_and_what_needs_it_is_left_out() -> None:
    end = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield ok("so far")
        end.wait(20)

    def breaks() -> Iterator[Finding]:
        yield from ()
        raise ValueError(f"first line\n{PASSWORD}")

    def slips() -> Iterator[Finding]:
        yield error("broken", "mend it")

    began = time.monotonic()
    checks = (
        Check("a", hangs, seconds=0.1),
        Check("b", breaks, needs=("none",)),
        Check("c", slips, needs=("a",)),
        Check("d", slips),
        Check("e", slips, needs=("c", "d")),
        Check("f", lambda: iter([ok("fine")])),
    )
    told = list(run(checks))
    end.set()
    assert time.monotonic() - began < 15
    levels = [(each.name, each.finding.level.value) for each in told if each.finding.seen != "so far"]
    assert levels == [("a", "error"), ("b", "error"), ("c", "skipped"), ("d", "error"), ("e", "skipped"), ("f", "ok")]
    assert [each.name for each in told if each.hangs] == ["a"]
    assert next(each for each in told if each.name == "b").finding.seen == "ValueError: first line"


HANGING = """
import sys, threading, time
from unittest.mock import patch
from concurrent.futures import ThreadPoolExecutor
from django.core.management import execute_from_command_line
from provocative.doctor import network

def hangs():
    ThreadPoolExecutor().submit(time.sleep, 600).result()  # which Python waits for, at its end
    yield

import django; django.setup()
from provocative.doctor.findings import Check
from provocative.management.commands import doctor
doctor.CHECKS = (Check("stuck", hangs, seconds=0.1),)
execute_from_command_line(["manage.py", "doctor"])
"""


@pytest.mark.sqlite_only
def test_it_ends_whatever_a_check_left_behind() -> None:
    environ = os.environ | {"DJANGO_SETTINGS_MODULE": "provocative.settings"}
    command = [sys.executable, "-c", HANGING]
    done = subprocess.run(command, cwd=settings.BASE_DIR, env=environ, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout.split()[:2]) == (1, ["error", "stuck"]), done.stderr


def test_one_line_a_finding_and_only_what_was_asked(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("doctor", "--only", "redis", "stripe")
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["ok", "stripe"], ["ok", "redis"]]
    with pytest.raises(SystemExit) as end:
        call_command("doctor", "--only", "workers")  # there are no schedules
    assert end.value.code == 1


def test_needs_are_checks_that_were_taken_before() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for place, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:place]), check.name


# --- the database -----------------------------------------------------------------------------------------------------


def test_a_database_that_is_too_old(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    class Old:
        vendor = "postgresql"

        def cursor(self) -> Any:
            raise NotSupportedError("PostgreSQL 14 or later is required (found 13.4).")

    monkeypatch.setattr(database, "connection", Old())
    finds("database", Level.ERROR, "found 13.4", "Upgrade")


def test_migrations_that_are_missing_and_a_database_that_is_ahead(transactional_db: None) -> None:
    recorder = MigrationRecorder(connection)
    last = max(name for app, name in recorder.applied_migrations() if app == "batches")
    finds("migrations", Level.OK)
    recorder.record_unapplied("batches", last)
    try:
        finds("migrations", Level.ERROR, "1 migrations are missing", last, "manage.py migrate")
    finally:
        recorder.record_applied("batches", last)
    recorder.record_applied("batches", "9999_of_tomorrow")
    try:
        finds("migrations", Level.WARNING, "ahead", "batches.9999_of_tomorrow")
    finally:
        recorder.record_unapplied("batches", "9999_of_tomorrow")


@postgres_only
def test_policies_that_bind_nobody_or_are_gone(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    finds("role", Level.OK)
    finds("policies", Level.OK)
    monkeypatch.setattr("tenants.postgres.checks.FREE", "SELECT 'postgres', true")
    finds("role", Level.WARNING, "postgres", "NOSUPERUSER")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_invoice NO FORCE ROW LEVEL SECURITY")
        try:
            finds("policies", Level.ERROR, "billing_invoice", "FORCE ROW LEVEL SECURITY")
        finally:
            cursor.execute("ALTER TABLE billing_invoice FORCE ROW LEVEL SECURITY")


@postgres_only
def test_connections_that_run_out(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    finds("connections", Level.OK, "1 host(s)")
    monkeypatch.setattr(hosts, "count", lambda: 3)
    finds("connections", Level.WARNING, f"may want {3 * database.a_hosts()}", "max_connections")
    monkeypatch.setattr(database, "LIMITS", "SELECT 100, 9, -1, 10")
    finds("connections", Level.ERROR, "9 of 10")


@pytest.mark.parametrize(
    ("name", "taken", "off", "level"),
    [
        ("latency", 0.001, 0, Level.OK), ("latency", 0.02, 0, Level.WARNING), ("latency", 0.2, 0, Level.ERROR),
        ("clock", 0.001, 0.5, Level.OK), ("clock", 0.001, 2, Level.WARNING), ("clock", 0.001, -20, Level.ERROR),
        ("clock", 4.0, 3, Level.OK),
    ],
)  # fmt: skip
def test_a_database_that_is_far_away_or_on_another_time(
    name: str, taken: float, off: float, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = timezone.now()
    monkeypatch.setattr(database, "timezone", type("Ours", (), {"now": lambda: moment}))
    monkeypatch.setattr(database, "_timed", lambda: (taken, moment + timedelta(seconds=off)))
    finds(name, level, *(["ahead of"] if off < 0 else []))


# --- what others wrote ------------------------------------------------------------------------------------------------


def test_files_that_are_elsewhere(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    finds("files", Level.OK, "no files so far")
    owner.submit([request_line("hello")])
    finds("files", Level.OK, "newest 1 files are here")
    monkeypatch.setattr(hosts, "count", lambda: 2)
    finds("files", Level.WARNING, "2 hosts", "STORAGE_URL")
    file = File.objects.get()
    with (objects.folder() / file.storage_key).open("ab") as cut:  # type: ignore[operator]
        cut.truncate(3)
    finds("files", Level.ERROR, "1 of the newest 1 files", "same STORAGE_URL")
    objects.delete(file.storage_key)
    finds("files", Level.ERROR, "1 of the newest 1 files")
    File.objects.update(deleted_at=clock.now())
    monkeypatch.undo()
    finds("files", Level.OK)


def test_another_secret_key(owner: Person, witness: Witness, settings: Any, work: Work) -> None:
    """Web hosts show it by sessions, workers by manifests."""
    mine = settings.SECRET_KEY
    finds("secret-key", Level.OK, "nothing is signed so far")
    settings.SECRET_KEY = "another" * 8
    signed_in(User.objects.create_user("op@example.com", is_staff=True))
    settings.SECRET_KEY = mine
    finds("secret-key", Level.ERROR, "SECRET_KEY_FALLBACKS")
    settings.SECRET_KEY_FALLBACKS = ["another" * 8]
    finds("secret-key", Level.WARNING, "restart")
    settings.SECRET_KEY_FALLBACKS = []
    User.objects.all().delete()
    Session.objects.all().delete()
    owner.submit([request_line("hello")])
    work()
    seal()
    finds("secret-key", Level.OK, "1 looked at")
    SigningKey.objects.update(key_id="of-another-host")
    finds("secret-key", Level.ERROR, "not known here")


def test_a_key_that_each_host_makes_for_itself(monkeypatch: pytest.MonkeyPatch, db: None, settings: Any) -> None:
    monkeypatch.setattr(hosts, "count", lambda: 2)
    finds("secret-key", Level.OK)
    kept = settings.HOME / "secret_key"
    kept.write_text(settings.SECRET_KEY)
    try:
        finds("secret-key", Level.WARNING, "made for itself")
    finally:
        kept.unlink()


def test_secrets_that_do_not_open(db: None, settings: Any) -> None:
    finds("secrets", Level.OK)
    Upstream.objects.create(model="m", base_url="http://m.invalid/v1", api_key="sk-1")
    finds("secrets", Level.OK, "1 sealed")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, [settings.SECRET_KEY]
    finds("secrets", Level.WARNING, "secrets rotate")
    settings.SECRET_KEY_FALLBACKS = []
    finds("secrets", Level.ERROR, "secrets check")


# --- the work ---------------------------------------------------------------------------------------------------------


def test_workers_that_are_not_there(db: None) -> None:
    finds("workers", Level.ERROR, "no schedules", "manage.py worker")
    tasks.install_schedules()
    finds("workers", Level.OK)
    Schedule.objects.update(next_run=timezone.now() - timedelta(minutes=10))
    finds("workers", Level.ERROR, "No worker takes", "manage.py up")


ALERTS = set(re.findall(r"Alert\(\s*\"(\w+)\"", inspect.getsource(alerts)))


def test_every_alert_of_the_console_is_told_once(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    """Urgent ones are errors. A new kind of alert has to be given to a check."""
    made = {name: Alert(name, alerts.ACT, f"<{name}>", "cure", "", "") for name in ALERTS}
    made["tasks"] = made["tasks"]._replace(level=alerts.LOOK)
    everything = home.home(home.PERMISSIONS)._replace(alerts=list(made.values()))
    monkeypatch.setattr(home, "home", lambda *_: everything)
    asked = ("held", "workers", "queue", "upstreams", "models", "batches", "webhooks", "invoices")
    told = [finding for name in asked for finding in found(name) if finding.seen.startswith("<")]
    assert sorted(finding.seen for finding in told) == sorted(f"<{name}>" for name in ALERTS)
    assert {finding.seen for finding in told if finding.level is Level.WARNING} == {"<tasks>"}
    assert len(ALERTS) > 10


def test_upstreams_and_models(owner: Person, witness: Witness) -> None:
    finds("upstreams", Level.OK)
    finds("models", Level.OK)
    dead = Upstream.objects.create(model="witness", base_url=f"http://127.0.0.1:{free_port()}/v1")
    finds("upstreams", Level.WARNING, f"Upstream {dead.pk} for witness", "can't be reached")  # another one answers
    Upstream.objects.exclude(pk=dead.pk).update(enabled=False)
    finds("upstreams", Level.ERROR, f"Upstream {dead.pk} for witness")
    Price.objects.all().delete()
    finds("models", Level.WARNING, "Without a price, lines are free: witness")
    Price.objects.create(model="witness", input=1, cached_input=1, output=1)
    Price.objects.create(model="nobodys", input=1, cached_input=1, output=1)
    finds("models", Level.WARNING, "no upstream is on: nobodys")
    Price.objects.filter(model="nobodys").delete()
    Upstream.objects.update(enabled=False)
    assert [one.seen for one in found("models")][-1] == "No upstream is on: nothing can be run."


def test_staff_without_a_second_step(db: None) -> None:
    finds("staff", Level.OK, "no staff")
    boss = User.objects.create_user("op@example.com", is_staff=True)
    User.objects.create_user("tenants@example.com")
    Authenticator.objects.create(user=boss, type="recovery_codes", data={})
    finds("staff", Level.WARNING, "1 of the staff", "op@example.com")
    Authenticator.objects.create(user=boss, type="totp", data={})
    finds("staff", Level.OK, "1 of the staff")


@pytest.mark.sqlite_only
def test_sqlite_with_other_hosts(db: None) -> None:
    finds("one-machine", Level.OK)
    Runner.objects.create(
        token="t", host="elsewhere", pid=1, started_ticks=1, created_at=clock.now(), lease_until=clock.now()
    )
    finds("one-machine", Level.ERROR, "elsewhere", "PostgreSQL")


def test_the_second_runner_of_a_host_is_no_second_host(db: None) -> None:
    assert hosts.count() == 1


def test_the_page_for_operators_has_each_check_once() -> None:
    page = (settings.BASE_DIR / "docs/operating.md").read_text()
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.*) \| (.*) \|$",
        page.partition("\n## The doctor\n")[2].partition("\n## ")[0],
        re.MULTILINE,
    )
    assert [name for name, *_ in rows] == [check.name for check in CHECKS]
    assert all(len(look) > 10 and len(cure) > 10 for _, look, cure in rows)
