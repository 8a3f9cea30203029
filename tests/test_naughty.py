"""The Big List of Naughty Strings wherever a tenant or an operator may write a text: kept exactly, or refused by name.

None becomes a header, a path, a line of the log, or HTML.
"""

import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from io import StringIO
from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import CharField, Value
from django.db.models.functions import Cast, Concat
from django.test import Client

from batches import files, intake
from batches.api import fields
from batches.models import Batch, File
from tenants.errors import Refused
from tenants.models import Membership, Tenant, User
from tests.conftest import Person
from tests.hostile import naughty_strings
from tests.test_admin import staff
from tests.test_web import make_batches
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # texts of every kind reach both databases in tests/test_api.py
NAUGHTY = list(dict.fromkeys(naughty_strings()))
SOME = (NAUGHTY[::4], pytest.param(NAUGHTY, marks=pytest.mark.soak))  # each costs a whole submission, or a command
TELLING = [text for text in NAUGHTY if len(text) > 10]  # not found anywhere by chance


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level("DEBUG")
    yield
    logged = "\n".join(
        record.getMessage() + str(record.args) for record in caplog.records if record.name != "django.db.backends"
    )
    assert not [text for text in TELLING if text in logged]


def in_headers(answer: Any) -> list[str]:
    """But for the request's id, of which a harmless one is the client's."""
    headers = repr({name: value for name, value in answer.items() if name.lower() != "x-request-id"})
    return [text for text in TELLING if text in headers]


def refusal(read: Any, *arguments: Any) -> str | None:
    """The code that `read` refuses them with."""
    try:
        read(*arguments)
    except Refused as refused:
        refused.message.encode()
        return refused.code
    return None


def test_as_custom_ids(owner: Person, witness: Witness, work: Any) -> None:
    lines = [request_line(str(n), custom_id=text) for n, text in enumerate(NAUGHTY)]
    batch = owner.submit(lines, on_invalid_line="skip").json()["id"]
    work()
    answer = owner.get(f"/v1/batch/{batch}/output")
    output = [json.loads(line) for line in b"".join(answer.streaming_content).split(b"\n")[:-1]]
    assert len(output) == len(NAUGHTY) and not in_headers(answer)
    kept = 0
    for text, line in zip(NAUGHTY, output, strict=True):
        if line["response"]:
            kept += 1
            assert line["custom_id"] == text
        else:
            assert line["error"]["code"] == ("invalid_custom_id" if text else "missing_custom_id"), line
            assert not text.isprintable() or not text
    print(f"{len(NAUGHTY)} custom_ids: {kept} kept, {len(NAUGHTY) - kept} refused")
    assert kept > 400


def form(filename: str, **others: str) -> bytes:
    """A form as curl writes it: the name as it is, but for its quotes and line ends."""
    name = filename.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    parts = [f'name="file"; filename="{name}"\r\n\r\n{{}}\n']
    parts += [f'name="{field}"\r\n\r\n{value}' for field, value in others.items()]
    return "".join(f"--B\r\nContent-Disposition: form-data; {part}\r\n" for part in parts).encode() + b"--B--\r\n"


@pytest.mark.parametrize("texts", SOME, ids=len)
@transaction.atomic  # one commit: hundreds take seconds
def test_as_file_names_and_metadata(owner: Person, texts: list[str]) -> None:
    """A file's name is only shown, and may lose its folders; metadata is kept to the character."""
    Tenant.objects.update(plan="reserved")
    headers, kept = {"Authorization": f"Bearer {owner.key}"}, 0
    for text in texts:
        metadata = json.dumps({"key": text, text[:64]: "value"}, ensure_ascii=False)
        answer = owner.client.post(
            "/v1/batch", form(text, metadata=metadata), content_type="multipart/form-data; boundary=B", headers=headers
        )
        assert not in_headers(answer)
        if answer.status_code == 200:
            batch = Batch.objects.select_related("input_file").get(public_id=answer.json()["id"])
            assert answer.json()["metadata"] == json.loads(batch.metadata) == json.loads(metadata)
            name, key = batch.input_file.filename, batch.input_file.storage_key
            assert 0 < len(name) <= files.MAX_FILENAME and "/" not in name
            assert re.fullmatch(r"inputs/[0-9a-z/_-]+", key), key
            kept += 1
        else:
            assert answer.json()["error"]["code"] in ("missing_file", "malformed_request", "invalid_metadata"), (
                answer.content
            )
    print(f"{len(texts)} file names and metadata: {kept} kept")
    assert kept > len(texts) * 3 // 4 and File.objects.count() == kept


