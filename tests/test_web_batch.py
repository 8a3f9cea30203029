"""A batch's page: what it says, the part that moves, what people do there, and what they take home."""

import json
import random
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches import objects
from batches.core.states import Status
from batches.models import Batch, Result, Submission
from batches.web import watching
from tenants.models import AuditEvent, Membership, User
from tests.conftest import Person, seal
from tests.test_engine import Work, numbered
from tests.test_pause import paused
from tests.test_retry_batch import cancelled
from tests.test_web import NAUGHTY, make_batches, member, shown
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # tests/test_web_charts.py is for both
MOST_QUERIES = 10
FILES = ("output", "errors", "receipts", "manifest")


def address(owner: Person, batch: Batch | str, part: str = "") -> str:
    an_id = batch if isinstance(batch, str) else batch.public_id
    return f"/t/{owner.tenant.public_id}/batches/{an_id}" + (f"/{part}" if part else "")


def results(batch: Batch, count: int, seconds: float) -> None:
    """So many results, evenly over the seconds since the batch began."""
    began, dice = batch.in_progress_at, random.Random(1)
    assert began
    Result.objects.bulk_create(
        [
            Result(
                tenant_id=batch.tenant_id, batch=batch, line=n, seq=n, custom_id=str(n), status_code=200, upstream_id=1,
                error_code="" if n % 10 else "upstream_error", input_tokens=10, cached_tokens=4, output_tokens=3,
                latency_ms=dice.randrange(100, 1100), finished_at=began + timedelta(seconds=seconds * n / count),
                segment_id=1, offset=0, length=1,
            )
            for n in range(1, count + 1)
        ],
        batch_size=5000,
    )  # fmt: skip


def running(owner: Person, total: int, since: float = 600, **fields: Any) -> Batch:
    began = timezone.now() - timedelta(seconds=since)
    rest: dict[str, Any] = {"status": Status.IN_PROGRESS, "in_progress_at": began, "total": total} | fields
    return make_batches(owner.tenant, **rest)[0]


def moving(html: str) -> str:
    """The address at which the part that moves is asked for again; empty when it is not."""
    found = re.search(r'hx-get="([^"]*/head[^"]*)" hx-trigger="every 2s"', html)
    return unescape(found[1]) if found else ""


