"""Prompts and answers in the console: one page, a line at a time, with a reason, on the tenant's trail before it is read."""

import re
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import transaction
from django.test import Client

from batches import objects, tasks
from batches.core.states import Status
from batches.models import Batch, Result
from tenants import trail
from tenants.models import AuditEvent, User
from tests.conftest import Person, step
from tests.staff import member_of, signed_in
from tests.test_console_batches import LIST, told
from tests.test_console_batches import page as batch_page
from tests.test_engine import Work
from tests.test_pause import submit
from tests.test_retry_batch import ended
from tests.test_web import NAUGHTY, make_batches, member
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

WHY = "ticket 4711, they asked"
SECRET = "my-most-private-question"


@pytest.fixture
def support(owner: Person) -> Client:
    return signed_in(member_of("support"))


@pytest.fixture
def batch(owner: Person, witness: Witness, work: Work) -> Batch:
    asked = [request_line(str(n), custom_id=f"invoice:{n}", user=f"{SECRET} {n} {NAUGHTY}") for n in range(3)]
    return ended(owner, work, asked)


def page(batch: Batch) -> str:
    return batch_page(batch, "line/")


def look(client: Client, batch: Batch, **fields: Any) -> Any:
    return client.post(page(batch), {"line": "", "custom_id": "", "reason": WHY, **fields})


def text(answer: Any) -> str:
    assert answer.status_code == 200 and "no-store" in answer["Cache-Control"]
    return unescape(answer.content.decode())


def events(owner: Person) -> list[tuple[str, Any]]:
    return [(action, details) for _, action, _, details in told(owner.tenant)]


def test_a_line_is_shown_and_its_tenant_is_told(support: Client, batch: Batch, owner: Person) -> None:
    assert f'href="{page(batch)}">Look at a line…</a>' in support.get(batch_page(batch)).content.decode()
    for query in ({}, {"line": "1", "custom_id": "invoice:1", "reason": WHY}):  # no address has anything of it
        form = text(support.get(page(batch), query))
        assert SECRET not in form and not AuditEvent.objects.exclude(tenant=None).exists()
    assert re.search(rf'<form method="post" action="{page(batch)}"', form)
    answer = look(support, batch, line="2")
    assert "<script>alert" not in answer.content.decode() and "&lt;script&gt;alert(" in answer.content.decode()
    html = text(answer)
    assert f"{SECRET} 1" in html and "Line 2, custom_id <code>invoice:1</code>" in html and html.count("<pre") == 2
    assert f"{SECRET} 0" not in html and f"{SECRET} 2" not in html
    noted = {"line": 2, "reason": WHY}
    assert told(owner.tenant) == [("staff@example.com", "glass.broken", batch.public_id, noted)]
    theirs = unescape(member(owner.tenant).get(f"/t/{owner.tenant.public_id}/trail").content.decode())
    assert "Staff asked to see a prompt and answer" in theirs and WHY in theirs and "line: 2" in theirs
    assert f"{SECRET} 2" in text(look(support, batch, custom_id="invoice:2"))
    assert events(owner)[1] == ("glass.broken", {"custom_id": "invoice:2", "reason": WHY})


def test_nothing_is_read_before_it_is_noted(
    support: Client, batch: Batch, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what can't be noted is not shown."""
    at_reading: list[bool] = []
    read = objects.chunks

    def watched(*args: Any) -> Any:
        committed = not transaction.get_connection().in_atomic_block
        at_reading.append(committed and [event[0] for event in events(owner)] == ["glass.broken"])
        return read(*args)

    monkeypatch.setattr(objects, "chunks", watched)
    look(support, batch, line="1")
    assert at_reading and all(at_reading)

    def broken(*args: Any, **details: Any) -> None:
        raise RuntimeError("no room on the trail")

    monkeypatch.setattr(trail, "record", broken)
    at_reading.clear()
    with pytest.raises(RuntimeError, match="no room"):
        look(support, batch, line="1")
    assert not at_reading


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"line": "1", "reason": ""}, "This field is required"),
        ({"line": "1", "reason": "  short  "}, "at least 10 characters"),
        ({"line": "1", "reason": "x" * 201}, "at most 200 characters"),
        ({}, "Name one line"), ({"line": "1", "custom_id": "invoice:1"}, "Name one line"),
        ({"line": "0"}, "greater than or equal to 1"), ({"line": "9" * 30}, "less than or equal to"),
        ({"line": "one"}, "Enter a whole number"), ({"custom_id": "a\x00"}, "Null characters are not allowed"),
    ],
)  # fmt: skip
@pytest.mark.sqlite_only
def test_what_is_not_asked_well_is_not_shown(
    support: Client, owner: Person, fields: dict[str, str], complaint: str
) -> None:
    [batch] = make_batches(owner.tenant, status="completed")
    html = text(look(support, batch, **fields))
    assert complaint in html and "<pre" not in html and not AuditEvent.objects.exclude(tenant=None).exists()


