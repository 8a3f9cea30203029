"""Files are kept as long as their tenant's retention says, and no more bytes of them than its limit."""

import threading
from datetime import timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
from django.apps import apps
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from batches import keeping, sweeping
from batches.models import Batch, File
from tenants import clock
from tenants.models import AuditEvent, Membership, Tenant, User
from tests import staff
from tests.conftest import Person, seal
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first  # each database does it the same

DAY = 86_400


def ends(what: str) -> int:
    """After how many seconds a file of this purpose ends."""
    file = File.objects.get(purpose=what)
    assert file.expires_at
    return round((file.expires_at - file.created_at).total_seconds())


def later(days: int) -> None:
    """Let this many days pass for all files."""
    for file in File.objects.all():
        file.created_at -= timedelta(days=days)
        file.expires_at = file.expires_at and file.expires_at - timedelta(days=days)
        file.save()


def mixed(owner: Person, **fields: str) -> str:
    """A batch with an output, errors and a results file."""
    lines = [request_line("a"), request_line("b", faults=["400"])]
    return str(owner.submit(lines, **fields).json()["id"])


def test_inputs_and_outputs_go_after_the_retention(owner: Person, witness: Witness, work: Any) -> None:
    batch = mixed(owner)
    work()
    seal()
    assert {ends(purpose) for purpose in ("batch", "batch_results", "batch_receipts")} == {30 * DAY}
    keys = list(File.objects.values_list("storage_key", flat=True))
    assert len(keys) == 5 and all(map(default_storage.exists, keys))
    later(29)
    sweeping.sweep()
    assert all(map(default_storage.exists, keys))
    later(1)
    assert owner.get(f"/v1/batch/{batch}/output").status_code == 410, "also before a sweep comes by"
    sweeping.sweep()
    assert not any(map(default_storage.exists, keys))
    for what in ("output", "errors", "receipts"):
        answer = owner.get(f"/v1/batch/{batch}/{what}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "file_expired")
    assert owner.batch(batch)["completed_count"] == 1, "the batch stays"
    assert owner.get(f"/v1/batch/{batch}/manifest").status_code == 200


@pytest.mark.sqlite_first
def test_a_tenant_has_a_retention_of_its_own(owner: Person, witness: Witness, work: Any) -> None:
    call_command("tenant", "set", "owner", "--retention-days", "7", stdout=StringIO())
    assert owner.get("/v1/limits").json()["retention"] == {"days": 7}
    mixed(owner)
    assert ends("batch") == 7 * DAY
    work()
    assert ends("batch_results") == 7 * DAY
    assert AuditEvent.objects.get(action="tenant.changed").details == {
        "before": {"retention_days": None},
        "after": {"retention_days": 7},
    }


@pytest.mark.sqlite_first
def test_a_batch_that_runs_keeps_its_input(owner: Person, witness: Witness, work: Any) -> None:
    mixed(owner)
    key = File.objects.get().storage_key
    later(31)
    sweeping.sweep()
    assert default_storage.exists(key)
    work()
    seal()
    sweeping.sweep()
    assert not default_storage.exists(key)


def test_fewer_days_end_older_files_and_more_days_none(owner: Person, witness: Witness, work: Any) -> None:
    mixed(owner)
    later(10)
    for days, ended in (("20", 20), ("40", 20), ("none", 20), ("5", 5)):
        call_command("tenant", "set", "owner", "--retention-days", days, stdout=StringIO())
        assert ends("batch") == ended * DAY, days
    outsiders = Tenant.objects.create(name="other", retention_days=1)
    assert keeping.shorten(outsiders) == 0, "files of others stay as they are"


@pytest.mark.sqlite_only
def test_staff_shorten_it_too(owner: Person, witness: Witness) -> None:
    mixed(owner)
    client = staff.signed_in(staff.member_of("support", "operations", "billing"))
    page = reverse("admin:tenants_tenant_change", args=[owner.tenant.pk])
    form = client.get(page).context["adminform"].form.initial
    fields = {name: "" if value is None else value for name, value in form.items()} | {"retention_days": "3"}
    management = {f"memberships-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL", "MIN_NUM", "MAX_NUM")}
    answer = client.post(page, fields | management)
    assert answer.status_code == 302, answer.content
    assert ends("batch") == 3 * DAY
    for wrong in ("0", "3651", "x"):
        assert client.post(page, fields | management | {"retention_days": wrong}).status_code == 200


def test_files_of_before_end_30_days_after_the_upgrade(owner: Person) -> None:
    from importlib import import_module

    for key in ("a", ""):  # one is there, one is still being written
        File.objects.create(
            tenant=owner.tenant, purpose="batch", bytes=1, lines=1, storage_key=key, created_at=clock.now()
        )
    File.objects.update(created_at=clock.now() - timedelta(days=400))
    import_module("batches.migrations.0020_retention").end(apps, None)
    there, written = File.objects.order_by("-storage_key")
    assert there.expires_at and there.expires_at > clock.now() + timedelta(days=29)
    assert written.expires_at is None


