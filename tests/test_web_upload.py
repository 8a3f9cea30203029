"""The page of a new batch, its upload and its preflight, as a browser without a screen meets them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batches import files, objects, preflight, uploads
from batches.models import Batch, File
from batches.uploads import MAX_BYTES
from billing.models import Customer
from provocative.middleware import BODIES, BoundedBodies
from tenants.models import AuditEvent, Membership, Tenant, User
from tests import browser
from tests.conftest import Person, until
from tests.test_preflight import content, inputs
from tests.test_skip import GOOD
from tests.test_uploads import MB, peak_memory
from tests.test_web import NAUGHTY, member, shown
from tests.witness import Witness, request_line

sqlite_only = pytest.mark.sqlite_only
MOST_QUERIES = 10
BAD: list[Any] = [GOOD, b"{", request_line("b", model="nobody"), GOOD, {"custom_id": "e", "body": {}}]


@pytest.fixture(autouse=True)
def nothing_stays(transactional_db: None) -> Iterator[None]:
    before = inputs()
    yield
    named = {settings.HOME / "files" / key for key in File.objects.values_list("storage_key", flat=True) if key}
    assert inputs() - before <= named, "an input that no row names"


def at(tenant: Tenant, page: str = "upload", **values: str) -> str:
    return reverse(page, kwargs={"tenant_id": tenant.public_id, **values})


def put(client: Client, tenant: Tenant, body: bytes, filename: str = "in.jsonl", **headers: Any) -> Any:
    address = f"{at(tenant, 'uploads')}?{httpx.QueryParams({'filename': filename})}"
    return client.generic("PUT", address, body, content_type="application/jsonl", **headers)


def uploaded(client: Client, tenant: Tenant, lines: list[Any] | None = None) -> File:
    answer = put(client, tenant, content([GOOD] if lines is None else lines))
    assert answer.status_code == 200, answer.content
    return File.objects.get(public_id=answer.json()["id"])


def form(client: Client, tenant: Tenant, file: File | None, **fields: Any) -> dict[str, Any]:
    """What the page's form sends, with these fields typed in."""
    html = shown(client, at(tenant) + (f"?file={file.public_id}" if file else ""))
    found = re.findall(r'<input type="hidden" name="(token|file_id)"[^>]* value="(\w+|file-\w+)"', html)
    return {"endpoint": "/v1/chat/completions", "on_invalid_line": "fail", **dict(found), **fields}