@pytest.mark.sqlite_only
def test_a_look_in_vain_is_on_the_trail_too(support: Client, batch: Batch, owner: Person) -> None:
    for fields in ({"line": "9"}, {"custom_id": "nobody"}, {"custom_id": NAUGHTY}):
        html = text(look(support, batch, **fields))
        assert "no such line" in html and "<pre" not in html
    assert [action for action, _ in events(owner)] == ["glass.broken", "glass.empty"] * 3
    objects.delete(batch.input_file.storage_key)
    html = text(look(support, batch, line="1"))
    assert "not stored any more" in html and html.count("<pre") == 1  # its answer is


@pytest.mark.sqlite_only
def test_a_line_that_waits_is_shown_without_an_answer(support: Client, owner: Person, witness: Witness) -> None:
    batch = submit(owner, [request_line(SECRET)])
    html = text(look(support, batch, line="1"))
    assert SECRET in html and "it has no result yet" in html


@pytest.mark.sqlite_only
def test_who_may_not_sees_no_button_and_is_refused(batch: Batch, owner: Person) -> None:
    for group in ("operations", "billing"):
        client = signed_in(member_of(group, email=f"{group}@example.com"))
        assert page(batch) not in client.get(batch_page(batch)).content.decode()
        assert client.get(page(batch)).status_code == look(client, batch, line="1").status_code == 403
    blind = User.objects.create_user("blind@example.com", is_staff=True)  # may break glass, but see no batch
    blind.user_permissions.set(Permission.objects.filter(codename="break_glass"))
    assert look(signed_in(blind), batch, line="1").status_code == 403
    assert look(member(owner.tenant), batch, line="1").status_code == 302
    assert look(Client(), batch, line="1").status_code == 302
    assert not AuditEvent.objects.exclude(tenant=None).exists()


@pytest.mark.sqlite_only
def test_there_is_no_other_batch(support: Client, owner: Person) -> None:
    for number in (0, 4711, 1 << 70):
        assert support.get(f"{LIST}{number}/line/").status_code == 404
        assert support.get(f"{LIST}{number}/change/").status_code in (302, 404)


@pytest.mark.sqlite_only
def test_no_other_page_of_the_console_shows_a_prompt(batch: Batch, owner: Person, witness: Witness, work: Work) -> None:
    """Neither of a batch that ended, nor of one that runs, nor of one whose lines are bad in any way."""
    root = signed_in(User.objects.create_user("root@example.com", is_staff=True, is_superuser=True))
    running = submit(owner, [request_line(SECRET)])
    bad: list[Any] = [
        f'{{"custom_id": "a", "body": "{SECRET}"}}'.encode(),
        SECRET.encode(),
        f'{{"{SECRET}": 1}}'.encode(),
    ]
    bad += [
        {"custom_id": "b", "body": {"model": "witness", "messages": SECRET}},
        {"custom_id": SECRET * 30, "body": {}},
    ]
    answer = owner.submit(bad)
    step("validating", tasks.validate)
    failed = Batch.objects.get(public_id=answer.json()["id"])
    assert failed.status == Status.FAILED and Result.objects.count() == 3
    addresses = [batch_page(each) for each in (batch, running, failed)]
    names = ("result", "slice", "segment", "file", "submission", "usage", "batch")
    addresses += [f"/admin/batches/{name}/" for name in names]
    addresses += [f"/admin/batches/result/{result.pk}/change/" for result in Result.objects.all()]
    for address in addresses:
        answer = root.get(address)
        assert answer.status_code == 200 and SECRET not in answer.content.decode(), address
