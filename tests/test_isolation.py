"""Tenants are isolated twice: by managers that ask for whom the code works, and on PostgreSQL by policies."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import NotSupportedError, ProgrammingError, connection, transaction
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext

from batches.engine.committing import Committer
from batches.models import Batch, File, Manifest, Upstream
from billing.models import LedgerEntry
from provocative import middleware
from tenants import paging, scope
from tenants.models import AuditEvent, Tenant, User
from tenants.owned import Owned
from tenants.postgres import checks
from tenants.scope import Unscoped
from tests.conftest import Person
from tests.rows import bill, hung

postgres_only = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no policies")

# Of no tenant: people, the mark, runners and their permits, prices for all, keys of ours, what Stripe told.
NOBODYS = {"User", "Mark", "Runner", "Permit", "Price", "SigningKey", "StripeEvent"}
OURS = [model for app in ("tenants", "billing", "batches") for model in apps.get_app_config(app).get_models()]
OWNED = [model for model in OURS if model.__name__ not in NOBODYS]
NAMES = [model.__name__ for model in OWNED]


def column(model: type[Model]) -> str:
    return "id" if model is Tenant else "tenant_id"


@pytest.fixture
def worlds(owner: Person, outsider: Person) -> tuple[int, int]:
    """Rows of every table with a tenant, of two of them."""
    batch = hung(owner)
    Upstream.objects.create(tenant=owner.tenant, model="own", base_url="http://own/v1")
    for tenant in (owner.tenant, outsider.tenant):
        AuditEvent.objects.create(tenant=tenant, actor="a", action="key.created", target="t")
    AuditEvent.objects.create(actor="a", action="price.created", target="t")
    File.objects.create(
        tenant=outsider.tenant, purpose="batch", filename="f", bytes=1, lines=1, sha256="0", storage_key="x",
        created_at=batch.created_at,
    )  # fmt: skip
    if not LedgerEntry.objects.exists():
        bill(owner.tenant, batch)
    return owner.tenant.pk, outsider.tenant.pk


# --- the first wall ---------------------------------------------------------------------------------------------------


def test_every_model_says_whose_its_rows_are() -> None:
    """A new model has a tenant, the manager and the policy; or it stands in NOBODYS."""
    for model in OURS:
        named = any(field.name == "tenant" for field in model._meta.fields) or model is Tenant
        assert named == (model in OWNED), f"{model.__name__}: give it a tenant, or a reason in NOBODYS"
        assert isinstance(model._default_manager, Owned) == named, f"{model.__name__} needs objects = Owned()"


@pytest.mark.parametrize("model", OWNED, ids=NAMES)
def test_who_works_for_nobody_is_refused(model: type[Model]) -> None:
    with scope.nobody(), pytest.raises(Unscoped, match=model.__name__):
        model._default_manager.all()


def test_a_manager_gives_the_rows_of_its_tenant(worlds: tuple[int, int]) -> None:
    for model in OWNED:
        everyones = set(model._default_manager.values_list("pk", column(model)))
        seen: set[Any] = set()
        for tenant in worlds:
            with scope.tenant(tenant):
                mine = set(model._default_manager.values_list("pk", column(model)))
            assert {whose for _, whose in mine} <= ({tenant, None} if model is Upstream else {tenant}), model
            seen |= mine
        assert seen == {(pk, whose) for pk, whose in everyones if whose is not None or model is Upstream}, model
        assert everyones, f"{model.__name__}: the test needs a row of it"


def test_related_rows_come_by_the_same_managers(worlds: tuple[int, int], owner: Person) -> None:
    with scope.tenant(worlds[1]):
        assert not owner.tenant.batches.exists()
    with scope.nobody(), pytest.raises(Unscoped):
        owner.tenant.batches.all()


def test_a_request_is_settled_once() -> None:
    with scope.nobody():
        scope.settle(1)
        scope.settle(1)
        with pytest.raises(Unscoped, match="works for 1 already"):
            scope.settle(2)
        with pytest.raises(Unscoped, match="works for 1 already"):
            scope.settle_every()
        with scope.every():
            assert scope.current() is scope.EVERYONE
        assert scope.current() == 1
    assert scope.current() is scope.EVERYONE, "the tests' own"


def test_a_request_begins_as_nobody_and_leaves_nothing(owner: Person, outsider: Person) -> None:
    seen: list[scope.Scope] = []

    def view(request: HttpRequest) -> Any:
        seen.append(scope.current())
        scope.settle(len(seen))
        return HttpResponse()

    handle = middleware.Scoped(view)
    with scope.nobody():
        for _ in range(2):
            handle(RequestFactory().get("/"))
        assert scope.current() is None
    assert seen == [None, None]


def test_what_is_streamed_is_made_for_whom_the_request_worked() -> None:
    """Two that are read in turns, by somebody who works for nobody."""

    def pieces() -> Iterator[bytes]:
        while True:
            yield str(scope.current()).encode()

    def view(request: HttpRequest) -> Any:
        scope.settle(int(request.GET["tenant"]))
        return StreamingHttpResponse(pieces())

    with scope.nobody():
        first, second = (iter(middleware.Scoped(view)(RequestFactory().get(f"/?tenant={n}"))) for n in (1, 2))
        assert [next(each) for each in (first, second, first, second)] == [b"1", b"2", b"1", b"2"]
        assert scope.current() is None


def test_a_view_that_forgets_it_breaks_loudly(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenants.scope.settle", lambda pk: None)
    assert owner.get("/healthz").status_code == 200
    answer = owner.client.get("/v1/batch", headers={"Authorization": f"Bearer {owner.key}"})
    assert answer.status_code == 500


def test_a_thread_begins_as_nobody_unless_it_is_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[scope.Scope] = []

    def look() -> None:
        seen.append(scope.current())

    for target in (look, scope.carried(look)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join(10)
    assert seen == [None, scope.EVERYONE]


def test_commits_work_for_whom_the_runner_does(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[scope.Scope] = []
    monkeypatch.setattr("batches.engine.committing.commit", lambda group: seen.append(scope.current()))
    committer = Committer(wake=lambda: None)
    with scope.tenant(7):
        committer.start([])
    assert committer.wait() == ([], None)
    committer.close()
    assert seen == [7]


def test_steps_of_a_batch_work_for_its_tenant(
    owner: Person, witness: Any, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batches import results, sealing, validation
    from tests.conftest import seal
    from tests.witness import request_line

    seen: dict[str, scope.Scope] = {}

    def noting(module: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(module, name)

        def noted(*args: Any) -> Any:
            seen[name] = scope.current()
            return original(*args)

        monkeypatch.setattr(module, name, noted)

    for module, name in ((validation, "_validate"), (results, "_finalize"), (sealing, "_seal")):
        noting(module, name)
    assert owner.submit([request_line("x")]).status_code == 200
    work()
    seal()
    assert Manifest.objects.count() == 1
    assert seen == dict.fromkeys(("_validate", "_finalize", "_seal"), owner.tenant.pk)


def test_pages_of_a_table_are_all_of_it(owner: Person) -> None:
    for number in range(7):
        AuditEvent.objects.create(tenant=owner.tenant, actor="a", action="key.created", target=str(number))
    assert [row.target for row in paging.by_pk(AuditEvent.objects.all(), 3)] == list("0123456")


# --- the second wall --------------------------------------------------------------------------------------------------


def raw(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


@postgres_only
def test_raw_queries_return_the_rows_of_the_tenant_alone(worlds: tuple[int, int]) -> None:
    for model in OWNED:
        table = model._meta.db_table
        with scope.nobody():
            assert raw(f"SELECT 1 FROM {table}") == [], f"{table} without a tenant"
        with scope.every():
            everyones = sorted(raw(f"SELECT {column(model)} FROM {table}"), key=repr)
        assert everyones, table
        for tenant in worlds:
            shown = [(tenant,), (None,)] if model is Upstream else [(tenant,)]
            with scope.tenant(tenant):
                mine = sorted(raw(f"SELECT {column(model)} FROM {table}"), key=repr)
            assert mine == [row for row in everyones if row in shown], table


@postgres_only
def test_the_database_takes_no_row_for_another_tenant(worlds: tuple[int, int]) -> None:
    """Of every table: neither is one moved there, nor changed or removed there, nor put there."""
    mine, other = worlds
    kept = {"tenants_auditevent", "billing_ledgerentry", "billing_chargeline", "billing_invoicedentry"}  # append-only
    for model in OWNED:
        table, whose = model._meta.db_table, column(model)
        with scope.tenant(mine):
            if table not in kept and model is not Tenant:
                assert raw(f"UPDATE {table} SET {whose} = {whose} WHERE {whose} = %s RETURNING 1", other) == []
                with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
                    raw(f"UPDATE {table} SET {whose} = %s", other)
                assert raw(f"DELETE FROM {table} WHERE {whose} = %s RETURNING 1", other) == []
            columns = ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields)
            copied = ", ".join(
                str(other) if field.column == whose else f'"{field.column}"' for field in model._meta.concrete_fields
            )
            with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
                raw(f"INSERT INTO {table} ({columns}) SELECT {copied} FROM {table} WHERE {whose} = %s", mine)
    with scope.tenant(mine):  # nor a shared upstream, nor an event of the operators'
        for row in (Upstream(model="m2", base_url="http://x/v1"), AuditEvent(actor="a", action="x", target="t")):
            with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
                row.save()
        assert raw("UPDATE batches_upstream SET enabled = false WHERE tenant_id IS NULL RETURNING 1") == []


@postgres_only
@pytest.mark.parametrize("model", OWNED, ids=NAMES)
def test_every_table_has_its_policy(model: type[Model], transactional_db: None) -> None:
    """FORCE: the service owns its tables."""
    about = "SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE oid = %s::regclass"
    assert raw(about, model._meta.db_table) == [(True, True)]
    policies = "SELECT permissive, cmd, qual = with_check FROM pg_policies WHERE tablename = %s AND policyname = 'own'"
    assert raw(policies, model._meta.db_table) == [("PERMISSIVE", "ALL", True)]


@postgres_only
def test_without_the_policy_it_would_be_read(worlds: tuple[int, int]) -> None:
    """That the tests above have teeth: the table without its policies tells all."""
    with transaction.atomic():
        raw("ALTER TABLE batches_file NO FORCE ROW LEVEL SECURITY")  # bound are others than its owner now
        with scope.nobody():
            assert len(raw("SELECT 1 FROM batches_file")) > 1
        transaction.set_rollback(True)
    with scope.nobody():
        assert raw("SELECT 1 FROM batches_file") == []


@postgres_only
def test_the_setting_ends_with_its_statement_and_its_transaction(worlds: tuple[int, int]) -> None:
    mine, other = worlds
    counting, setting = "SELECT count(*) FROM batches_batch", f"SELECT current_setting('{scope.SETTING}', true)"
    with scope.tenant(mine):
        assert raw(counting) == [(1,)]
    with scope.nobody():
        assert raw(setting) in ([("",)], [(None,)]), "outside of transactions nothing is left"
        assert raw(counting) == [(0,)]
    with transaction.atomic():
        with scope.tenant(mine), transaction.atomic():
            assert raw(counting) == [(1,)]
            transaction.set_rollback(True)
        with scope.tenant(other):
            assert raw(counting) == [(0,)], "also after a savepoint was rolled back"
        with scope.tenant(mine):
            assert raw(counting) == [(1,)]
            with pytest.raises(ProgrammingError), transaction.atomic():
                raw("SELECT nothing_such")
            assert raw(counting) == [(1,)], "and after a statement that failed"


@postgres_only
def test_what_a_statement_answers_is_its_own(worlds: tuple[int, int]) -> None:
    """Not what the setting before it came to."""
    with scope.tenant(worlds[0]), connection.cursor() as cursor:
        cursor.execute("UPDATE batches_batch SET raised = true RETURNING raised")
        assert (cursor.rowcount, cursor.fetchall()) == (1, [(True,)])
        cursor.execute("UPDATE batches_batch SET raised = false")
        assert (cursor.rowcount, cursor.description) == (1, None)
        with CaptureQueriesContext(connection) as captured:
            assert Batch.objects.update(raised=True) == 1
        assert [each["sql"][:6] for each in captured] == ["UPDATE"]
        cursor.execute("VACUUM batches_batch")  # what can't be in a transaction is sent alone
        with pytest.raises(NotSupportedError):
            cursor.executemany("SELECT %s", [(1,)])
        with pytest.raises(NotSupportedError):
            connection.chunked_cursor()


@postgres_only
def test_the_check_tells_of_a_role_that_policies_do_not_bind(transactional_db: None, monkeypatch: Any) -> None:
    assert checks.check_role(databases=["default"]) == []
    monkeypatch.setattr(checks, "FREE", "SELECT 'postgres', true")
    (found,) = checks.check_role(databases=["default"])
    assert (found.id, "postgres" in found.msg, "NOSUPERUSER" in str(found.hint)) == ("tenants.W001", True, True)
    assert checks.check_role() == [], "it asks no database that was not named"


@postgres_only
@pytest.mark.soak
def test_policies_can_be_taken_back(worlds: tuple[int, int]) -> None:
    before = raw("SELECT tablename, policyname, cmd, qual FROM pg_policies ORDER BY 1, 2")
    try:
        for app, name in (("batches", "0016"), ("billing", "0005"), ("tenants", "0007")):
            call_command("migrate", app, name, verbosity=0)
        assert raw("SELECT 1 FROM pg_policies") == []
    finally:
        call_command("migrate", verbosity=0)
    assert raw("SELECT tablename, policyname, cmd, qual FROM pg_policies ORDER BY 1, 2") == before


@postgres_only
def test_people_are_not_hidden(worlds: tuple[int, int]) -> None:
    """Who signs in is of no tenant yet."""
    User.objects.create_user("somebody@example.com")
    with scope.nobody():
        assert User.objects.count() >= 1
