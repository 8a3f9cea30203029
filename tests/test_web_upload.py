"""Uploading, looking and submitting on the dashboard, as a browser asks for it."""

import json
import os
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client

from batches import uploads
from batches.models import Batch, File
from tenants.models import AuditEvent
from tests.conftest import Person, until
from tests.test_web import member
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # what is stored goes the API's way, which the other tests take on both

LINES = b"".join(json.dumps(request_line(f"l{number}")).encode() + b"\n" for number in range(3))


def at(owner: Person, rest: str) -> str:
    return f"/t/{owner.tenant.public_id}/{rest}"


def put(client: Client, owner: Person, content: bytes, filename: str = "in.jsonl", **more: Any) -> Any:
    return client.put(at(owner, "uploads"), content, query_params={"filename": filename}, **more)


def uploaded(client: Client, owner: Person, content: bytes = LINES, filename: str = "in.jsonl") -> File:
    answer = put(client, owner, content, filename)
    assert answer.status_code == 200, answer.content
    return File.objects.get(public_id=answer.json()["id"])


def form(file: File, **more: str) -> dict[str, str]:
    return {"file": file.public_id, "token": "t" * 20, "endpoint": "/v1/chat/completions", **more}


def stored() -> list[str]:
    folder = default_storage.path("")
    return [name for _, _, names in os.walk(folder) for name in names]


def test_a_file_is_kept_as_it_came(owner: Person) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner)
    assert (file.lines, file.bytes, file.filename, file.purpose) == (3, len(LINES), "in.jsonl", "batch")
    assert owner.client.get(f"/v1/files/{file.public_id}/content", headers=bearer(owner)).getvalue() == LINES
    assert AuditEvent.objects.get().action == "file.uploaded"
    assert file.filename in client.get(at(owner, "upload")).content.decode()


def bearer(owner: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {owner.key}"}


@pytest.mark.parametrize(
    "name", ["", "\x00", "a\x00b", "..", "../../etc/passwd", "é" * 900, '"><script>alert(1)</script>']
)
def test_any_name_of_a_file_is_text(owner: Person, name: str) -> None:
    client = member(owner.tenant, role="member")
    uploaded(client, owner, filename=name)
    html = client.get(at(owner, "upload")).content.decode()
    assert "<script>" not in html


def test_what_is_refused_leaves_nothing(owner: Person, outsider: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored()
    writer, reader = member(owner.tenant, role="member"), Client()
    monkeypatch.setattr(uploads, "MAX_BYTES", 1_000_000)
    monkeypatch.setattr(uploads, "MAX_LINES", 2)
    assert put(writer, owner, b"x" * 1_000_001).status_code == 413
    refused = put(writer, owner, LINES)
    assert refused.status_code == 413 and "Split the file" in refused.content.decode()
    assert put(reader, owner, LINES).status_code == 302
    assert put(writer, outsider, LINES).status_code == 404
    assert (stored(), File.objects.count(), AuditEvent.objects.count()) == (before, 0, 0)


def test_readers_upload_and_submit_nothing(owner: Person) -> None:
    file = uploaded(member(owner.tenant, role="member"), owner)
    reader = Client()
    reader.force_login(reading(owner))
    page = reader.get(at(owner, "upload")).content.decode()
    assert "Your role is reader" in page and "<form id=" not in page
    assert put(reader, owner, LINES).status_code == 403
    assert reader.post(at(owner, "upload"), form(file)).status_code == 403
    assert reader.post(at(owner, f"uploads/{file.public_id}/remove")).status_code == 403
    assert not Batch.objects.exists()


def reading(owner: Person) -> Any:
    from tests.browser import person_of

    return person_of(owner.tenant, "eve@example.com", "reader")


def test_a_put_needs_the_token(owner: Person) -> None:
    client = member(owner.tenant, role="member")
    checked = Client(enforce_csrf_checks=True)
    checked.cookies = client.cookies
    assert put(checked, owner, LINES).status_code == 403
    checked.get(at(owner, "upload"))
    token = checked.cookies["csrftoken"].value
    assert put(checked, owner, LINES, headers={"X-CSRFToken": token}).status_code == 200


def test_the_report_names_bad_lines(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner, LINES + b'{"custom_id": "l0"}\nnonsense\n')
    html = client.get(at(owner, "upload/report"), {"file": file.public_id}).content.decode()
    assert "2 of 5 lines can't run" in html and ">4</td>" in html and ">5</td>" in html
    skipping = {"file": file.public_id, "on_invalid_line": "skip"}
    html = client.get(at(owner, "upload/report"), skipping).content.decode()
    assert "3 lines can run; 2 are not valid and would be skipped." in html and "witness" in html


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"max_cost_usd": "much"}, "max_cost_usd"),
        ({"max_error_rate": "7"}, "max_error_rate"),
        ({"metadata": "no sign"}, "one pair a line"),
        ({"metadata": "a=1\na=2"}, "stands twice"),
        ({"metadata": "a=\x00"}, "one pair a line"),
        ({"endpoint": "/v1/none"}, "endpoint must be one of"),
        ({"on_invalid_line": "[" * 9000}, "on_invalid_line must be"),
        ({"file": "file-unknown"}, "no file with this id"),
        ({"file": "\x00"}, "no file with this id"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_lost(owner: Person, wrong: dict[str, str], told: str) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner)
    sent = form(file, max_cost_usd="5", metadata="suite=mmlu") | wrong
    answer = client.post(at(owner, "upload"), sent)
    html = answer.content.decode()
    assert answer.status_code in (400, 404) and told in html and 'role="alert"' in html
    if "metadata" not in wrong:
        assert "suite=mmlu</textarea>" in html
    if "max_cost_usd" not in wrong:
        assert 'value="5"' in html
    looked = client.get(at(owner, "upload/report"), sent)
    assert looked.status_code == 200 and told in looked.content.decode()
    assert not Batch.objects.exists()


