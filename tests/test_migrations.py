"""Migrations beside a service that runs: what they wait for, what the house's rules say of them, how they stop."""

import io
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import IntegrityError, OperationalError, connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.functions import Now, Random, Upper

from provocative import migrating
from tenants.migrating import AddIndexConcurrently, ChangeRows
from tenants.models import Tenant
from tenants.postgres import schema
from tests import environment
from tests.conftest import until
from tests.migration_rules import faults, statements

on_postgres = pytest.mark.skipif(environment.DATABASE != "postgres", reason="SQLite locks in another way")

# The last that were written before these rules: they ran while the service was stopped.
BEFORE = {
    "account": "0009", "admin": "0003", "auth": "0012", "batches": "0022", "billing": "0006", "contenttypes": "0002",
    "django_q": "0019", "mfa": "0003", "sessions": "0001", "tenants": "0012",
}  # fmt: skip


# --- what migrations may do ------------------------------------------------------------------------------------------


@on_postgres
@pytest.mark.django_db
def test_every_migration_since_lets_the_service_run_beside_it() -> None:
    loader = MigrationLoader(connection, replace_migrations=False)
    judged = [key for key in loader.disk_migrations if key[1][:4] > BEFORE.get(key[0], "")]
    wrong = {
        f"{app}.{name}": found
        for app, name in judged
        if (found := faults(loader.disk_migrations[app, name], loader.project_state((app, name), at_end=False)))
    }
    assert wrong == {}
    assert set(BEFORE) == {app for app, _ in loader.disk_migrations}


@pytest.fixture
def known() -> ProjectState:
    """Two tables that are there: one that grows, and a small one."""
    state = ProjectState()
    for name, table in (("big", "made_big"), ("small", "tenants_tenant")):
        fields: list[Any] = [
            ("id", models.BigAutoField(primary_key=True)),
            ("name", models.CharField(max_length=9, null=True)),
        ]
        state.add_model(ModelState("made", name, fields, options={"db_table": table}))
    return state


def made(*operations: Any, atomic: bool = True, **accepts: str) -> Any:
    body = {"operations": list(operations), "atomic": atomic, "accepts": accepts}
    return type("Migration", (migrations.Migration,), body)("sample", "made")


def adds(field: Any, model: str = "big") -> migrations.AddField:
    return migrations.AddField(model, "added", field)


INDEX = models.Index(fields=["name"], name="made_index")
CHECK = models.CheckConstraint(condition=models.Q(name="a"), name="made_check")
NOTHING = migrations.RunPython(migrations.RunPython.noop)
NEW = migrations.CreateModel("new", [("id", models.BigAutoField(primary_key=True)), ("name", models.TextField())])
WRONG = {
    "an index": ("index", made(migrations.AddIndex("big", INDEX))),
    "an index of a foreign key": ("index", made(adds(models.ForeignKey("made.small", models.CASCADE, null=True)))),
    "a column that old code leaves out": ("missed", made(adds(models.IntegerField(default=0)))),
    "one of a small table": ("missed", made(adds(models.IntegerField(default=0), "small"))),
    "a column that must be filled": ("data required", made(migrations.AlterField("big", "name", models.CharField(max_length=9, default="")))),
    "a constraint": ("constraint", made(migrations.AddConstraint("big", CHECK))),
    "a column with a check": ("constraint", made(adds(models.PositiveIntegerField(db_default=0)))),
    "a column with a unique index": ("constraint", made(adds(models.IntegerField(null=True, unique=True)))),
    "another type": ("rewrite", made(migrations.AlterField("big", "name", models.TextField(null=True)))),
    "a default of its own for each row": ("rewrite", made(adds(models.FloatField(db_default=Random())))),
    "a column that is computed": ("rewrite", made(adds(models.GeneratedField(expression=Upper("name"), output_field=models.TextField(), db_persist=True)))),
    "a column that goes": ("drop", made(migrations.RemoveField("big", "name"))),
    "a column that goes too early": ("drop", made(migrations.RemoveField("big", "name"), drop="last used by 99.0.0")),
    "a table that goes": ("drop", made(migrations.DeleteModel("small"))),
    "another name of a column": ("rename", made(migrations.RenameField("small", "name", "title"))),
    "another name of a table": ("rename", made(migrations.AlterModelTable("small", "made_other"))),
    "rows, in SQL": ("data", made(migrations.RunSQL("UPDATE made_big SET name = ''"))),
    "rows, in Python": ("data", made(NOTHING)),
    "rows in pieces of one transaction": ("data", made(ChangeRows("made.big", len))),
    "rows and columns": ("mixed", made(adds(models.IntegerField(null=True)), NOTHING, data="few")),
    "no transaction": ("again", made(adds(models.IntegerField(null=True)), atomic=False)),
    "a reason for nothing": ("accepts", made(adds(models.IntegerField(null=True)), index="small")),
}  # fmt: skip
RIGHT = {
    "an index beside writers": made(AddIndexConcurrently("big", INDEX), atomic=False),
    "an index of a small table": made(migrations.AddIndex("small", INDEX)),
    "a column that may be null": made(adds(models.IntegerField(null=True))),
    "a column that the database fills": made(adds(models.IntegerField(db_default=0)), adds(models.TextField(db_default=""), "small")),
    "a column with a time": made(adds(models.DateTimeField(db_default=Now()))),
    "a foreign key without an index": made(adds(models.ForeignKey("made.small", models.CASCADE, null=True, db_index=False))),
    "a table": made(NEW, migrations.AddIndex("new", models.Index(fields=["name"], name="made_new"))),
    "rows in pieces": made(ChangeRows("made.big", len), atomic=False),
    "few rows": made(NOTHING, data="a dozen permissions"),
}  # fmt: skip


