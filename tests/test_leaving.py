"""A tenant leaves: it takes along all that it has here, and all of it is deleted. What the law keeps stays."""

import io
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from django.core.management import CommandError, call_command

from batches import erasing, erasing_tenants, exporting, intake, objects
from batches.models import Batch, File, Submission, WebhookDelivery, WebhookEndpoint
from billing.models import LedgerEntry
from tenants.models import ApiKey, AuditEvent, Invitation, Membership, Tenant, User
from tests import browser, staff
from tests.conftest import Person, seal
from tests.test_erasing import empty_storage, ended, stored
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first  # each database does it the same

__all__ = ["empty_storage"]  # a fixture


def printed(*words: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command(*words, stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


@pytest.fixture
def peopled(owner: Person, outsider: Person, witness: Witness, work: Any) -> Person:
    """A batch, people (one of them also elsewhere, one of the staff), an invitation, a webhook."""
    for name in ("only", "also", "staff"):
        browser.person_of(owner.tenant, f"{name}@example.com")
    User.objects.filter(email="staff@example.com").update(is_staff=True)
    Membership.objects.create(tenant=outsider.tenant, user=User.objects.get(email="also@example.com"))
    assert owner.post("/v1/webhook_endpoints", {"url": "https://hooks.example/x"}).status_code == 200
    Invitation.objects.create(
        tenant=owner.tenant, email="new@example.com", digest="0" * 64, invited_by="only@example.com",
        expires_at=owner.tenant.created_at,
    )  # fmt: skip
    ended(owner, work)
    outsider.submit([request_line("theirs")])
    work()
    seal()
    return owner


def left(tenant: Tenant) -> dict[str, int]:
    rows = (WebhookEndpoint, WebhookDelivery, Submission, Invitation, Membership)
    found = {row.__name__: row._default_manager.filter(tenant=tenant).count() for row in rows}
    return {name: count for name, count in found.items() if count}


def test_all_of_a_tenant_goes_but_its_account(peopled: Person, outsider: Person) -> None:
    tenant, entries = peopled.tenant, LedgerEntry.objects.count()
    told = AuditEvent.objects.filter(tenant=tenant).count()
    with pytest.raises(CommandError, match="add --yes"):
        printed("tenant", "erase", "owner")
    said = printed("tenant", "erase", "owner", "--yes")
    assert said["tenant"] == f"erased-{tenant.public_id}"
    assert said["erased"] == {"batches": 1, "files": 0, "keys": 1, "webhooks": 1, "seats": 3, "people": 1}
    assert left(tenant) == {} and peopled.get("/v1/batch").status_code == 401
    assert set(User.objects.values_list("email", flat=True)) == {"also@example.com", "staff@example.com"}
    assert set(ApiKey.objects.filter(tenant=tenant).values_list("name", flat=True)) == {"erased"}
    assert set(File.objects.filter(tenant=tenant).values_list("filename", flat=True)) == {erasing.ERASED}
    assert LedgerEntry.objects.count() == entries and AuditEvent.objects.filter(tenant=tenant).count() == told + 2
    assert len(stored()) == 3 and outsider.get("/v1/batch").json()["data"]  # another tenant's are untouched
    again = printed("tenant", "erase", said["tenant"], "--yes")
    assert set(again["erased"].values()) == {0} and AuditEvent.objects.filter(action="tenant.erased").count() == 1


@pytest.mark.sqlite_first
def test_not_while_its_batches_run(owner: Person, witness: Witness, work: Any) -> None:
    owner.submit([request_line("x")])
    with pytest.raises(CommandError, match="cancel them first"):
        printed("tenant", "erase", "owner", "--yes")
    work()
    with pytest.raises(CommandError, match="Receipts"):
        printed("tenant", "erase", "owner", "--yes")
    assert owner.get("/v1/batch").status_code == 200  # nothing was done
    seal()
    assert printed("tenant", "erase", "owner", "--yes")["erased"]["batches"] == 1


def test_it_goes_on_after_a_crash(peopled: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(tenant: Tenant) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasing_tenants, "_end_seats", crash)
        with pytest.raises(KeyboardInterrupt):
            erasing_tenants.erase(peopled.tenant, "somebody")
    assert Tenant.objects.get(pk=peopled.tenant.pk).name == "owner" and left(peopled.tenant)
    printed("tenant", "erase", "owner", "--yes")
    assert left(peopled.tenant) == {}


def vars_of(pk: int) -> dict[str, Any]:
    found = Tenant.objects.filter(pk=pk).values().get()
    return {name: value for name, value in found.items() if name != "suspended"}


@pytest.mark.parametrize("guarded", [True, False])
def test_what_was_let_in_before_does_not_slip_in_behind(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    submit = intake.submit
    if not guarded:  # who is let in is not looked at again, under the lock
        monkeypatch.setattr("batches.idempotency.admission.lock", lambda pk: Tenant(**vars_of(pk), suspended=False))

    def late(*args: Any, **columns: Any) -> Batch:
        erasing_tenants.erase(owner.tenant, "somebody")  # while the upload was on its way
        return submit(*args, **columns)

    monkeypatch.setattr(intake, "submit", late)
    answer = owner.submit([request_line("x")])
    if not guarded:
        assert answer.status_code == 200 and Batch.objects.exists() and stored()
        return
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "tenant_suspended")
    assert not Batch.objects.exists() and stored() == []


@pytest.mark.sqlite_first
def test_staff_erase_it_with_a_reason(peopled: Person) -> None:
    shift = staff.signed_in(staff.member_of("operations", email="shift@example.com"))
    said = staff.confirmed(shift, "/admin/tenants/tenant/", "erase", peopled.tenant, reason="they left")
    assert "Erased: 1 batches, 0 other files, 1 people." in said
    event = AuditEvent.objects.get(action="tenant.erased")
    assert event.actor == "shift@example.com" and event.details["reason"] == "they left"


@pytest.mark.sqlite_first
def test_all_of_it_is_taken_along(peopled: Person, tmp_path: Path) -> None:
    target = tmp_path / "all.zip"
    said = printed("tenant", "export", "owner", "--to", str(target))
    assert said["bytes"] == target.stat().st_size and target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CommandError, match="can't be written"):
        printed("tenant", "export", "owner", "--to", str(target))
    with ZipFile(target) as taken:
        assert taken.testzip() is None
        rows = {
            name: [json.loads(line) for line in taken.read(name).splitlines()]
            for name in taken.namelist() if name.endswith(".jsonl") and not name.startswith("files/")
        }  # fmt: skip
        manifest = json.loads(taken.read("manifest.json"))
        assert [each["name"] for each in manifest["members"]] == taken.namelist()[:-1]
        contents = {name: taken.read(name) for name in taken.namelist() if name.startswith("files/")}
        everything = b"".join(taken.read(name) for name in taken.namelist())
    assert {name: len(found) for name, found in rows.items()} == {
        "members.jsonl": 3, "invitations.jsonl": 1, "keys.jsonl": 1, "webhooks.jsonl": 1, "webhook_deliveries.jsonl": 1,
        "batches.jsonl": 1, "usage.jsonl": 1, "ledger.jsonl": 1, "invoices.jsonl": 0, "files.jsonl": 5,
        "trail.jsonl": AuditEvent.objects.filter(tenant=peopled.tenant).count(),
    }  # fmt: skip
    assert rows["batches.jsonl"][0]["metadata"] == {"suite": "my-words"}
    assert {each["content"] for each in rows["files.jsonl"]} == {"whole"} and len(contents) == 5
    for file in File.objects.filter(tenant=peopled.tenant):
        assert contents[f"files/{file.public_id}.jsonl"] == b"".join(objects.chunks(file.storage_key))
    secret, digest = WebhookEndpoint.objects.get().secret.open(), ApiKey.objects.get(tenant=peopled.tenant).digest
    assert secret.encode() not in everything and digest.encode() not in everything
    assert b"theirs" not in everything


@pytest.mark.sqlite_first
def test_a_file_that_goes_meanwhile_is_named_as_gone(peopled: Person) -> None:
    pieces, taken = exporting.archive(peopled.tenant), io.BytesIO()
    taken.write(next(pieces))
    for key in stored():
        objects.delete(key)
    taken.writelines(pieces)
    with ZipFile(taken) as read:
        assert read.testzip() is None and not [name for name in read.namelist() if name.startswith("files/")]
        assert {json.loads(line)["content"] for line in read.read("files.jsonl").splitlines()} == {"gone"}
