"""A text that would be a tag, an attribute or a formula, wherever a tenant, its people or an upstream may write one.

Each place has a number of its own, so that a page that stops showing one is noticed.
"""

import csv
import json
from typing import Any

import pytest
from django.db.models import F, TextField, Value
from django.db.models.functions import Cast, Concat
from django.test import Client

from batches import lines
from batches.models import Batch, File, Upstream, Usage, WebhookDelivery, WebhookEndpoint
from billing import ledger
from billing.models import Invoice
from tenants import trail
from tenants.models import ApiKey, Invitation, Tenant, User
from tests.dashboard import gallery
from tests.test_naughty import Tags
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # a page is the same on any database

HOSTILE = "\"'></script></title></textarea>--><naughty-x naughty-y=1>{{7}}"


def text(place: int) -> str:
    return f"=n{place:02}{HOSTILE}"


ROWS: tuple[tuple[Any, str, int], ...] = (
    (Tenant, "name", 1), (File, "filename", 2), (Batch, "model", 3), (Usage, "model", 4), (ApiKey, "name", 5),
    (WebhookEndpoint, "name", 6), (WebhookDelivery, "last_error", 7), (Upstream, "model", 8),
)  # fmt: skip
PLACES = range(1, 31)


def said(*_: Any) -> bytes:
    """An output line, as an upstream would like to have it."""
    answer = {"choices": [{"message": {"role": text(9), "content": text(9)}}]}
    return json.dumps({"custom_id": "x", "response": {"status_code": 200, "body": answer}, "error": None}).encode()


def spoil(world: gallery.World, working: Any) -> list[str]:
    """Put them everywhere; batches to look at."""
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": f"line:e1 {text(11)}"}]}
    ran = world.acme.submit(
        [request_line("e1", custom_id=text(10), model="llama-3.3-70b", **asked), request_line("e2", model=text(12))],
        metadata=json.dumps({text(13)[:64]: text(14)}), on_invalid_line="skip",
    ).json()["id"]  # fmt: skip
    wrong = world.acme.submit([request_line("e3", model=text(15), custom_id=text(16))]).json()["id"]
    working().result(60)
    for model, name, place in ROWS:
        rows = model._default_manager.all()
        width = model._meta.get_field(name).max_length
        rows.update(**{name: Concat(Value(text(place)[: width - 9]), Cast(F("pk"), TextField()))})
    WebhookEndpoint.objects.update(url="https://h.example/" + text(17))
    User.objects.update(email=Concat(Value(text(18)), Cast(F("pk"), TextField())))
    Invitation.objects.update(email=text(19), invited_by=text(20))
    Invoice.objects.update(stripe_url=text(21))
    ledger.post(world.acme.tenant.pk, ledger.Kind.CREDIT_GRANT, text(22)[:100], 1, text(23))
    trail.record(world.acme.tenant, text(24), text(25)[:40], text(26), name=text(27), before={text(28): text(29)})
    return [ran, wrong]


def test_texts_of_others_stay_texts(witness: Witness, working: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = gallery.world(witness, working)
    made = spoil(world, working)
    monkeypatch.setattr(lines, "answered", said)
    monkeypatch.setattr("batches.digest.showing.message", lambda line: text(30))
    client = Client()
    client.force_login(world.ada)
    batches = [f"/t/{world.acme.tenant.public_id}/batches/{batch}" for batch in made]
    parts = [each + part for each in batches for part in ("/lines", "/lines/1", "/digest")]
    shown = {address: client.get(address, follow=True).content.decode() for address in (*gallery.pages(world), *parts)}
    for address, html in shown.items():
        tags = Tags(html).found
        assert not [tag for tag, names in tags if tag == "naughty-x" or "naughty-y" in names], address
    everything = "".join(shown.values())
    assert not [place for place in PLACES if f"n{place:02}" not in everything]
    for name in ("usage.csv", "trail/csv", f"billing/invoices/{world.ids['invoice_id']}/csv"):
        answer: Any = client.get(f"/t/{world.acme.tenant.public_id}/{name}")
        data = b"".join(answer.streaming_content) if answer.streaming else answer.content
        cells = [cell for row in csv.reader(data.decode().splitlines()) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@"))], name
        assert [cell for cell in cells if cell.startswith("'=n")] or "invoices" in name