def refused(answer: Any) -> str:
    assert answer.status_code == 403, answer.content
    error = answer.json()["error"]
    assert error["code"] == "storage_limit_exceeded"
    return str(error["message"])


def test_no_more_bytes_are_stored_than_the_limit(owner: Person, witness: Witness, work: Any) -> None:
    mixed(owner)
    work()
    seal()
    used = owner.get("/v1/limits").json()["stored_bytes"]["used"]
    assert used == sum(File.objects.values_list("bytes", flat=True)) > 0
    limit = used + 1_000
    call_command("tenant", "set", "owner", "--storage-limit", str(limit), stdout=StringIO())
    shown = owner.get("/v1/limits").json()["stored_bytes"]
    assert shown == {"limit": limit, "used": used, "remaining": 1_000}
    before = Batch.objects.count(), File.objects.count(), stored_objects()
    message = refused(owner.submit([request_line("a", pad=1_000)]))
    assert f"{used:,} bytes of at most {limit:,}" in message
    assert before == (Batch.objects.count(), File.objects.count(), stored_objects()), "nothing of it stays"
    assert owner.submit([request_line("a")]).status_code == 200
    oldest = File.objects.earliest("pk").public_id
    owner.client.delete(f"/v1/files/{oldest}", headers={"Authorization": f"Bearer {owner.key}"})
    assert owner.submit([request_line("b", pad=300)]).status_code == 200, "what was deleted made room"
    work()
    assert set(Batch.objects.values_list("status", flat=True)) == {"completed"}, "what a batch writes is not refused"


def stored_objects() -> int:
    return sum(len(default_storage.listdir(kind)[1]) for kind in ("inputs", "results", "receipts"))


@pytest.mark.sqlite_first
def test_a_retry_and_a_page_are_held_to_it(owner: Person, witness: Witness, work: Any) -> None:
    batch = mixed(owner)
    work()
    Tenant.objects.update(storage_limit=1)
    refused(owner.post(f"/v1/batch/{batch}/retry"))
    user = User.objects.create_user("o@example.com", "x")
    Membership.objects.create(tenant=owner.tenant, user=user, role="owner")
    client = Client(raise_request_exception=False)
    client.force_login(user)
    page = f"/t/{owner.tenant.public_id}/uploads?filename=a.jsonl"
    answer = client.put(page, b"{}\n", content_type="application/jsonl", headers={"Accept": "application/json"})
    assert answer.status_code == 403


@pytest.mark.sqlite_only
def test_it_is_refused_before_the_body_is_sent(owner: Person, http: httpx.Client) -> None:
    Tenant.objects.update(storage_limit=10**6)
    sent = []

    def body() -> Any:
        for piece in range(1_000):
            sent.append(piece)
            yield b"x" * 65_536

    headers = {"Authorization": f"Bearer {owner.key}", "Content-Type": "multipart/form-data; boundary=b"}
    headers["Content-Length"] = str(1_000 * 65_536)
    try:
        answer = http.post("/v1/files", content=body(), headers=headers)
        assert answer.status_code == 403
    except (httpx.WriteError, httpx.ReadError):  # it was answered, and the connection closed
        pass
    assert File.objects.count() == 0
    assert len(sent) < 1_000


def race(owner: Person, monkeypatch: pytest.MonkeyPatch, guarded: bool) -> int:
    """Eight uploads of 1,000 bytes at the same moment, with room for three; how many were stored."""
    Tenant.objects.update(storage_limit=3_500)
    counted, gate = keeping.stored, threading.Barrier(8)

    def slow(tenant: int) -> int:
        used = counted(tenant)
        if not guarded and connection.in_atomic_block:
            gate.wait(20)
        return used

    monkeypatch.setattr(keeping, "stored", slow)
    if not guarded:
        monkeypatch.setattr("tenants.admission.lock", lambda pk: Tenant.objects.get(pk=pk))

    def upload(number: int) -> int:
        try:
            status: int = owner.submit([request_line(f"l{number}", pad=850)]).status_code
            return status
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(upload, range(8)))
    assert set(statuses) <= {200, 403}
    return statuses.count(200)


def test_the_limit_is_exact_under_a_race(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = race(owner, monkeypatch, guarded=True)
    assert keeping.stored(owner.tenant.pk) <= 3_500
    assert stored == 3


@pytest.mark.skipif("sqlite" in connection.vendor, reason="there the transaction itself is the lock")
def test_without_the_lock_it_is_not(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    assert race(owner, monkeypatch, guarded=False) == 8