def examined(client: Client, tenant: Tenant, **fields: Any) -> str:
    answer = client.post(at(tenant, "preflight"), fields)
    assert answer.status_code == 200
    html: str = answer.content.decode()
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_file_is_stored_looked_at_and_becomes_a_batch(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    lines = [GOOD, request_line("b")]
    file = uploaded(client, owner.tenant, lines)
    stored = b"".join(objects.chunks(file.storage_key))
    assert stored == content(lines) and (file.lines, file.filename, file.purpose) == (2, "in.jsonl", "batch")
    pairs = {"key": ["team", ""], "value": ["search", ""]}
    options = {"max_cost_usd": "12.5", "max_error_rate": "0.1", "on_invalid_line": "skip", **pairs}
    sent = form(client, owner.tenant, file, **options)
    assert "All lines can run." in examined(client, owner.tenant, **sent)
    answer = client.post(at(owner.tenant), sent)
    batch = Batch.objects.get()
    assert answer.status_code == 302 and f"/t/{owner.tenant.public_id}/batches" in answer["Location"]
    assert (batch.input_file, batch.api_key, json.loads(batch.metadata)) == (file, None, {"team": "search"})
    assert (batch.max_cost, batch.max_error_rate, batch.on_invalid_line) == (12_500_000_000_000, 0.1, "skip")
    trail = list(AuditEvent.objects.order_by("pk").values_list("actor", "action", "target"))
    actor = "member@example.com"
    assert trail == [(actor, "file.uploaded", file.public_id), (actor, "batch.submitted", batch.public_id)]
    assert "search" not in json.dumps(list(AuditEvent.objects.values_list("details", flat=True)))
    assert batch.public_id in shown(client, at(owner.tenant, "batches"))


def test_a_form_sent_twice_makes_one_batch(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    sent = form(client, owner.tenant, uploaded(client, owner.tenant))
    first, second = client.post(at(owner.tenant), sent), client.post(at(owner.tenant), sent)
    assert first["Location"] == second["Location"] and Batch.objects.count() == 1
    other = client.post(at(owner.tenant), {**sent, "max_cost_usd": "1"})
    assert b"made a batch already" in other.content and Batch.objects.count() == 1
    assert sent["token"].encode() not in other.content
    client.post(at(owner.tenant), {**sent, "token": ""})
    client.post(at(owner.tenant), form(client, owner.tenant, File.objects.get()))
    assert Batch.objects.count() == 3, "another form is another batch"
    assert AuditEvent.objects.filter(action="batch.submitted").count() == 3


@sqlite_only
def test_who_may(owner: Person, outsider: Person, witness: Witness) -> None:
    reader = member(owner.tenant)
    page = reader.get(at(owner.tenant))
    assert page.status_code == 403 and b"member or an owner" in page.content
    assert "New batch</a>" not in shown(reader, at(owner.tenant, "batches"))
    assert put(reader, owner.tenant, b"{}").status_code == 403
    assert reader.post(at(owner.tenant), {}).status_code == 403
    assert reader.post(at(owner.tenant, "preflight"), {}).status_code == 403
    User.objects.all().delete()
    foreign = member(outsider.tenant, role="owner")
    names = uploaded(foreign, outsider.tenant)
    assert put(foreign, owner.tenant, b"{}").status_code == 404
    assert foreign.get(at(owner.tenant)).status_code == 404
    User.objects.all().delete()
    client = member(owner.tenant, role="member")
    sent = form(client, owner.tenant, None, file_id=names.public_id)
    answers = [client.post(at(owner.tenant), {**sent, "file_id": each}).content for each in (names.public_id, "file-1")]
    assert all(b"There is no file with this id." in answer for answer in answers) and not Batch.objects.exists()
    assert "There is no file with this id." in examined(client, owner.tenant, **sent)
    page = client.get(f"{at(owner.tenant)}?file={names.public_id}")
    assert b"There is no file with this id." in page.content and b"in.jsonl" not in page.content
    assert client.post(at(owner.tenant, "remove_file", file_id=names.public_id)).status_code == 404
    assert Client().get(at(owner.tenant)).status_code == 302
    signed_out = put(Client(), owner.tenant, b"{}", HTTP_HX_REQUEST="true")
    assert (signed_out.status_code, signed_out["HX-Refresh"]) == (200, "true")
    assert File.objects.count() == 1


@sqlite_only
def test_readers_see_whom_to_ask(owner: Person) -> None:
    browser.person_of(owner.tenant, "grace@example.com", "owner")
    page = member(owner.tenant).get(at(owner.tenant)).content
    assert b"grace@example.com" in page and b'type="file"' not in page


@sqlite_only
def test_a_forged_request_stores_nothing(owner: Person, witness: Witness) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(browser.person_of(owner.tenant))
    client.get(at(owner.tenant))
    token = client.cookies["csrftoken"].value
    for headers in (
        {},
        {"HTTP_X_CSRFTOKEN": "a" * 32},
        {"HTTP_X_CSRFTOKEN": token, "HTTP_ORIGIN": "https://evil.example"},
    ):
        assert put(client, owner.tenant, content([GOOD]), **headers).status_code == 403
    assert not File.objects.exists()
    assert put(client, owner.tenant, content([GOOD]), HTTP_X_CSRFTOKEN=token).status_code == 200
    for page in ("upload", "preflight"):
        assert client.post(at(owner.tenant, page), {}).status_code == 403


@sqlite_only
def test_the_limits_are_the_apis(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    client = member(owner.tenant, role="member")
    for body, status, said in (
        (b"", 400, uploads.EMPTY),
        (b" \n\n", 400, uploads.EMPTY),
        (b"{}\n" * 50_001, 413, uploads.TOO_MANY_LINES),
    ):
        answer = put(client, owner.tenant, body, CONTENT_LENGTH=str(len(body)))
        assert (answer.status_code, answer.content.decode()) == (status, said + "\n"), body[:9]
    monkeypatch.setattr(uploads, "MAX_BYTES", 300_000)
    assert put(client, owner.tenant, b"x" * 300_000).status_code == 200
    for size in (300_001, 900_000):
        answer = put(client, owner.tenant, b"x" * size)
        assert (answer.status_code, answer.content.decode()) == (413, uploads.too_large().message + "\n")
    assert put(client, owner.tenant, b"x", CONTENT_LENGTH="").status_code == 411
    for method in ("POST", "GET", "DELETE"):
        assert client.generic(method, at(owner.tenant, "uploads"), b"x").status_code == 405
    assert client.generic("POST", at(owner.tenant, "uploads"), b"x" * (MB + 1)).status_code == 413
    assert File.objects.count() == 1 and len(inputs()) >= 1


@sqlite_only
def test_uploads_of_pages_hold_no_more_threads_than_others() -> None:
    bounded = BoundedBodies(lambda request: HttpResponse("taken"))
    factory, address = RequestFactory(), "/t/ten_1/uploads"
    asked = {"PUT": factory.put(address, b"x" * 2 * MB), "POST": factory.post(address, b"x" * 2 * MB, "text/plain")}
    elsewhere = factory.put("/t/ten_1/uploads/x", b"x" * 2 * MB)
    assert [bounded(each).status_code for each in (*asked.values(), elsewhere)] == [200, 413, 413]
    for _ in range(BODIES):
        assert bounded._places.acquire(blocking=False)
    assert bounded(asked["PUT"]).status_code == 503


class Short:
    """A body that ends, or breaks, before its length."""

    def __init__(self, error: type[OSError] | None) -> None:
        self._pieces, self._error = [b"{}\n" * 10_000], error

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)

    def read(self, size: int = -1) -> bytes:
        if self._pieces:
            return self._pieces.pop()[:size]
        if self._error:
            raise self._error
        return b""


@sqlite_only
@pytest.mark.parametrize("error", [None, ConnectionResetError])
def test_a_broken_off_upload_leaves_nothing(owner: Person, error: type[OSError] | None) -> None:
    client, before = member(owner.tenant, role="member"), inputs()
    short: dict[str, Any] = {"wsgi.input": Short(error), "CONTENT_LENGTH": "900000"}
    answer = put(client, owner.tenant, b"", **short)
    assert (answer.status_code, b"Send it again" in answer.content) == (400, True)
    assert inputs() == before and not File.objects.exists()


@sqlite_only
def test_what_fails_in_the_storage_leaves_nothing(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    client, before = member(owner.tenant, role="member"), inputs()
    client.raise_request_exception = False
    for room, name in ((objects.Writer, "close"), (files, "store")):
        with monkeypatch.context() as patched:
            patched.setattr(room, name, broken)
            assert put(client, owner.tenant, b"{}\n").status_code == 500
    assert inputs() == before and not File.objects.exists()


def broken(*_: Any) -> None:
    raise OSError("the disk is gone")


@sqlite_only
def test_bad_lines_are_named_with_their_cure(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner.tenant, [*BAD, *[b"["] * 30])
    sent = form(client, owner.tenant, file)
    said = examined(client, owner.tenant, **sent)
    assert "It would fail 34 of 35 lines can’t run." in said
    assert "invalid_json_line 31 times One object a line, UTF-8" in said and "and 21 more" in said
    assert "Line 3 body.model There is no model &#x27;nobody&#x27;" in said
    assert "duplicate_custom_id 1 time" in said and "Line 4 custom_id" in said and "Line 5" in said
    skipping = examined(client, owner.tenant, **{**sent, "on_invalid_line": "skip"})
    assert "34 lines fail as soon as it starts" in skipping and "0.0000" in skipping
    other = examined(client, owner.tenant, **{**sent, "endpoint": "/v1/embeddings"})
    assert "35 of 35 lines" in other and "Lines that can run 0 of 35" in other


@sqlite_only
def test_what_the_money_allows_is_said(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    sent = form(client, owner.tenant, uploaded(client, owner.tenant))
    assert "Held while it runs" not in examined(client, owner.tenant, **sent)
    customer = Customer.objects.create(tenant=owner.tenant, prepaid=True)
    said = examined(client, owner.tenant, **sent)
    assert "Not now" in said and "get more credits" in said and "Credits left now, USD 0.00" in said
    page = client.post(at(owner.tenant), sent).content.decode()
    assert "get more credits" in page and sent["token"] in page and not Batch.objects.exists()
    Customer.objects.filter(pk=customer.pk).update(prepaid=False, monthly_limit=10**13)
    assert "Left of the month’s limit, USD 10.00" in examined(client, owner.tenant, **sent)
    assert client.post(at(owner.tenant), sent).status_code == 302


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"file_id": ""}, "Choose a file first"),
    ({"file_id": "file-\x00"}, "There is no file with this id."),
    ({"endpoint": "/v1/images"}, "endpoint must be one of"),
    ({"endpoint": "x" * 100_000}, "endpoint must be one of"),
    ({"on_invalid_line": "\x00"}, "on_invalid_line must be"),
    ({"max_cost_usd": "a lot"}, "Write USD as a decimal"),
    ({"max_cost_usd": "9" * 500_000}, "Write USD as a decimal"),
    ({"max_error_rate": "NaN"}, "Write a share of more than 0"),
    ({"key": ["a", "a"], "value": ["1", "2"]}, "stands twice"),
    ({"key": [""], "value": ["1"]}, "has no key"),
    ({"key": ["k" * 65], "value": [""]}, "at most 64 characters"),
    ({"key": ["k"], "value": ["[" * 100_000]}, "at most 64 characters"),
    ({"key": [str(n) for n in range(17)], "value": ["v"] * 17}, "at most 16 pairs"),
]


@sqlite_only
@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_a_refusal_stands_in_the_form_and_nothing_is_lost(
    owner: Person, witness: Witness, fields: dict[str, Any], said: str
) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner.tenant)
    sent = form(client, owner.tenant, file, **{"key": ["note"], "value": [NAUGHTY], "max_cost_usd": "7.25", **fields})
    html = client.post(at(owner.tenant), sent)
    assert html.status_code == 200
    page = html.content.decode()
    assert said in page and "<script>" not in page and 'role="alert"' in page
    if "max_cost_usd" not in fields:
        assert 'value="7.25"' in page
    if "key" not in fields:
        assert "Ünïcode" in page
    if "file_id" not in fields:
        assert file.public_id in page and sent["token"] in page
        assert client.post(at(owner.tenant, "preflight"), sent).status_code == 200
    assert not Batch.objects.exists() and not AuditEvent.objects.filter(action="batch.submitted").exists()