@pytest.mark.parametrize("count", [10_000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_a_batch_of_many_lines(count: int, owner: Person) -> None:
    """Each of its addresses costs as many queries as that of a batch of one line, and few."""
    small, large = running(owner, 10), running(owner, count, completed=count * 9 // 10, failed=count // 10)
    results(large, count, 599)
    client, counts = member(owner.tenant), {}
    for batch in (small, large):
        shown(client, address(owner, batch))
        for part in ("", "head", "charts"):
            with CaptureQueriesContext(connection) as captured:
                assert client.get(address(owner, batch, part)).status_code == 200
            counts[batch.pk, part] = len(captured)
    assert [counts[small.pk, part] for part in ("", "charts")] == [counts[large.pk, part] for part in ("", "charts")]
    assert max(counts.values()) <= MOST_QUERIES
    poll = moving(shown(client, address(owner, large)))
    with CaptureQueriesContext(connection) as captured:
        assert client.get(poll).status_code in (200, 204), "by its speed, which is the clock's"
    assert len(captured) == 4, "session, person, seat, and the batch"
    found = client.get(address(owner, large, "charts")).json()
    assert len(found["rows"]) <= 60 and found["moving"]
    sums = [sum(column) for column in zip(*(row[1:6] for row in found["rows"]), strict=True)]
    assert sums == [count * 9 // 10, count // 10, count * 10, count * 4, count * 3]
    for row in found["rows"][1:-1]:  # whole minutes
        assert 450 < row[6] < 750 and 950 <= row[7] < 1100, "the median, and what 95% are below, of 100 to 1,100 ms"


def test_the_part_that_moves_says_what_has_changed(owner: Person) -> None:
    batch = running(owner, 1000, since=120, completed=100)
    results(batch, 600, 120)
    client = member(owner.tenant)
    html = shown(client, address(owner, batch))
    assert "100 of 1,000 lines" in html and "5.0 lines/s" in html and ">10%<" in html
    poll = moving(html)
    Batch.objects.filter(pk=batch.pk).update(
        completed=990, failed=5, expected_at=timezone.now() + timedelta(minutes=3), cost=1_500_000_000_000,
        waiting_reason="upstream_unavailable: The model m has no upstream that can be used now.",
    )  # fmt: skip
    head = client.get(poll).content.decode()
    for words in ("995 of 1,000 lines", "5 failed", ">99%<", ">in 2 min<", "1.50 USD", "no upstream that can be used"):
        assert words in head, words
    assert "hx-swap-oob" not in head and "Downloads" not in head, "the state has not changed"
    Batch.objects.filter(pk=batch.pk).update(status=Status.FINALIZING, finalizing_at=timezone.now(), waiting_reason="")
    head = client.get(moving(head)).content.decode()
    assert '<div id="said" hx-swap-oob="innerHTML">Finalizing</div>' in head and "Timeline" in head
    assert 'id="about"' in head and "About this batch" in head, "the model is known since the input was checked"
    assert "Cancel the batch" not in head
    Batch.objects.filter(pk=batch.pk).update(status=Status.FAILED, ended_at=timezone.now())
    assert not moving(client.get(moving(head)).content.decode()), "it has ended"


def test_a_batch_that_ends_is_asked_for_until_its_receipts_are_there(
    owner: Person, witness: Witness, work: Work
) -> None:
    lines = [request_line("a"), request_line("b", custom_id="bad", faults=["400"])]
    batch = owner.submit(lines, metadata='{"suite": "<b>x</b>"}').json()["id"]
    client = member(owner.tenant)
    poll = moving(shown(client, address(owner, batch)))
    work()
    head = client.get(poll).content.decode()
    assert "Receipts and manifest are being written" in head
    seal()
    head = client.get(moving(head)).content.decode()
    assert not moving(head) and all(f'href="{address(owner, batch, part)}"' in head for part in FILES)
    html = shown(client, address(owner, batch))
    assert "1 failed" in html and "50% off the standard price" in html and "&lt;b&gt;x&lt;/b&gt;" in html
    assert "client.batches.retrieve(&quot;" + batch in html and f"curl http://testserver/v1/batch/{batch}" in html
    for name in ("Submitted", "In progress", "Finalizing", "Completed"):
        assert f"<strong>{name}</strong>" in html


def test_files_are_the_apis_byte_for_byte(owner: Person, witness: Witness, work: Work) -> None:
    lines = [request_line("a"), request_line("b", faults=["400"]), request_line("c", custom_id=NAUGHTY)]
    batch = owner.submit(lines).json()["id"]
    client, anonymous = member(owner.tenant), Client()
    partial = client.get(address(owner, batch, "output?partial=true"))
    assert partial.getvalue() == b"" and "attachment" in partial["Content-Disposition"]
    assert {client.get(address(owner, batch, part)).status_code for part in FILES} == {409}
    work()
    seal()
    for part in FILES:
        ours, api = client.get(address(owner, batch, part)), owner.get(f"/v1/batch/{batch}/{part}")
        taken, given = (answer.getvalue() for answer in (ours, api))
        assert taken and (json.loads(taken) == json.loads(given) if part == "manifest" else taken == given)
        assert ours["Content-Disposition"].startswith(f'attachment; filename="{batch}_')
        assert ours["X-Content-Type-Options"] == "nosniff" and "html" not in ours["Content-Type"]
        assert anonymous.get(address(owner, batch, part)).status_code == 302
    output = address(owner, batch, "output")
    whole = client.get(output)
    content = whole.getvalue()
    again = client.get(output, headers={"If-None-Match": whole["ETag"]})
    assert again.status_code == 304 and "no-cache" in whole["Cache-Control"]
    some = client.get(output, headers={"Range": "bytes=10-19"})
    assert some.status_code == 206 and some.getvalue() == content[10:20]
    for query, status in (("partial=perhaps", 400), ("x=1", 400), ("merged=true&partial=true", 400)):
        assert client.get(f"{output}?{query}", headers={"Accept": "text/html"}).status_code == status


def test_a_bad_input_is_explained_line_by_line(owner: Person, witness: Witness, work: Work) -> None:
    bad = [b"{", {"custom_id": "<i>", "url": "/v1/embeddings", "body": {}}, *([b"[]"] * 150)]
    batch = owner.submit([request_line("good"), *bad]).json()
    work()
    html = shown(member(owner.tenant), address(owner, batch["id"]))
    errors = owner.batch(batch["id"])["errors"]
    assert "Why nothing was run" in html and "nothing is charged" in html
    for entry in errors["data"]:
        assert f">{entry['line']}</td>" in html and f"<code>{entry['code']}</code>" in html
        assert entry["message"] in unescape(html)
    left = sum(errors["counts"].values()) - len(errors["data"])
    assert f"And {left} more" in html if left else "more. Of each kind" not in html
    assert "Cancel the batch" not in html and "Retry" not in html and not moving(html)


def acting(owner: Person, role: str = "member") -> Client:
    user = User.objects.create_user(f"{role}@example.com")
    Membership.objects.create(tenant=owner.tenant, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def trail() -> list[tuple[str, str, str, dict[str, Any]]]:
    return list(AuditEvent.objects.order_by("pk").values_list("actor", "action", "target", "details"))


def test_of_two_who_cancel_at_once_one_is_on_the_trail(owner: Person, witness: Witness) -> None:
    client, batch = member(owner.tenant, role="member"), owner.submit([request_line("1")]).json()["id"]
    before = watching.batch(owner.tenant, batch)
    client.post(address(owner, batch, "cancel"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(watching, "batch", lambda *_: before)  # looked at before the other's cancel
        assert client.post(address(owner, batch, "cancel")).status_code == 302
    assert trail() == [("member@example.com", "batch.cancelled", batch, {})]


def test_a_member_cancels(owner: Person, witness: Witness) -> None:
    batch = owner.submit(numbered(3)).json()["id"]
    client = acting(owner)
    assert "Cancel the batch" in shown(client, address(owner, batch))
    answer = client.post(address(owner, batch, "cancel"))
    assert answer.status_code == 302 and answer["Location"] == address(owner, batch)
    assert "It is being cancelled" in shown(client, address(owner, batch))
    assert client.post(address(owner, batch, "cancel")).status_code == 302, "sent twice"
    assert trail() == [("member@example.com", "batch.cancelled", batch, {})]
    Batch.objects.update(status=Status.COMPLETED, cancelling_at=None)
    answer = client.post(address(owner, batch, "cancel"), headers={"Accept": "text/html"})
    assert answer.status_code == 409 and b"can&#x27;t be cancelled any more" in answer.content
    assert len(trail()) == 1


def test_a_paused_batch_is_gone_on_with(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    client, resume = acting(owner), address(owner, batch, "resume")
    html = shown(client, address(owner, batch))
    assert "It is paused: It has cost what you let it cost." in html and 'value="0.000000000001"' in html
    for typed, says in (("12,50", "Write USD as a decimal"), ("0.000000000001", "costs as much as its cap already")):
        refused = client.post(resume, {"max_cost_usd": typed})
        page = refused.content.decode()
        assert refused.status_code in (400, 409) and says in page and f'value="{typed}"' in page
        assert 'aria-invalid="true"' in page and 'role="alert"' in page
    for junk in ("%00", "%ED%A0%80", "9" * 100_000, "%22%3E%3Cscript%3E"):
        sent = client.post(resume, f"max_cost_usd={junk}", content_type="application/x-www-form-urlencoded")
        assert sent.status_code == 400 and b"<script>" not in sent.content
    assert trail() == []
    assert client.post(resume, {"max_cost_usd": "2.50"}).status_code == 302
    batch.refresh_from_db()
    assert batch.paused_reason == "" and batch.max_cost == 2_500_000_000_000
    assert trail() == [("member@example.com", "batch.resumed", batch.public_id, {"max_cost_usd": "2.50"})]
    late = client.post(resume, {"max_cost_usd": "3"})
    assert late.status_code == 409 and b"The batch is not paused." in late.content


def test_an_error_rate_is_set_anew_or_taken_away(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    client, again = acting(owner), {"paused_reason": "max_error_rate", "max_cost": None}
    for typed, kept in (("0.25", 0.25), ("", None)):
        Batch.objects.update(**again, max_error_rate=0.1)
        assert 'name="max_error_rate"' in shown(client, address(owner, batch))
        assert client.post(address(owner, batch, "resume"), {"max_error_rate": typed}).status_code == 302
        batch.refresh_from_db()
        assert (batch.max_error_rate, batch.paused_reason) == (kept, "")


def test_what_failed_is_retried_once_a_form(owner: Person, witness: Witness, work: Work) -> None:
    batch = cancelled(owner, 3)
    client, retry = acting(owner), address(owner, batch, "retry")
    html = shown(client, address(owner, batch))
    assert "Retry 3 undelivered lines" in html
    found = re.search(r'name="form" value="(\w+)"', html)
    assert found
    answers = [client.post(retry, {"form": found[1]}) for _ in range(2)]
    made = Batch.objects.get(retry_of=batch)
    assert {answer["Location"] for answer in answers} == {address(owner, made)}
    assert trail() == [("member@example.com", "batch.retried", made.public_id, {"retry_of": batch.public_id})]
    assert Submission.objects.get(key__startswith="form-").api_key is None
    assert f'Retried by <a href="{address(owner, made)}">' in shown(client, address(owner, batch))
    work()
    seal()
    html = shown(client, address(owner, made))
    assert f'It retries <a href="{address(owner, batch)}">' in html and "?merged=true" in html
    merged = client.get(address(owner, made, "output?merged=true"))
    assert (
        len(merged.getvalue().splitlines()) == 3 and f'"{made.public_id}_merged.jsonl"' in merged["Content-Disposition"]
    )
    refused = client.post(address(owner, made, "retry"), {"form": "f" * 32}, headers={"Accept": "text/html"})
    assert refused.status_code == 409 and b"Every line of the batch was delivered" in refused.content
    foreign = client.post(address(owner, made, "retry"), {"form": "\x00" * 40}, headers={"Accept": "text/html"})
    assert foreign.status_code == 400 and b"load the page again" in foreign.content


def test_a_retry_that_is_refused_leaves_nothing(owner: Person, witness: Witness) -> None:
    batch = cancelled(owner, 2)
    objects.delete(batch.input_file.storage_key)
    answer = acting(owner).post(address(owner, batch, "retry"), {"form": "0" * 32}, headers={"Accept": "text/html"})
    assert answer.status_code == 410 and b"not stored any more" in answer.content
    assert trail() == [] and not Submission.objects.filter(key__startswith="form-").exists()


def test_readers_look_and_do_nothing(owner: Person, witness: Witness) -> None:
    stopped = paused(owner)
    client = acting(owner, "reader")
    html = shown(client, address(owner, stopped))
    assert "It is paused" in html and "Go on" not in html and "Cancel the batch" not in html
    assert "Retry" not in shown(client, address(owner, cancelled(owner, 1)))
    for part in ("cancel", "resume", "retry"):
        answer = client.post(address(owner, stopped, part), headers={"Accept": "text/html"})
        assert answer.status_code == 403 and b"role_insufficient" in answer.content
        assert client.get(address(owner, stopped, part)).status_code == 405
    assert trail() == []


def test_a_foreign_batch_is_an_unknown_one(owner: Person, outsider: Person) -> None:
    [foreign] = make_batches(outsider.tenant)
    client = acting(owner)
    for part in ("", "head", "charts", *FILES, "cancel", "resume", "retry"):
        send = client.post if part in ("cancel", "resume", "retry") else client.get
        said = {
            (answer.status_code, answer.content)
            for answer in (
                send(address(owner, an_id, part)) for an_id in (foreign.public_id, "batch_0", "%00", "é" * 900)
            )
        }
        assert len(said) == 1 and {status for status, _ in said} == {404}, part


def test_forms_need_their_token(owner: Person) -> None:
    batch = running(owner, 1)
    user = User.objects.create_user("ada@example.com")
    Membership.objects.create(tenant=owner.tenant, user=user, role="owner")
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    for part in ("cancel", "resume", "retry"):
        assert client.post(address(owner, batch, part)).status_code == 403
    batch.refresh_from_db()
    assert batch.status == Status.IN_PROGRESS


def test_nothing_from_outside_is_markup(owner: Person) -> None:
    batch = running(
        owner, 9, filename=NAUGHTY, model=NAUGHTY, metadata=json.dumps({NAUGHTY: NAUGHTY}),
        waiting_reason=f"upstream_unavailable: {NAUGHTY}", endpoint=NAUGHTY[:40],
        errors=json.dumps({"data": [{"code": NAUGHTY, "line": 1, "message": NAUGHTY, "param": NAUGHTY}], "counts": {NAUGHTY: 9}}),
    )  # fmt: skip
    html = shown(member(owner.tenant), address(owner, batch))
    assert html.count("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&quot;&#x27; Ünïcode") >= 9
    assert settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]["script-src"] == ["'self'"]


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("lines", [0, 1])
def test_every_status_has_a_page(owner: Person, status: Status, lines: int) -> None:
    now = timezone.now()
    [batch] = make_batches(
        owner.tenant, status=status, completed=lines, total=lines, model=None, cancelling_at=now, ended_at=now, sla_met=False,
    )  # fmt: skip
    html = shown(member(owner.tenant), address(owner, batch))
    assert f">{status.replace('_', ' ').capitalize()}<" in html