def test_a_form_that_is_sent_twice_makes_one_batch(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner)
    first, second = (client.post(at(owner, "upload"), form(file, metadata="a=1")) for _ in range(2))
    batch = Batch.objects.get()
    assert first["Location"] == second["Location"] == at(owner, f"batches/{batch.public_id}")
    assert (batch.api_key, batch.metadata, batch.input_file) == (None, '{"a": "1"}', file)
    assert client.post(at(owner, "upload"), form(file, token="another")).status_code == 302
    assert Batch.objects.count() == 2
    assert AuditEvent.objects.filter(action="batch.submitted").count() == 2


def test_the_limits_of_the_tenant_are_told_beside_the_form(owner: Person, witness: Witness) -> None:
    owner.tenant.batch_limit = 1
    owner.tenant.save()
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner)
    client.post(at(owner, "upload"), form(file))
    refused = client.post(at(owner, "upload"), form(file, token="another", metadata="kept=yes"))
    assert refused.status_code == 429 and "kept=yes" in refused.content.decode()
    assert Batch.objects.count() == 1 and not AuditEvent.objects.filter(target="another").exists()


def test_a_file_is_removed_but_not_while_it_is_used(owner: Person, witness: Witness, work: Any) -> None:
    client = member(owner.tenant, role="member")
    file = uploaded(client, owner)
    client.post(at(owner, "upload"), form(file))
    remove = at(owner, f"uploads/{file.public_id}/remove")
    assert "uses this file" in client.post(remove, follow=True).content.decode()
    work()
    until(lambda: Batch.objects.get().status == "completed")
    assert "is removed" in client.post(remove, follow=True).content.decode()
    assert file.public_id not in client.get(at(owner, "upload")).content.decode()


def test_the_example_can_be_submitted(owner: Person, witness: Witness) -> None:
    client = member(owner.tenant, role="member")
    example = client.get(at(owner, "upload/example"))
    assert "attachment" in example["Content-Disposition"]
    file = uploaded(client, owner, example.content)
    html = client.get(at(owner, "upload/report"), {"file": file.public_id}).content.decode()
    assert "All 3 lines can run." in html
