"""Webhooks on the pages: endpoints, their secrets, samples, the log; and what the trail says of each, also by the API."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches.core import webhooks
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.web.looks import DELIVERY_ERRORS
from batches.web.webhooks import EVENTS
from batches.webhooks import endpoints
from tenants.models import AuditEvent, Membership
from tests.conftest import Person
from tests.hooks import ENDPOINTS, deliver, end, endpoint, post
from tests.receiver import Receiver, verified
from tests.test_docs import first_cells, section, text
from tests.test_resume import at_once
from tests.test_web import NAUGHTY, member, shown

pytestmark = pytest.mark.sqlite_only  # the rules are the API's, tested on both

URL = "https://hooks.example.com/batches?token=abc"
ALL = list(webhooks.EVENTS)


def page(person: Person, path: str = "") -> str:
    return f"/t/{person.tenant.public_id}/webhooks{path}"


def form(**fields: Any) -> dict[str, Any]:
    return {"url": URL, "name": "pipeline", "events": ALL, "once": str(uuid4())} | fields


def secret(answer: Any) -> str:
    """The secret that an answer shows."""
    assert answer.status_code == 200, answer.content
    assert "no-store" in answer["Cache-Control"]
    found: str
    [found] = set(re.findall(r"whsec_[\w+/]{43}=", answer.content.decode()))
    return found


def made(person: Person, client: Client, **fields: Any) -> tuple[str, str]:
    """The id of a new endpoint, and its secret."""
    text = secret(client.post(page(person, "/new"), form(**fields)))
    return WebhookEndpoint.objects.latest("pk").public_id, text


def events() -> list[tuple[str, str, str, Any]]:
    return list(AuditEvent.objects.order_by("pk").values_list("actor", "action", "target", "details"))


def test_every_event_and_every_error_has_words() -> None:
    assert list(EVENTS) == ALL
    documented = first_cells(section(text("docs/webhooks.md"), "## The log and replays"))
    assert documented >= set(DELIVERY_ERRORS)


def test_an_endpoint_is_made_once_and_its_secret_shown_once(owner: Person) -> None:
    client, sent = member(owner.tenant, role="member"), form(name=NAUGHTY)
    assert "Be told when" in shown(client, page(owner))
    key = secret(client.post(page(owner, "/new"), sent))
    row = WebhookEndpoint.objects.get()
    assert (row.secret.open(), row.url, row.name, row.event_types.split()) == (key, URL, NAUGHTY, ALL)
    again = client.post(page(owner, "/new"), sent, follow=True)
    assert "when it was sent first" in again.content.decode() and key not in again.content.decode()
    other = client.post(page(owner, "/new"), sent | {"url": "https://other.example.com/"}, follow=True)
    assert "when it was sent first" in other.content.decode()
    assert WebhookEndpoint.objects.count() == 1
    for path in ("", f"/{row.public_id}", f"/{row.public_id}/deliveries", f"/{row.public_id}/rotate"):
        html = shown(client, page(owner, path))
        assert key not in html and "&lt;script&gt;" in html
    [(actor, action, target, details)] = events()
    assert (actor, action, target) == ("member@example.com", "webhook.created", row.public_id)
    assert details == {"url": "https://hooks.example.com/…", "name": NAUGHTY, "event_types": ALL, "enabled": True}


def test_a_form_that_is_sent_twice_at_once_makes_one(owner: Person) -> None:
    sent, clients = form(), [member(owner.tenant, role="member"), Client()]
    clients[1].cookies = clients[0].cookies
    answers = at_once(2, lambda number: clients[number].post(page(owner, "/new"), sent).status_code)
    assert 200 in answers and WebhookEndpoint.objects.count() == 1 and len(events()) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"url": ""}, "must begin with https"),
        ({"url": "http://hooks.example.com/"}, "https:// is needed"),
        ({"url": "https://127.0.0.1/"}, "not on the public internet"),
        ({"url": "https://a:b@example.com/"}, "leave out user name"),
        ({"url": "https://x/" + "y" * 2_000}, "more than 2000 characters"),
        ({"url": "https://x/\x00"}, "printable ASCII"),
        ({"name": "x" * 201}, "at most 200 printable"),
        ({"name": "\x00"}, "at most 200 printable"),
        ({"events": []}, "Choose one at least"),
        ({"events": ["batch.completed", "batch.eaten"]}, "Choose one at least"),
    ],
)
def test_what_was_typed_stays_beside_what_is_wrong(owner: Person, fields: dict[str, Any], says: str) -> None:
    client = member(owner.tenant, role="member")
    refused = client.post(page(owner, "/new"), form(**fields))
    assert refused.status_code == 400 and says in refused.content.decode()
    assert "name" in fields or 'value="pipeline"' in refused.content.decode()
    kept, _ = made(owner, client)
    before = WebhookEndpoint.objects.values()[0]
    refused = client.post(page(owner, f"/{kept}"), form(**fields))
    assert refused.status_code == 400 and says in refused.content.decode()
    assert WebhookEndpoint.objects.values()[0] == before and len(events()) == 1


def test_readers_see_them_and_can_do_nothing(owner: Person) -> None:
    writer = member(owner.tenant, role="member")
    found, key = made(owner, writer)
    writer.logout()
    Membership.objects.update(role="reader")
    writer.force_login(Membership.objects.get().user)
    before = WebhookEndpoint.objects.values()[0]
    [batch] = [end(owner)]
    event = WebhookDelivery.objects.get().event_id
    for path in ("", f"/{found}", f"/{found}/deliveries"):
        html = shown(writer, page(owner, path))
        assert "pipeline" in html and key not in html and "token=abc" not in html
        assert "<form" not in html.partition("<main")[2]
    assert batch.public_id in html
    posts = ("/new", f"/{found}", f"/{found}/enabled", f"/{found}/rotate", f"/{found}/test", f"/{found}/delete")
    for path in (*posts, f"/{found}/deliveries/{event}/replay"):
        answer = writer.post(page(owner, path), form(overlap="false", enabled="false"))
        assert answer.status_code == 403, path
    assert WebhookEndpoint.objects.values()[0] == before and len(events()) == 1


def test_foreign_ones_are_unknown(owner: Person, outsider: Person) -> None:
    theirs = endpoint(outsider, URL)["id"]
    end(outsider)
    event = WebhookDelivery.objects.get().event_id
    client = member(owner.tenant, role="owner")
    mine, _ = made(owner, client)
    for found in (theirs, "we_unknown", "%00", "é" * 300):
        for path in ("", "/deliveries", "/rotate"):
            assert client.get(page(owner, f"/{found}{path}")).status_code == 404
        for path in ("", "/enabled", "/rotate", "/test", "/delete", f"/deliveries/{event}/replay"):
            assert client.post(page(owner, f"/{found}{path}"), form()).status_code == 404
    assert client.post(page(owner, f"/{mine}/deliveries/{event}/replay")).status_code == 404
    assert client.get(page(owner, f"/{mine}/deliveries?after={event}")).status_code == 404
    assert WebhookEndpoint.objects.filter(public_id=theirs, disabled_reason="").exists()


def test_changes_by_people_and_by_keys_are_on_the_trail(owner: Person) -> None:
    client = member(owner.tenant, role="member")
    found, first = made(owner, client)
    changed = client.post(page(owner, f"/{found}"), form(url=f"{URL}2", name="", events=["batch.failed"]))
    assert changed.status_code == 302
    client.post(page(owner, f"/{found}"), form(url=f"{URL}2", name="", events=["batch.failed"]))  # changes nothing
    for value in ("false", "true"):
        assert client.post(page(owner, f"/{found}/enabled"), {"enabled": value}).status_code == 302
    second = secret(client.post(page(owner, f"/{found}/rotate"), {"overlap": "true"}))
    row = WebhookEndpoint.objects.get()
    assert (row.secret.open(), row.previous_secret.open()) == (second, first)
    refused = client.post(page(owner, f"/{found}/rotate"), {"overlap": "true"})
    assert refused.status_code == 409 and "still live" in refused.content.decode()
    assert "a third is never kept" in shown(client, page(owner, f"/{found}/rotate"))
    secret(client.post(page(owner, f"/{found}/rotate"), {"overlap": "false"}))
    assert client.post(page(owner, f"/{found}/rotate"), {"overlap": "?"}).status_code == 400
    assert client.post(page(owner, f"/{found}/delete")).status_code == 302
    by_people = events()
    by_api = endpoint(owner, URL)["id"]
    assert post(owner, f"/{by_api}", {"enabled": False}).status_code == 200
    assert post(owner, f"/{by_api}/rotate_secret").status_code == 200
    headers = {"Authorization": f"Bearer {owner.key}"}
    assert owner.client.delete(f"{ENDPOINTS}/{by_api}", headers=headers).status_code == 200
    by_keys = events()[len(by_people) :]
    assert {actor for actor, *_ in by_people} == {"member@example.com"}
    assert {actor for actor, *_ in by_keys} == {owner.key[:16]} and {target for _, _, target, _ in by_keys} == {by_api}
    assert [action for _, action, *_ in by_keys] == [
        "webhook.created", "webhook.changed", "webhook.secret_rotated", "webhook.deleted",
    ]  # fmt: skip
    assert [action for _, action, *_ in by_people] == [
        "webhook.created", "webhook.changed", "webhook.changed", "webhook.changed", "webhook.secret_rotated",
        "webhook.secret_rotated", "webhook.deleted",
    ]  # fmt: skip
    assert by_people[1][3] == {
        "before": {"url": "https://hooks.example.com/…", "name": "pipeline", "event_types": ALL},
        "after": {"url": "https://hooks.example.com/… (another path)", "name": "", "event_types": ["batch.failed"]},
    }
    assert by_people[2][3] == {"before": {"enabled": True}, "after": {"enabled": False}}
    assert not [each for each in events() if "whsec" in str(each) or "token" in str(each)]


def test_a_sample_says_what_came_of_it(owner: Person, receiver: Receiver) -> None:
    client = member(owner.tenant, role="member")
    found, key = made(owner, client, url=receiver.url)

    def tried(kind: str = "batch.completed") -> str:
        answer = client.post(page(owner, f"/{found}/test"), {"event_type": kind}, follow=True)
        return str(answer.content.decode())

    assert "Sample of batch.completed: Your server answered 200." in tried()
    assert "Sample of billing.spending_alert: Your server" in tried(webhooks.SPENDING)
    assert verified(receiver.received[0], key) and verified(receiver.received[1], key)
    receiver.answers = [500]
    assert "Your server answered 500. That is no success" in tried()
    WebhookEndpoint.objects.update(url="https://127.0.0.1:1/")
    assert "refused, or broke" in tried()
    assert client.post(page(owner, f"/{found}/test"), {"event_type": "x"}).status_code == 400
    assert not WebhookDelivery.objects.exists() and len(events()) == 1


def test_the_log_tells_and_sends_again(owner: Person, receiver: Receiver) -> None:
    client = member(owner.tenant, role="member")
    found, key = made(owner, client, url=receiver.url)
    log = page(owner, f"/{found}/deliveries")
    assert "Nothing was sent yet" in shown(client, log)
    batch = end(owner)
    html = shown(client, log)
    assert ">Waits<" in html and "none yet" in html and batch.public_id in html
    receiver.answers = [503]
    deliver()
    html = shown(client, log)
    assert ">Trying again<" in html and "Your server answered 503. That is no success" in html and "1 attempt<" in html
    event = WebhookDelivery.objects.get().event_id
    assert "is sent again" in client.post(f"{log}/{event}/replay", follow=True).content.decode()
    deliver()
    assert ">Delivered<" in shown(client, log) and "Your server answered 200." in shown(client, page(owner))
    assert [each.event["id"] for each in receiver.received] == [event, event] and verified(receiver.received[1], key)
    assert events()[-1] == ("member@example.com", "delivery.replayed", event, {"endpoint": found})
    soon = timezone.now() + timedelta(minutes=1)
    WebhookDelivery.objects.update(state="pending", lease_token="x", next_at=soon)
    assert ">Sending<" in shown(client, log) and "Send again" not in shown(client, log)
    assert "is being sent now" in client.post(f"{log}/{event}/replay", follow=True).content.decode()
    client.post(page(owner, f"/{found}/enabled"), {"enabled": "false"})
    count = len(events())
    assert "is disabled" in client.post(f"{log}/{event}/replay", follow=True).content.decode()
    assert len(events()) == count


def test_an_endpoint_that_is_gone_says_so(owner: Person, receiver: Receiver) -> None:
    client = member(owner.tenant, role="member")
    found, _ = made(owner, client, url=receiver.url)
    receiver.answers = [410]
    end(owner)
    deliver()
    assert ">Gone<" in shown(client, page(owner)) and "answered 410, gone" in shown(client, page(owner, f"/{found}"))
    client.post(page(owner, f"/{found}/enabled"), {"enabled": "true"})
    assert ">Enabled<" in shown(client, page(owner))


def test_many_of_them_cost_no_more_queries(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    client = member(owner.tenant, role="member")
    found = [made(owner, client)[0]]
    end(owner)
    counts = []
    for _ in range(2):
        for path in ("", f"/{found[0]}/deliveries"):
            shown(client, page(owner, path))
            with CaptureQueriesContext(connection) as captured:
                html = shown(client, page(owner, path))
            counts.append(len(captured))
        found += [endpoint(owner, f"{URL}&n={n}")["id"] for n in range(endpoints.MAX_ENDPOINTS - len(found))]
        for _ in range(60 - WebhookDelivery.objects.filter(endpoint__public_id=found[0]).count()):
            end(owner)
    assert counts[:2] == counts[2:] and max(counts) <= 6
    sent = list(
        WebhookDelivery.objects.filter(endpoint__public_id=found[0]).order_by("-pk").values_list("event_id", flat=True)
    )
    assert len(sent) == 60 and [event for event in sent if f">{event}<" in html] == sent[:50]
    html = shown(client, page(owner, f"/{found[0]}/deliveries?after={sent[49]}"))
    assert [event for event in sent if f">{event}<" in html] == sent[50:]
    assert "New endpoint" not in shown(client, page(owner)) and "at most 10 endpoints" in shown(client, page(owner))
    answer = client.post(page(owner, "/new"), form())
    assert answer.status_code == 400 and "at most 10 webhook endpoints" in answer.content.decode()