@sqlite_only
def test_more_than_a_form_holds_is_refused(owner: Person) -> None:
    client = member(owner.tenant, role="member")
    for page in ("upload", "preflight"):
        assert client.post(at(owner.tenant, page), {"key": ["k"] * 1001}).status_code == 400
        assert client.post(at(owner.tenant, page), {"key": "k" * 2 * MB}).status_code == 413


@sqlite_only
def test_a_full_tenant_and_a_suspended_one(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner.tenant)
    for _ in range(10):
        client.post(at(owner.tenant), form(client, owner.tenant, file))
    sent = form(client, owner.tenant, file)
    page = client.post(at(owner.tenant), sent).content
    assert b"has 10 active batches" in page and sent["token"].encode() in page
    removal = client.post(at(owner.tenant, "remove_file", file_id=file.public_id), HTTP_HX_REQUEST="true")
    assert b"has not ended uses this file" in removal.content and "HX-Trigger" not in removal
    Tenant.objects.update(suspended=True)
    assert b"suspended" in client.post(at(owner.tenant), sent).content
    assert put(client, owner.tenant, b"{}").status_code == 403
    assert Batch.objects.count() == 10 and File.objects.count() == 1


@sqlite_only
def test_a_busy_service_asks_again_by_itself(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    client = member(owner.tenant, role="member")
    sent = form(client, owner.tenant, uploaded(client, owner.tenant))
    monkeypatch.setattr(preflight, "PATIENCE", 0.01)
    with preflight._place(), preflight._place():
        answer = client.post(at(owner.tenant, "preflight"), sent)
    html = answer.content.decode()
    assert answer.status_code == 200 and 'hx-trigger="load delay:3s"' in html and "in.jsonl" in html
    assert client.post(at(owner.tenant, "preflight"), {"file_id": ""}).status_code == 204


NAMES = [
    NAUGHTY,
    "../../etc/passwd",
    "..\\..\\a.jsonl",
    "a\x00b.jsonl",
    "",
    "\u202egnp.jsonl",
    "x" * 5000,
    "%00",
    "a\r\nb: c",
]


@sqlite_only
@pytest.mark.parametrize("name", NAMES)
def test_file_names_are_text(owner: Person, witness: Witness, name: str) -> None:
    client = member(owner.tenant, role="member")
    assert put(client, owner.tenant, content([GOOD]), name).status_code == 200
    file = File.objects.get()
    assert "/" not in file.filename and "\\" not in file.filename and "\x00" not in file.filename
    assert 1 <= len(file.filename) <= 255
    shown(client, f"{at(owner.tenant)}?file={file.public_id}")
    html = client.post(at(owner.tenant, "preflight"), form(client, owner.tenant, file)).content
    assert b"<script>" not in html


@sqlite_only
def test_a_file_can_be_removed_or_taken_again(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    first, second = uploaded(client, owner.tenant), uploaded(client, owner.tenant)
    page = shown(client, at(owner.tenant))
    assert page.index(f"?file={second.public_id}") < page.index(f"?file={first.public_id}")
    part = client.post(at(owner.tenant, "remove_file", file_id=second.public_id), HTTP_HX_REQUEST="true")
    assert part["HX-Trigger"] == "removed" and b"is removed" in part.content
    whole = client.post(at(owner.tenant, "remove_file", file_id=first.public_id))
    assert whole.status_code == 302 and "is removed" in shown(client, at(owner.tenant))
    assert inputs().isdisjoint({settings.HOME / "files" / each.storage_key for each in (first, second)})
    assert AuditEvent.objects.filter(action="file.deleted").count() == 2
    sent = form(client, owner.tenant, None, file_id=first.public_id)
    assert b"There is no file with this id." in client.post(at(owner.tenant), sent).content


def test_a_removal_that_is_not_committed_keeps_the_bytes(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row comes back with the transaction; the object would not."""
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner.tenant)
    with monkeypatch.context() as patched:
        patched.setattr("batches.web.uploading.trail.record", broken)
        with pytest.raises(OSError, match="the disk is gone"):
            client.post(at(owner.tenant, "remove_file", file_id=file.public_id))
    assert files.find(owner.tenant, file.public_id) == file
    assert objects.read(file.storage_key, 0, file.bytes)
    client.post(at(owner.tenant, "remove_file", file_id=file.public_id))
    assert settings.HOME / "files" / file.storage_key not in inputs()


@sqlite_only
def test_the_example_runs(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    page = shown(client, at(owner.tenant))
    assert "Three lines for witness" in page and "curl http://testserver/v1/batch" in page
    answer = client.get(at(owner.tenant, "example"))
    assert "example.jsonl" in answer["Content-Disposition"]
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert len(lines) == 3 and {line["body"]["model"] for line in lines} == {"witness"}
    sent = form(client, owner.tenant, uploaded(client, owner.tenant, lines))
    assert "Lines that can run 3 of 3" in examined(client, owner.tenant, **sent)
    for model in ("nobody", "\x00", ""):
        assert client.get(at(owner.tenant, "example"), {"model": model}).status_code == 404


@sqlite_only
def test_the_page_costs_few_queries(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    counts = []
    for more in (1, 12):
        for _ in range(more):
            file = uploaded(client, owner.tenant)
        with CaptureQueriesContext(connection) as captured:
            shown(client, f"{at(owner.tenant)}?file={file.public_id}")
        counts.append(len(captured))
    assert counts[0] == counts[1] <= MOST_QUERIES
    Membership.objects.update(role="reader")
    with CaptureQueriesContext(connection) as captured:
        client.get(at(owner.tenant))
    assert len(captured) <= MOST_QUERIES


@sqlite_only
def test_a_hundred_megabytes_in_flat_memory(owner: Person, http: httpx.Client, web_server: str) -> None:
    cookie = {settings.SESSION_COOKIE_NAME: browser.session(browser.person_of(owner.tenant))}
    http.cookies.update(cookie)
    http.get(at(owner.tenant))
    token = http.cookies["csrftoken"]

    def send(size: int) -> httpx.Response:
        pieces = (b"x" * min(MB, size - start) for start in range(0, size, MB))
        headers = {"X-CSRFToken": token, "Content-Length": str(size), "Content-Type": "application/jsonl"}
        return http.put(at(owner.tenant, "uploads"), content=pieces, headers=headers, timeout=60)

    send(MB)
    start = peak_memory(web_server)
    assert send(MAX_BYTES).json() == {"id": File.objects.get(bytes=MAX_BYTES).public_id, "bytes": MAX_BYTES, "lines": 1}
    assert send(MAX_BYTES + 1).status_code == 413
    grown = peak_memory(web_server) - start
    print(f"web server memory grew by {grown / MB:.1f} MB over a page's uploads of 100 MB and 100 MB + 1")
    assert grown <= 32 * MB


@sqlite_only
def test_an_upload_whose_tab_is_closed_leaves_nothing(owner: Person, web_server: str) -> None:
    import socket

    session, before = browser.session(browser.person_of(owner.tenant)), inputs()
    token = "a" * 32
    host, port = web_server.removeprefix("http://").split(":")
    head = f"PUT {at(owner.tenant, 'uploads')} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {10 * MB}\r\n"
    head += f"Cookie: {settings.SESSION_COOKIE_NAME}={session}; csrftoken={token}\r\nX-CSRFToken: {token}\r\n\r\n"
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall(head.encode() + b"x" * 3 * MB)
        began: set[Path] = until(lambda: inputs() - before)
        assert len(began) == 1
    until(lambda: inputs() == before)
    assert not File.objects.exists()
