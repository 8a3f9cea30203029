"""The page of what is stored, and the archive of all of it."""

import io
import json
import time
import zipfile
from typing import Any

import pytest
from django.test import Client
from django.utils.html import strip_tags

from tenants import transfers
from tenants.models import AuditEvent, Tenant, User
from tests.conftest import Person
from tests.test_web import member, shown
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only
RECORDS = "account_authentication_methods"


def proven(client: Client) -> Client:
    """Its person has shown their password lately."""
    user = User.objects.get(email="member@example.com")
    user.set_password("x")
    user.save()
    client.force_login(user)
    session = client.session
    session[RECORDS] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session[f"{RECORDS}_user"] = session["_auth_user_id"]
    session.save()
    return client


def export(client: Client, tenant: Tenant) -> Any:
    return client.post(f"/t/{tenant.public_id}/data/export")


def test_the_page_says_what_is_kept(owner: Person, witness: Witness) -> None:
    owner.submit([request_line("a", pad=3_000)])
    Tenant.objects.update(retention_days=7)
    page = " ".join(strip_tags(shown(member(owner.tenant), f"/t/{owner.tenant.public_id}/data")).split())
    assert "are kept for 7 days" in page and "3.1 KB are stored, of at most 100.0 GB" in page
    assert "An owner can download it." in page and "Download everything" not in page


def test_everything_is_taken_along_by_an_owner_who_has_shown_who_they_are(owner: Person, witness: Witness) -> None:
    batch = owner.submit([request_line("a")]).json()["id"]
    client = member(owner.tenant, role="owner")
    asked = export(client, owner.tenant)
    assert asked.status_code == 302
    assert asked["Location"] == f"/account/reauthenticate/?next=%2Ft%2F{owner.tenant.public_id}%2Fdata"
    assert not AuditEvent.objects.filter(action="tenant.exported").exists()
    answer = export(proven(client), owner.tenant)
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    assert answer["Content-Disposition"] == f'attachment; filename="{owner.tenant.public_id}.zip"'
    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content)))
    assert archive.testzip() is None
    assert [json.loads(line)["id"] for line in archive.read("batches.jsonl").splitlines()] == [batch]
    event = AuditEvent.objects.get(action="tenant.exported")
    assert (event.actor, event.tenant) == ("member@example.com", owner.tenant)


@pytest.mark.parametrize("role", ["reader", "member"])
def test_others_do_not(owner: Person, role: str) -> None:
    assert export(proven(member(owner.tenant, role=role)), owner.tenant).status_code == 403


def test_who_goes_away_gives_the_place_back(owner: Person) -> None:
    places = transfers.Transfer._places
    free = places._value
    answer = export(proven(member(owner.tenant, role="owner")), owner.tenant)
    next(iter(answer.streaming_content))
    assert places._value == free - 1
    answer.close()
    assert places._value == free
