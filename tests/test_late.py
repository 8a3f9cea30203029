"""The sweep of files whose time is over: what goes with them, and that one tenant's many keep no other's waiting."""

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.urls import reverse

from batches import forgetting, late, objects, reconciling
from batches.models import Batch, File, Result
from tenants import clock
from tenants.models import Tenant
from tests import staff
from tests.conftest import Person, seal
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first  # each database does it the same

SECRET = "canary-7f3a"


def filed(tenant: Tenant, files: int, **columns: Any) -> None:
    columns = {"purpose": "batch", "bytes": 10, "lines": 1, "created_at": clock.now(), **columns}
    File.objects.bulk_create(
        File(tenant=tenant, storage_key=objects.fresh_key("inputs"), **columns) for _ in range(files)
    )


def quoted() -> bytes:
    """A line whose fault is told with words of its own."""
    body = {"model": SECRET, "messages": [{"role": "user", "content": "a"}]}
    return json.dumps({"custom_id": SECRET, "body": body}).encode()


def there(tenant: Tenant) -> int:
    return File.objects.filter(tenant=tenant, deleted_at=None).count()


def test_many_late_files_of_one_keep_no_others_waiting(
    owner: Person, outsider: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late, "AT_ONCE", 8)
    filed(owner.tenant, 20, expires_at=clock.now())
    filed(outsider.tenant, 3, expires_at=clock.now())
    late.remove()
    assert (there(owner.tenant), there(outsider.tenant)) == (16, 0)
    late.remove()
    assert there(owner.tenant) == 8


def test_the_late_are_found_by_an_index_that_begins_with_the_tenant(owner: Person) -> None:
    filed(owner.tenant, 1_000, expires_at=clock.now())
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE batches_file")
    plan = File.objects.filter(tenant=owner.tenant, deleted_at=None, expires_at__lte=clock.now())
    assert "file_late" in plan.order_by("expires_at")[:100].explain()


def test_what_rows_quote_of_a_batch_goes_with_its_files(
    owner: Person, witness: Witness, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "LINES", 2)
    lines = [request_line("a", custom_id=f"{SECRET}-{n}") for n in range(5)]
    bad = quoted()
    batch = owner.submit([*lines, bad], on_invalid_line="skip").json()["id"]
    never_ran = owner.submit([bad]).json()["id"]
    work()
    seal()
    kept = owner.batch(never_ran)["errors"]
    assert SECRET in str(kept) and SECRET in str(owner.batch(batch)["errors"])
    File.objects.update(expires_at=clock.now())
    late.remove()
    assert SECRET not in "".join(Batch.objects.values_list("errors", flat=True))
    assert set(Result.objects.values_list("custom_id", flat=True)) == {""} and Result.objects.count() == 6
    left = owner.batch(never_ran)["errors"]
    assert left["counts"] == kept["counts"] and left["data"][0]["message"]
    assert [(each["code"], each["line"]) for each in left["data"]] == [
        (each["code"], each["line"]) for each in kept["data"]
    ]
    assert list(reconciling.findings()) == []
    answer = owner.get(f"/v1/batch/{batch}/results")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "file_expired")


def test_an_input_that_is_deleted_by_hand_is_not_quoted_any_more(owner: Person, witness: Witness, work: Any) -> None:
    batch = owner.submit([quoted()]).json()
    work()
    assert SECRET in str(owner.batch(batch["id"])["errors"])
    owner.client.delete(f"/v1/files/{batch['input_file_id']}", headers={"Authorization": f"Bearer {owner.key}"})
    assert SECRET not in str(owner.batch(batch["id"])["errors"])


@pytest.mark.sqlite_only
def test_a_tenant_is_made_with_limits_of_its_own_and_its_page_shows_what_it_uses(owner: Person) -> None:
    call_command("tenant", "create", "new", "--retention-days", "1", "--storage-limit", "5000", stdout=StringIO())
    made = Tenant.objects.get(name="new")
    assert (made.retention.days, made.stored_limit) == (1, 5_000)
    filed(made, 3)
    client = staff.signed_in(staff.member_of("operations"))
    page = client.get(reverse("admin:tenants_tenant_change", args=[made.pk])).content
    assert b"30 bytes of at most 5,000; days that files are kept: 1" in page
    assert client.get(reverse("admin:tenants_tenant_add")).status_code == 200
