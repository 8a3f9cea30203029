"""The console's queue: read without running what is in it."""

import pickle
import re
from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import signing
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags
from django_q.models import OrmQ, Schedule, Task
from django_q.signing import SignedPackage

from tests.rows import url
from tests.staff import member_of, signed_in
from tests.test_admin import MOST_QUERIES

pytestmark = pytest.mark.postgres_first

PICKLES = {"payload", "args", "kwargs", "result"}
ID = "a" * 32


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.fixture
def sprung(tmp_path: Path, transactional_db: None) -> Path:
    """What a trap in every pickle of the queue makes; each of them works."""
    file = tmp_path / "sprung"
    trap = Trap(file)
    now = timezone.now()
    OrmQ.objects.create(key="chores", payload=SignedPackage.dumps({"id": ID, "func": "f", "args": (trap,)}), lock=now)
    Task.objects.create(
        id=ID, name="mighty-fox", func="batches.tasks.seal", cluster="chores", attempt_count=1, success=False,
        started=now - timedelta(seconds=90), stopped=now,
    )  # fmt: skip
    pickled = b64encode(pickle.dumps(trap)).decode()  # as its columns are
    with connection.cursor() as cursor:
        cursor.execute("UPDATE django_q_task SET args = %s, kwargs = %s, result = %s", [pickled] * 3)
    Schedule.objects.create(func="batches.tasks.sweep", name="sweep", args=repr(pickled), kwargs="x=1", task=ID)
    rows: list[Any] = [OrmQ.objects.get, Task.objects.get]
    for read, column in zip(rows, ("task", "args"), strict=True):
        getattr(read(), column)
        assert file.exists()
        file.unlink()
    return file


@pytest.fixture
def shift(transactional_db: None) -> Client:
    return signed_in(member_of("operations"))


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return re.sub(r"(<[^>]*>|\s)+", " ", answer.content.decode())


@pytest.mark.sqlite_first
def test_nothing_is_unpickled(shift: Client, sprung: Path) -> None:
    for model in (OrmQ, Task, Schedule):
        listed = url(model, "changelist")
        row = model.objects.values_list("pk", flat=True)[0]
        for address, query in (
            (listed, {}), (listed, {"q": "fox"}), (listed, {"q": ID}), (listed, {"q": str(row)}), (listed, {"q": "tasks"}),
            (listed, {"o": "-1.2.3.4.5"}), (listed, {"p": "1"}), (url(model, "change", row), {}),
        ):  # fmt: skip
            with CaptureQueriesContext(connection) as captured:
                assert shift.get(address, query).status_code == 200, address
            assert len(captured) <= MOST_QUERIES
            for column in PICKLES:
                assert not [each for each in captured if f'"{column}"' in each["sql"]], (address, column)
        history = shift.get(url(model, "history", row))
        assert history.status_code == 302
    assert not sprung.exists()


@pytest.mark.sqlite_only
def test_no_filter_guesses_at_a_pickle(shift: Client, sprung: Path) -> None:
    for model in (OrmQ, Task, Schedule):
        for column in PICKLES - {"payload"} if model is not OrmQ else {"payload"}:
            if model is Schedule and column == "result":
                continue
            for lookup in ("", "__startswith", "__contains", "__isnull"):
                assert shift.get(url(model, "changelist"), {column + lookup: "1"}).status_code in (302, 400)
    assert not sprung.exists()


def test_it_says_what_waits_what_failed_and_what_is_due(shift: Client, sprung: Path) -> None:
    now = timezone.now()
    OrmQ.objects.create(key="runners", payload="x", lock=now + timedelta(minutes=10, seconds=30))
    OrmQ.objects.create(key="runners", payload="x", lock=now - timedelta(hours=5))
    OrmQ.objects.create(key="runners", payload="x", lock=None)
    queued = text(shift.get(url(OrmQ, "changelist")))
    print("DBG", queued[600:1500])
    assert "chores Waits" in queued and "10 min to go" in queued and "for 5 h 0 min" in queued and "unknown" in queued
    tasks = text(shift.get(url(Task, "changelist")))
    assert "batches.tasks.seal" in tasks and "90.0" in tasks
    Schedule.objects.create(
        func="billing.tasks.send_invoices", schedule_type=Schedule.DAILY, next_run=now - timedelta(days=3)
    )
    page = shift.get(url(Schedule, "changelist"))
    assert url(Task, "change", ID) in page.content.decode()
    assert "late by 3 days" in text(page) and "Daily" in text(page) and "not yet" in text(page)
    Task.objects.all().delete()
    assert "no failure kept" in text(shift.get(url(Schedule, "changelist")))


@pytest.mark.sqlite_first
def test_it_is_searched(shift: Client, sprung: Path) -> None:
    for model, term, count in (
        (Task, ID, 1), (Task, "mighty-fox", 1), (Task, "mighty", 0), (Task, "seal", 1), (Task, "sweep", 0),
        (Schedule, "sweep", 1), (Schedule, "seal", 0), (OrmQ, "chores", 1), (OrmQ, "runners", 0),
        (OrmQ, str(OrmQ.objects.get().pk), 1), (OrmQ, "9" * 30, 0), (OrmQ, "\x00", 0), (Task, "\x00' OR 1=1 --", 0),
    ):  # fmt: skip
        found = shift.get(url(model, "changelist"), {"q": term}).context["cl"].result_count
        assert found == count or "\x00" in term, (model, term)


@pytest.mark.sqlite_only
def test_it_is_for_operations_alone_and_for_nobody_to_change(shift: Client, sprung: Path) -> None:
    others = signed_in(member_of("support", "billing", email="others@example.com"))
    for model in (OrmQ, Task, Schedule):
        row = model.objects.values_list("pk", flat=True)[0]
        for page in (url(model, "changelist"), url(model, "change", row)):
            assert others.get(page).status_code == 403
        for page in (url(model, "add"), url(model, "change", row), url(model, "delete", row)):
            assert shift.post(page, {"post": "yes", "func": "os.system"}).status_code == 403
        html = shift.get(url(model, "changelist")).content.decode()
        assert 'name="action"' not in html and url(model, "changelist") + "add/" not in html
    home = shift.get("/admin/").content.decode()
    assert "Queue and webhooks" in home and "Django" not in strip_tags(home)
    assert url(OrmQ, "changelist") not in others.get("/admin/").content.decode()


@pytest.mark.sqlite_only
def test_an_unsigned_payload_is_a_row_like_others(shift: Client, transactional_db: None) -> None:
    row = OrmQ.objects.create(key="chores", payload="\x01 nothing", lock=None)
    with pytest.raises(signing.BadSignature):
        SignedPackage.loads(row.payload)
    assert "chores" in text(shift.get(url(OrmQ, "change", row.pk)))


def test_what_can_be_no_id_is_no_row(shift: Client, sprung: Path) -> None:
    """An id of the queue is a text: PostgreSQL throws at a NUL in one."""
    for kind in ("change", "history"):
        answer = shift.get(url(Task, kind, "gone").replace("gone", "%00"))
        assert answer.status_code in (302, 404), kind