@on_postgres
@pytest.mark.django_db
@pytest.mark.parametrize("name", WRONG)
def test_a_migration_that_would_stop_the_service_is_found(known: ProjectState, name: str) -> None:
    rule, migration = WRONG[name]
    broken = " ".join(fault.split()[0].strip(":") for fault in faults(migration, known))
    assert broken == rule, statements(migration, known)


@on_postgres
@pytest.mark.django_db
@pytest.mark.parametrize("name", RIGHT)
def test_one_that_lets_it_run_is_none(known: ProjectState, name: str) -> None:
    assert faults(RIGHT[name], known) == []


# --- what waits for locks --------------------------------------------------------------------------------------------


@pytest.fixture
def another(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A transaction of somebody else's, which has read the tenants and is not over."""
    with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": psycopg.Cursor}) as opened:
        opened.execute("SET application_name = 'reporting'")
        opened.execute("SELECT count(*) FROM tenants_tenant")
        yield opened


def change_tenants(atomic: bool = True) -> None:
    with connection.schema_editor(atomic=atomic) as editor:
        editor.execute("ALTER TABLE tenants_tenant ENABLE ROW LEVEL SECURITY")


@on_postgres
@pytest.mark.parametrize("atomic", [True, False])
def test_a_migration_holds_the_service_up_for_no_longer_than_the_limit(
    another: Any, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", 300)
    refused: list[OperationalError] = []

    def alter() -> None:
        try:
            change_tenants(atomic)
        except OperationalError as error:
            refused.append(error)
        connection.close()

    migration = threading.Thread(target=alter)
    migration.start()
    with psycopg.connect(**{**connection.get_connection_params(), "cursor_factory": psycopg.Cursor}) as service:
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%ALTER TABLE%'"
        until(lambda: service.execute(waiting).fetchone() or refused)
        service.execute("SET statement_timeout = 20000")
        service.execute("SELECT count(*) FROM tenants_tenant")
    migration.join()
    assert len(refused) == 1
    another.rollback()
    change_tenants(atomic)
    with connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",), "nothing is left of it on the connection"


class Attempts:
    """A migration that meets a lock, so many times before it is free."""

    def __init__(self, refused: int) -> None:
        self.left, self.made = refused, 0

    def __call__(self, *args: Any, **options: Any) -> None:
        self.made += 1
        if self.left:
            self.left -= 1
            change_tenants()


@on_postgres
def test_it_is_tried_again_and_tells_whom_it_waits_for(another: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = Attempts(2)
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", 50)
    monkeypatch.setattr(migrating, "PAUSE", 0.0)
    monkeypatch.setattr(migrate.Command, "handle", attempts)
    said = io.StringIO()
    call_command("migrate", stderr=said)
    assert attempts.made == 3
    told = f"process {another.info.backend_pid} (reporting, idle in transaction)"
    assert said.getvalue().count(told) == 2
    assert "SELECT" not in said.getvalue()


@on_postgres
def test_it_ends_with_a_sentence_when_it_is_never_free(another: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", 50)
    monkeypatch.setattr(migrating, "PATIENCE", -1.0)
    monkeypatch.setattr(migrate.Command, "handle", Attempts(9))
    with pytest.raises(
        CommandError, match=r"A lock was not to be had in time.*reporting.*run `manage.py migrate` later"
    ):
        call_command("migrate")


@on_postgres
def test_other_errors_are_not_tried_again(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    def fail(*args: Any, **options: Any) -> None:
        attempts.append(1)
        raise OperationalError("the server went away")

    monkeypatch.setattr(migrate.Command, "handle", fail)
    with pytest.raises(OperationalError, match="went away"):
        call_command("migrate")
    assert attempts == [1]


@on_postgres
def test_an_index_is_built_while_another_host_waits_to_migrate(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waited in a statement would be waited for by the index, and that by it: a deadlock."""
    asks: list[str] = []

    def asked(database: str, function: str) -> bool:
        asks.append(function)
        return ask(database, function)

    def other_host() -> None:
        with migrating.alone():
            asks.append("alone")
        connection.close()

    ask = migrating._asked
    monkeypatch.setattr(migrating, "_asked", asked)
    monkeypatch.setattr(migrating, "LOOK_AGAIN", 0.02)
    monkeypatch.setattr("fcntl.flock", lambda file, how: None)  # of a host of its own
    other = threading.Thread(target=other_host)
    with migrating.alone():
        other.start()
        until(lambda: len(asks) > 3)
        with connection.schema_editor(atomic=False) as opened:
            editor: Any = opened  # PostgreSQL's
            editor.add_index(Tenant, models.Index(fields=["created_at"], name="made_index"), concurrently=True)
            editor.execute("DROP INDEX made_index")
        assert "alone" not in asks
    other.join()
    assert "alone" in asks


# --- what may be run again -------------------------------------------------------------------------------------------


def applied(operation: Any) -> None:
    state = MigrationLoader(connection).project_state()
    migration = made(operation, atomic=False)
    migration.app_label = "tenants"
    with connection.schema_editor(atomic=False) as editor:
        migration.apply(state, editor)


@pytest.mark.django_db(transaction=True)
def test_an_index_that_a_stopped_attempt_left_is_made_anew() -> None:
    Tenant.objects.bulk_create(Tenant(name=f"tenant {number}") for number in range(2))
    operation = AddIndexConcurrently("tenant", models.Index(fields=["created_at"], name="made_index"))
    with connection.cursor() as cursor:
        try:
            if connection.vendor == "postgresql":
                with pytest.raises(IntegrityError):
                    cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY made_index ON tenants_tenant (weight)")
            applied(operation)
            found = connection.introspection.get_constraints(cursor, "tenants_tenant")["made_index"]
            assert found["index"] and found["columns"] == ["created_at"]
        finally:
            cursor.execute("DROP INDEX IF EXISTS made_index")


@pytest.mark.django_db(transaction=True)
def test_rows_are_changed_in_pieces_each_of_which_stays() -> None:
    Tenant.objects.bulk_create(Tenant(name=f"tenant {number}") for number in range(10))
    sizes: list[int] = []

    def change(rows: models.QuerySet[Any]) -> None:
        sizes.append(rows.exclude(weight=7).update(weight=7))
        if len(sizes) == 3:
            raise LookupError("stopped")

    with pytest.raises(LookupError):
        applied(ChangeRows("tenants.Tenant", change, 3))
    assert Tenant.objects.filter(weight=7).count() == 6
    applied(ChangeRows("tenants.Tenant", change, 3))
    assert Tenant.objects.filter(weight=7).count() == 10
    assert sizes == [3, 3, 3, 0, 0, 3, 1]
