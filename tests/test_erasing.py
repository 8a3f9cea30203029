"""Deletion on request: what a tenant sent and was answered is gone, what it took and cost stays."""

from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client

from batches import erasing, files, objects, orphans
from batches.models import Batch, File, Result, Slice
from billing.models import LedgerEntry
from tenants.models import AuditEvent
from tests import browser, staff
from tests.conftest import Person, seal
from tests.test_api import error
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first  # each database does it the same

LINES = [request_line("secret"), request_line("x", custom_id="my-words", faults=["400"])]


@pytest.fixture(autouse=True)
def empty_storage() -> None:
    """Without what other tests left."""
    for key in stored():
        default_storage.delete(key)


def ended(owner: Person, work: Any, **fields: str) -> str:
    """A batch that ran, with both kinds of lines, sealed."""
    made: str = owner.submit(LINES, metadata='{"suite": "my-words"}', **fields).json()["id"]
    work()
    seal()
    return made


def stored() -> list[str]:
    """Every object in the storage."""
    return [key for kind in orphans.KINDS for key in objects.keys(kind)]


def test_data_goes_and_the_account_stays(owner: Person, witness: Witness, work: Any) -> None:
    batch = ended(owner, work)
    before, charged = owner.batch(batch), LedgerEntry.objects.get().amount
    manifest = owner.get(f"/v1/batch/{batch}/manifest").json()
    assert stored()
    answer = owner.delete(f"/v1/batch/{batch}")
    assert answer.status_code == 200
    after = answer.json()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"metadata", "erased_at"} and after["metadata"] == {} and after["erased_at"]
    assert stored() == []
    for what in ("output", "errors", "results", "receipts"):
        assert error(owner.get(f"/v1/batch/{batch}/{what}"), 410) == "file_expired"
    assert error(owner.post(f"/v1/batch/{batch}/retry"), 410) == "file_expired"
    assert owner.get(f"/v1/batch/{batch}/manifest").json() == manifest
    assert LedgerEntry.objects.get().amount == charged
    assert set(Result.objects.values_list("custom_id", flat=True)) == {""} and not Slice.objects.exists()
    assert File.objects.get(purpose="batch").filename == erasing.ERASED
    key = owner.tenant.keys.get()
    assert list(AuditEvent.objects.values_list("actor", "action", "target")) == [(key.prefix, "batch.erased", batch)]
    assert owner.delete(f"/v1/batch/{batch}").json() == after and AuditEvent.objects.count() == 1  # again: the same


@pytest.mark.sqlite_first
def test_a_batch_without_failed_lines_says_gone_of_them_too(owner: Person, witness: Witness, work: Any) -> None:
    made = owner.submit([request_line("x")]).json()["id"]
    work()
    seal()
    assert owner.lines(made, "errors") == []
    owner.delete(f"/v1/batch/{made}")
    assert error(owner.get(f"/v1/batch/{made}/errors"), 410) == "file_expired"


@pytest.mark.sqlite_first
def test_not_before_its_end_nor_its_receipts(owner: Person, outsider: Person, witness: Witness, work: Any) -> None:
    made = owner.submit(LINES).json()["id"]
    assert error(outsider.delete(f"/v1/batch/{made}"), 404) == "batch_not_found"
    assert error(owner.delete(f"/v1/batch/{made}"), 409) == "batch_not_complete"
    work()
    answer = owner.delete(f"/v1/batch/{made}")
    assert (error(answer, 409), answer["Retry-After"]) == ("receipts_not_ready", "2")
    seal()
    assert owner.delete(f"/v1/batch/{made}").status_code == 200


@pytest.mark.sqlite_first
def test_a_batch_that_never_ran_says_nothing_of_its_lines(owner: Person, witness: Witness, work: Any) -> None:
    made = owner.submit([{"custom_id": "my-words", "my-words": 1}]).json()["id"]
    work()
    assert owner.batch(made)["errors"]
    assert owner.delete(f"/v1/batch/{made}").json()["errors"] is None and stored() == []


def test_an_input_in_use_stays_until_it_is_asked_for_again(owner: Person, witness: Witness, work: Any) -> None:
    first = ended(owner, work)
    source = owner.batch(first)["input_file_id"]
    Batch.objects.create(
        tenant=owner.tenant, input_file=File.objects.get(public_id=source), endpoint="/v1/chat/completions", total=2,
        created_at=Batch.objects.get().created_at, deadline=Batch.objects.get().deadline,
    )  # fmt: skip
    assert owner.delete(f"/v1/batch/{first}").status_code == 200
    assert owner.get(f"/v1/files/{source}").status_code == 200 and len(stored()) == 1
    work()
    seal()
    owner.delete(f"/v1/batch/{first}")
    assert owner.get(f"/v1/files/{source}").status_code == 404
    assert AuditEvent.objects.filter(action="batch.erased").count() == 1


def test_a_crash_in_between_is_cured_by_asking_again(
    owner: Person, witness: Witness, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, left = ended(owner, work), 2
    remove = files.remove

    def crash(file: File) -> bool:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return remove(file)

    with monkeypatch.context() as patched:
        patched.setattr(files, "remove", crash)
        with pytest.raises(KeyboardInterrupt):
            erasing.erase(Batch.objects.get(), "somebody")
    assert owner.batch(batch)["erased_at"] is None and stored()
    owner.delete(f"/v1/batch/{batch}")
    assert owner.batch(batch)["erased_at"] and stored() == []


@pytest.mark.sqlite_first
def test_people_delete_it_on_its_page(owner: Person, witness: Witness, work: Any, client: Client) -> None:
    batch = ended(owner, work)
    page = f"/t/{owner.tenant.public_id}/batches/{batch}"
    client.force_login(browser.person_of(owner.tenant, "reader@example.com", "reader"))
    assert client.post(f"{page}/erase").status_code == 403 and b"Delete data" not in client.get(page).content
    client.force_login(browser.person_of(owner.tenant, "member@example.com", "member"))
    assert b"Delete data" in client.get(page).content
    said = client.post(f"{page}/erase", follow=True).content.decode()
    assert "Its data is deleted." in said and "Its data was deleted." in said and "Delete data" not in said
    assert AuditEvent.objects.get().actor == "member@example.com"


@pytest.mark.sqlite_first
def test_staff_delete_it_with_a_reason(owner: Person, witness: Witness, work: Any) -> None:
    made = owner.submit(LINES).json()["id"]
    shift = staff.signed_in(staff.member_of("operations"))
    address, row = "/admin/batches/batch/", Batch.objects.get(public_id=made)
    assert "cancel it first" in staff.confirmed(shift, address, "erase", row)
    work()
    seal()
    assert "Delete data: done to 1 batch" in staff.confirmed(shift, address, "erase", row, reason="they wrote")
    event = AuditEvent.objects.get(action="batch.erased")
    assert (event.actor, event.details) == ("staff@example.com", {"reason": "they wrote"}) and stored() == []