def test_as_the_other_fields() -> None:
    for text in NAUGHTY:
        assert refusal(intake.read_endpoint, text) == "invalid_endpoint"
        assert refusal(intake.read_on_invalid_line, text) == "invalid_on_invalid_line"
        assert refusal(fields.read_caps, {"max_cost_usd": text}) in ("invalid_max_cost", None)
        assert refusal(fields.read_caps, {"max_error_rate": text}) in ("invalid_max_error_rate", None)
        assert fields.unsupported(text).code == "unsupported_parameter"


HEADERS = ("Idempotency-Key", "X-Request-Id", "Range", "If-None-Match", "Accept-Encoding", "Accept", "User-Agent")


def test_as_headers_queries_and_paths(owner: Person, witness: Witness, work: Any) -> None:
    batch = owner.submit([request_line("1")]).json()["id"]
    work()
    for text in NAUGHTY[::3]:
        sent = text.encode().decode("latin-1").replace("\r", "").replace("\n", "")  # as a server passes them on
        answers = [
            owner.get(f"/v1/batch/{batch}/output", **dict.fromkeys(HEADERS, sent)),
            owner.get(f"/v1/batch?after={quote(text)}"),
            owner.get(f"/v1/batch/{quote(text, safe='')}/errors"),
        ]
        for answer in answers:
            assert answer.status_code in (200, 206, 304, 400, 401, 404, 416), (text, answer.status_code)
            assert not in_headers(answer), text
            answer.close()


# --- HTML ------------------------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """The tags of a page with the names of their attributes, in order: what a text must not change."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


def pages(client: Client, address: str, separator: str) -> list[str]:
    """All pages of a list."""
    found, next_page = [], address
    while next_page:
        html = client.get(next_page).content.decode()
        found.append(html)
        more = re.search(separator, html)
        next_page = unescape(more[1]) if more else ""
    return found


@pytest.mark.parametrize("texts", SOME, ids=len)
@transaction.atomic
def test_as_the_names_of_tenants(transactional_db: None, texts: list[str]) -> None:
    named = []
    for text in texts:
        out = StringIO()
        try:
            call_command("tenant", "create", "--", text, stdout=out)
        except CommandError:
            assert not text.strip() or not text.isprintable() or len(text) > 200, text
            continue
        (line,) = out.getvalue().splitlines()
        assert json.loads(line)["tenant"] == text
        named.append(text)
    assert set(Tenant.objects.values_list("name", flat=True)) == set(named) and len(named) > len(texts) * 3 // 4
    out = StringIO()
    call_command("tenant", "list", stdout=out)
    assert {json.loads(line)["tenant"] for line in out.getvalue().split("\n")[:-1]} == set(named)
    print(f"{len(texts)} names of tenants: {len(named)} kept")
    check_pages(named)


def _copy(row: Any, **changes: Any) -> Any:
    """A new row like this one, of an id of its own."""
    fields = {field.name: getattr(row, field.name) for field in row._meta.concrete_fields if not field.unique}
    return type(row)(**fields | changes)


def check_pages(named: list[str]) -> None:
    """The operators' list, a form of it, and the list of batches, whose tags are those of plain names."""
    root = staff("root@example.com", is_superuser=True)
    user = User.objects.create_user("ada@example.com")
    tenants = list(Tenant.objects.all())
    Membership.objects.bulk_create(Membership(tenant=tenant, user=user) for tenant in tenants)
    [like] = make_batches(tenants[0])
    file = File.objects.get()
    files = File.objects.bulk_create(_copy(file, tenant=tenant, filename=tenant.name) for tenant in tenants[1:])
    Batch.objects.bulk_create(_copy(like, tenant=file.tenant, input_file=file, model=file.filename) for file in files)
    browser = Client()
    browser.force_login(user)

    def shown() -> list[str]:
        lists = pages(browser, "/", 'href="([?]after=[^"]*)"')
        table = [root.get(f"/admin/tenants/tenant/?p={page}").content.decode() for page in range(1, 10)]
        return [
            *lists,
            *table,
            root.get(f"/admin/tenants/tenant/{Tenant.objects.latest('pk').pk}/change/").content.decode(),
        ]

    naughty = shown()
    text = unescape("\n".join(naughty))
    missing = [name for name in named if name not in text]
    assert not missing
    Tenant.objects.update(name=Concat(Value("plain "), Cast("pk", CharField())))
    File.objects.update(filename="plain")
    Batch.objects.update(model="plain")
    plain = shown()
    assert [Tags(page).found for page in naughty] == [Tags(page).found for page in plain]
