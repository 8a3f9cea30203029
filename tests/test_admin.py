"""The operators' admin: every model has its pages, none of them shows a secret or loads a body."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags
from django_q.models import OrmQ, Schedule, Task

from batches.core.states import Status
from batches.models import (
    Batch,
    File,
    Permit,
    Result,
    Runner,
    Segment,
    Slice,
    Upstream,
    Usage,
    WebhookDelivery,
    WebhookEndpoint,
)
from billing import money
from billing.models import ChargeLine, LedgerEntry, Price
from tenants import keys, trail
from tenants.console import auditing, searching
from tenants.console import pages as bases
from tenants.models import ApiKey, Mark, Tenant, User
from tests import rows
from tests.conftest import Person
from tests.rows import BODY, LEASE, PICKLED, RUNNER, SENDING, SIGNED_BEFORE, SIGNING, STEP, UPSTREAM_KEY, url
from tests.staff import confirmed, signed_in
from tests.test_web import make_batches

MOST_QUERIES = 15
BODIES = ("batches_segment.data", "batches_slice.entries")
UNSELECTED = (
    *BODIES, "batches_batch.secret", "batches_batch.step_token", "tenants_apikey.digest", "tenants_invitation.digest",
    "batches_webhookendpoint.secret", "batches_webhookendpoint.previous_secret", "django_q_ormq.payload",
    "django_q_task.args", "django_q_task.kwargs", "django_q_task.result", "django_q_schedule.args",
)  # fmt: skip


def staff(email: str, *permissions: str, **fields: Any) -> Client:
    """A browser in which somebody of the staff is signed in, with these permissions."""
    user = User.objects.create_user(email, is_staff=True, **fields)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return signed_in(user)


@pytest.fixture
def root(owner: Person) -> Client:
    return staff("root@example.com", is_superuser=True)


@pytest.fixture
def batch(owner: Person) -> Batch:
    """One row of every model hangs on this batch."""
    return rows.hung(owner)


def pages() -> Iterator[str]:
    """The address of every page of the admin."""
    yield reverse("admin:index")
    for model, options in admin.site._registry.items():
        yield url(model, "changelist")
        yield url(model, "change", model._default_manager.values_list("pk", flat=True)[0])
        if options.has_add_permission.__func__ is not bases.ReadOnly.has_add_permission:  # type: ignore[attr-defined]
            yield url(model, "add")
    yield reverse("admin:auth_user_password_change", args=[User.objects.values_list("pk", flat=True)[0]])


@pytest.mark.sqlite_only
def test_every_model_is_registered_and_the_queues_are_ours() -> None:
    ours = {model for app in ("tenants", "billing", "batches") for model in apps.get_app_config(app).get_models()}
    queue = {OrmQ, Task, Schedule}
    elsewhere = {ChargeLine, Mark}  # on the page of its entry; on the console's home, while the service holds
    assert set(admin.site._registry) | elsewhere == ours | {Group} | queue
    assert all(type(admin.site._registry[model]).__module__ == "provocative.queue_admin" for model in queue)


@pytest.mark.sqlite_only
def test_every_page_that_changes_something_is_on_the_trail(root: Client) -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.get()
    for options in admin.site._registry.values():
        kept: Any = options
        if type(kept).note is auditing.Untold.note:
            continue
        may = {
            "created": options.has_add_permission(request),
            "changed": options.has_change_permission(request),
            "deleted": options.has_delete_permission(request),
        }
        for verb in (verb for verb, is_allowed in may.items() if is_allowed):
            assert f"{kept.noun}.{verb}" in trail.ACTIONS, options


@pytest.mark.sqlite_only
def test_every_page_answers_with_few_queries_and_no_body(root: Client, batch: Batch) -> None:
    for page in pages():
        with CaptureQueriesContext(connection) as captured:
            assert root.get(page).status_code == 200, page
        assert len(captured) <= MOST_QUERIES, f"{page}: {len(captured)} queries"
        for column in UNSELECTED:
            quoted = '"{}"."{}"'.format(*column.split("."))
            assert not [query for query in captured if quoted in query["sql"]], f"{page} selects {column}"


@pytest.mark.sqlite_only
def test_entries_of_the_ledger_name_their_sums_in_usd(root: Client, batch: Batch) -> None:
    entry = LedgerEntry.objects.all()[:1].get()
    assert "Invoiced entries" in root.get(reverse("admin:index")).content.decode()
    assert str(entry) == f"{entry.kind} {entry.reference}: {money.usd(entry.amount)} USD"
    assert str(entry) in strip_tags(root.get(url(LedgerEntry, "change", entry.pk)).content.decode())


@pytest.mark.sqlite_only
def test_no_page_shows_a_secret(root: Client, batch: Batch, owner: Person) -> None:
    User.objects.update(password="pbkdf2_sha256$1$the-salt$the-hash")
    root = signed_in(User.objects.get(email="root@example.com"))
    digest = keys.digest(owner.key)
    secrets = [
        owner.key,
        digest,
        UPSTREAM_KEY,
        batch.secret,
        STEP,
        LEASE,
        RUNNER,
        SIGNING,
        SIGNED_BEFORE,
        SENDING,
        BODY.decode(),
        PICKLED,
        "the-salt",
        "the-hash",
    ]
    for page in pages():
        html = root.get(page).content.decode()
        assert not [secret for secret in secrets if secret in html], page
        assert "django" not in strip_tags(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)).lower(), page


@pytest.mark.sqlite_only
def test_no_secret_can_be_guessed_by_a_filter(root: Client, batch: Batch) -> None:
    for model, lookup in (
        (Upstream, "api_key__startswith"),
        (Batch, "secret__startswith"),
        (Batch, "api_key__digest__startswith"),
        (ApiKey, "digest__startswith"),
        (Permit, "upstream__api_key__startswith"),
        (User, "password__startswith"),
        (WebhookEndpoint, "secret__startswith"),
        (WebhookDelivery, "endpoint__previous_secret__startswith"),
        (OrmQ, "payload__startswith"),
        (Task, "result__startswith"),
        (Schedule, "args__startswith"),
    ):
        assert root.get(url(model, "changelist"), {lookup: "s"}).status_code == 400, lookup


@pytest.mark.sqlite_only
def test_only_staff_come_in(client: Client, batch: Batch) -> None:
    addresses = list(pages())
    for user in (None, User.objects.get(email="ada@example.com")):
        if user:
            client.force_login(user)
        for page in addresses:
            answer = client.get(page)
            assert answer.status_code == 302 and answer["Location"].startswith("/admin/login/"), page
    door = reverse("admin:login") + "?next=/admin/tenants/"
    assert Client().get(door)["Location"] == "/account/login/?next=%2Fadmin%2Ftenants%2F"
    assert (
        Client().post(door, {"username": "root@example.com", "password": "x"})["Location"].startswith("/account/login/")
    )
    assert client.get(door).status_code == 403  # signed in, and not of the staff


@pytest.mark.sqlite_only
def test_what_the_service_writes_is_read_only(root: Client, batch: Batch, owner: Person) -> None:
    written = (Batch, File, Result, Segment, Slice, Usage, Runner, Permit, LedgerEntry, ApiKey)
    for model in (*written, WebhookEndpoint, WebhookDelivery, OrmQ, Task, Schedule):
        row = model._default_manager.values_list("pk", flat=True)[0]
        adding = () if model is LedgerEntry else (url(model, "add"),)  # credits are given there
        for page in (*adding, url(model, "change", row), url(model, "delete", row)):
            assert root.post(page, {"post": "yes"}).status_code == 403, page
    for kept in (owner.tenant, User.objects.all()[0], Price.objects.all()[0]):
        assert root.post(url(kept, "delete", kept.pk), {"post": "yes"}).status_code == 403


@pytest.mark.sqlite_only
def test_money_is_shown_in_usd(root: Client, batch: Batch) -> None:
    shown = [(Batch, "1.5"), (LedgerEntry, "1.5"), (Result, "0.0000025"), (Usage, "0.0000025")]
    for model, usd in (*shown, (Price, "0.15"), (Price, "0.6")):
        assert f">{usd}<" in root.get(url(model, "changelist")).content.decode()


@pytest.mark.sqlite_only
def test_long_errors_are_cut(root: Client, batch: Batch) -> None:
    Batch.objects.filter(pk=batch.pk).update(errors="e" * 50_000)
    assert "e" * 3_000 not in root.get(url(Batch, "change", batch.pk)).content.decode()


def act(client: Client, model: Any, action: str, *rows: Any, **answers: str) -> str:
    return confirmed(client, url(model, "changelist"), action, *rows, **answers)


@pytest.mark.sqlite_first
def test_a_batch_is_cancelled_and_a_finished_one_is_not(root: Client, batch: Batch, owner: Person) -> None:
    [finished] = make_batches(owner.tenant, status=Status.COMPLETED)
    html = act(root, Batch, "cancel", batch, finished)
    assert "Cancel: done to 1 batch" in html
    assert f"{finished.public_id}: The batch can&#x27;t be cancelled any more" in html
    batch.refresh_from_db()
    finished.refresh_from_db()
    assert batch.cancelling_at is not None and finished.status == Status.COMPLETED


@pytest.mark.sqlite_only
def test_a_key_is_revoked_once(root: Client, batch: Batch, owner: Person) -> None:
    row = ApiKey.objects.get(tenant=owner.tenant)
    assert "Revoke: done to 1 API key" in act(root, ApiKey, "revoke", row)
    assert "It was revoked before" in act(root, ApiKey, "revoke", row)
    assert owner.get("/v1/batch").status_code == 401


@pytest.mark.sqlite_only
def test_actions_need_their_permission(batch: Batch, owner: Person) -> None:
    viewer = staff("viewer@example.com", "view_batch", "view_apikey")
    act(viewer, Batch, "cancel", batch)
    act(viewer, ApiKey, "revoke", ApiKey.objects.get())
    batch.refresh_from_db()
    assert batch.status == Status.IN_PROGRESS and owner.get("/v1/batch").status_code == 200


def upstream_form(**fields: str) -> dict[str, str]:
    return {"model": "m", "base_url": "http://up/v1", "kind": "vllm", "max_in_flight": "8", "enabled": "on"} | fields


@pytest.mark.sqlite_only
def test_an_upstreams_key_is_written_kept_and_removed(root: Client, batch: Batch) -> None:
    page = url(Upstream, "change", Upstream.objects.get().pk)
    for fields, stored in (
        ({}, UPSTREAM_KEY),
        ({"new_key": "another"}, "another"),
        ({"base_url": "ftp://nowhere", "new_key": "typed"}, "another"),
        ({"forget_key": "on"}, ""),
    ):
        assert b"typed" not in root.post(page, upstream_form(**fields)).content
        assert Upstream.objects.get().api_key.open() == stored
    root.post(url(Upstream, "add"), upstream_form(model="other", new_key="fresh"))
    assert Upstream.objects.get(model="other").api_key.open() == "fresh"


@pytest.mark.sqlite_only
def test_who_may_only_look_sees_no_upstream_key(batch: Batch) -> None:
    viewer = staff("viewer@example.com", "view_upstream", "view_permit")
    for page in (url(Upstream, "change", Upstream.objects.get().pk), url(Upstream, "changelist")):
        html = viewer.get(page).content.decode()
        assert "http://up/v1" in html and UPSTREAM_KEY not in html and "API key" not in html


@pytest.mark.sqlite_only
def test_a_price_is_written_in_usd_and_never_edited(root: Client, batch: Batch) -> None:
    data = {"model": "new", "input": "0.075", "cached_input": "", "output": "0.30", "discount": "50"}
    before = timezone.now()
    assert root.post(url(Price, "add"), data | {"effective_at_0": "2020-01-01"}).status_code == 302
    price = Price.objects.get(model="new")
    assert (price.input, price.cached_input, price.output) == (75_000, 75_000, 300_000)
    assert price.effective_at >= before
    assert b"at most 6 decimals" in root.post(url(Price, "add"), data | {"input": "0.0000001"}).content
    assert b"greater than or equal to 50" in root.post(url(Price, "add"), data | {"discount": "49"}).content
    assert root.post(url(Price, "change", price.pk), data | {"input": "9"}).status_code == 403
    assert Price.objects.filter(model="new").count() == 1


@pytest.mark.sqlite_only
def test_a_change_writes_only_what_was_changed(root: Client, batch: Batch, owner: Person) -> None:
    inline = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    form = {"name": "owner", "plan": "reserved", "batch_limit": "", "weight": "1", "reserved_slots": "0"}
    with CaptureQueriesContext(connection) as captured:
        answer = root.post(url(Tenant, "change", owner.tenant.pk), form | inline)
    assert answer.status_code == 302
    updates = [query["sql"] for query in captured if query["sql"].startswith('UPDATE "tenants_tenant"')]
    assert len(updates) == 1 and '"plan"' in updates[0] and '"weight"' not in updates[0]
    assert Tenant.objects.get(pk=owner.tenant.pk).plan == "reserved"


@pytest.mark.sqlite_only
def test_a_person_is_added_by_e_mail(root: Client, batch: Batch) -> None:
    words = {"password1": "a long enough phrase", "password2": "a long enough phrase", "usable_password": "true"}
    assert root.post(url(User, "add"), {"email": "New@Example.com"} | words).status_code == 302
    person = User.objects.get(email="new@example.com")
    assert person.check_password("a long enough phrase")
    root.post(url(User, "change", person.pk), {"email": "New@Example.com", "first_name": "N", "is_active": "on"})
    person.refresh_from_db()
    assert (person.email, person.first_name) == ("new@example.com", "N")
    assert person.check_password("a long enough phrase")


@pytest.mark.sqlite_only
def test_only_superusers_make_staff(batch: Batch) -> None:
    helper = staff("helper@example.com", "view_user", "change_user", "add_user", "change_group")
    for model in (User, Group):
        row = model._default_manager.values_list("pk", flat=True)[0]
        for page in (url(model, "changelist"), url(model, "change", row), url(model, "add")):
            assert helper.get(page).status_code == 403, page


def test_lists_are_searched(root: Client, batch: Batch, owner: Person) -> None:
    [other] = make_batches(owner.tenant)

    def found(model: Any, term: str) -> int:
        answer = root.get(url(model, "changelist"), {"q": term})
        assert answer.status_code == 200
        return int(answer.context["cl"].result_count)

    assert found(Batch, batch.public_id) == 1 and found(Batch, "owner") == 2
    assert found(Result, batch.public_id) == 1 and found(Result, other.public_id) == 0
    assert found(Result, f"{batch.public_id} first of all") == 1 and found(Result, f"{batch.public_id} second") == 0
    assert found(Usage, batch.public_id) == found(Usage, "owner") == 1 and found(Usage, other.public_id) == 0
    assert found(Slice, batch.public_id) == 1 and found(Segment, batch.public_id) == 1
    for model in admin.site._registry:
        found(model, "'\"%_\\ é")


def test_lists_are_filtered(root: Client, batch: Batch) -> None:
    for outcome, count in (("delivered", 1), ("failed", 0), ("flagged", 0)):
        answer = root.get(url(Result, "changelist"), {"outcome": outcome, "batch__id__exact": str(batch.pk)})
        assert answer.context["cl"].result_count == count
    assert root.get(url(Batch, "changelist"), {"status__exact": "in_progress"}).context["cl"].result_count == 1


@pytest.mark.sqlite_first
def test_what_is_no_id_is_nothing_that_was_chosen(root: Client, batch: Batch) -> None:
    for model, options in admin.site._registry.items():
        for action in options.actions or ():
            name = action if isinstance(action, str) else action.__name__
            for junk in ("abc", "\x00", "9" * 30, "", "-1", "٣"):
                data = {"action": name, "_selected_action": junk, "confirmed": "yes"}
                assert root.post(url(model, "changelist"), data).status_code == 302, (model, name, junk)


def test_counting_stops(root: Client, batch: Batch, owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "COUNTED", 2)
    make_batches(owner.tenant, 3)
    assert root.get(url(Batch, "changelist")).context["cl"].result_count == 2
