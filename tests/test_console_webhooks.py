"""The console's webhooks: what was sent, sent again; endpoints disabled and enabled, with a reason the tenant reads."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches.console.webhooks import ERRORS
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.webhooks import endpoints
from tenants import clock
from tenants.models import AuditEvent, Tenant
from tests.conftest import Person
from tests.hostile import naughty_strings
from tests.rows import url
from tests.service import ROOT
from tests.staff import confirmed, member_of, signed_in
from tests.test_admin import MOST_QUERIES
from tests.test_web import make_batches

pytestmark = pytest.mark.postgres_first

SECRET, PATH = "whsec_in-force", "/T0/secret-path"
ENDPOINTS, DELIVERIES = "/admin/batches/webhookendpoint/", "/admin/batches/webhookdelivery/"
FAILED, DELIVERED = WebhookDelivery.State.FAILED, WebhookDelivery.State.DELIVERED


@pytest.fixture
def support(transactional_db: None) -> Client:
    return signed_in(member_of("support", email="support@example.com"))


def endpoint(tenant: Tenant, **fields: Any) -> WebhookEndpoint:
    now = clock.now()
    columns = {"url": f"https://example.com{PATH}", "event_types": "batch.failed", "secret": SECRET} | fields
    return WebhookEndpoint.objects.create(
        tenant=tenant, created_at=now, updated_at=now, previous_secret=SECRET, **columns
    )


def delivery(to: WebhookEndpoint, event: str = "evt_1", **fields: Any) -> WebhookDelivery:
    columns = {"event_type": "batch.failed", "subject": "batch_x", "state": FAILED, "attempts": 8} | fields
    return WebhookDelivery.objects.create(
        tenant=to.tenant, endpoint=to, event_id=event, created_at=clock.now(), last_error="timeout", **columns
    )


def told() -> list[tuple[Any, ...]]:
    return list(AuditEvent.objects.order_by("pk").values_list("tenant__name", "actor", "action", "target", "details"))


def text(html: Any) -> str:
    return re.sub(r"(<[^>]*>|\s)+", " ", html if isinstance(html, str) else html.content.decode())


def test_deliveries_are_sent_again(support: Client, owner: Person, outsider: Person) -> None:
    ours, theirs = endpoint(owner.tenant), endpoint(outsider.tenant)
    off = endpoint(owner.tenant, disabled_reason="gone")
    sent, also = delivery(ours), delivery(theirs, state=DELIVERED)
    disabled = delivery(off, "evt_2")
    busy = delivery(ours, "evt_3", state="pending", lease_token="t", next_at=clock.now() + timedelta(seconds=30))
    data = {"action": "send_again", "_selected_action": [row.pk for row in (sent, also, disabled, busy)]}
    asked = text(support.post(DELIVERIES, data))
    assert "posted to its endpoint once more" in asked and "evt_2 to" in asked and "Its endpoint is disabled." in asked
    html = text(
        confirmed(support, DELIVERIES, "send_again", sent, also, disabled, busy, reason="their server was down")
    )
    assert "Send again: done to 2 webhook deliveries" in html and "is being sent now" in html and "is disabled" in html
    for row in (sent, also):
        row.refresh_from_db()
        assert (row.state, row.attempts) == ("pending", 0) and row.next_at
    assert WebhookDelivery.objects.get(pk=busy.pk).lease_token == "t"
    why = {"reason": "their server was down"}
    assert sorted(told()) == [
        ("outsider", "support@example.com", "delivery.replayed", "evt_1", {"endpoint": theirs.public_id} | why),
        ("owner", "support@example.com", "delivery.replayed", "evt_1", {"endpoint": ours.public_id} | why),
    ]


@pytest.mark.sqlite_first
def test_an_endpoint_is_disabled_and_enabled(support: Client, owner: Person) -> None:
    row = endpoint(owner.tenant)
    assert "Disable: done to 1 webhook endpoint" in confirmed(support, ENDPOINTS, "disable", row, reason="it loops")
    assert owner.get(f"/v1/webhook_endpoints/{row.public_id}").json()["enabled"] is False
    row.refresh_from_db()
    assert row.disabled_reason == "by_tenant"
    assert "It is so already" in confirmed(support, ENDPOINTS, "disable", row)
    confirmed(support, ENDPOINTS, "enable", row, reason="repaired")
    row.refresh_from_db()
    assert (row.disabled_reason, row.secret.open(), row.url) == ("", SECRET, f"https://example.com{PATH}")
    notes = [(who, actor, action, details) for who, actor, action, _, details in told()]
    change = {"before": {"enabled": True}, "after": {"enabled": False}, "reason": "it loops"}
    assert notes[0] == ("owner", "support@example.com", "webhook.changed", change)
    assert len(notes) == 2 and notes[1][3]["after"] == {"enabled": True}
    assert not endpoints.update(WebhookEndpoint(pk=0), "a", {"disabled_reason": ""})


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("group", "sends", "switches"),
    [("support", True, True), ("operations", True, False), ("billing", False, False)],
)
def test_each_needs_its_permission(owner: Person, group: str, sends: bool, switches: bool) -> None:
    client = signed_in(member_of(group))
    row = endpoint(owner.tenant)
    sent = delivery(row)
    for page, verb, may in (
        (url(WebhookDelivery, "change", sent.pk), "Send again…", sends),
        (url(WebhookEndpoint, "change", row.pk), "Disable…", switches),
    ):
        assert (verb in client.get(page).content.decode()) is may
    confirmed(client, DELIVERIES, "send_again", sent)
    confirmed(client, ENDPOINTS, "disable", row)
    sent.refresh_from_db()
    row.refresh_from_db()
    assert (sent.state == "pending", bool(row.disabled_reason)) == (sends, switches)
    assert len(told()) == sends + switches


@pytest.mark.sqlite_first
def test_no_page_shows_a_secret_or_a_path(support: Client, owner: Person) -> None:
    row = endpoint(owner.tenant)
    sent = delivery(row)
    for page in (
        ENDPOINTS, DELIVERIES, url(WebhookEndpoint, "change", row.pk), url(WebhookDelivery, "change", sent.pk),
    ):  # fmt: skip
        with CaptureQueriesContext(connection) as captured:
            html = support.get(page).content.decode()
        assert SECRET not in html and PATH not in html and row.public_id in html
        assert len(captured) <= MOST_QUERIES and not [each for each in captured if '"secret"' in each["sql"]]
    for lookup in ("url__startswith", "secret__startswith"):
        assert support.get(ENDPOINTS, {lookup: "h"}).status_code == 400
        assert support.get(DELIVERIES, {f"endpoint__{lookup}": "h"}).status_code == 400


@pytest.mark.sqlite_first
def test_lists_are_searched_by_whole_ids_and_filtered(support: Client, owner: Person, outsider: Person) -> None:
    [batch] = make_batches(owner.tenant)
    ours, theirs = endpoint(owner.tenant), endpoint(outsider.tenant, disabled_reason="gone")
    for number in range(20):
        delivery(ours, f"evt_{number}", subject=batch.public_id)
    delivery(theirs, "evt_a", subject=batch.public_id, event_type="billing.spending_alert", state=DELIVERED)

    def count(address: str, **query: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            answer = support.get(address, query)
        assert answer.status_code == 200 and len(captured) <= MOST_QUERIES
        return int(answer.context["cl"].result_count)

    for term, found in (
        ("evt_1", 1), ("evt_", 0), (ours.public_id, 20), (batch.public_id, 21), (batch.public_id[:-1], 0), ("outsider", 1),
        ("nobody", 0), ("evt_\x00", 21), ("", 21),
    ):  # fmt: skip
        assert count(DELIVERIES, q=term) == found, term
    for term, found in ((ours.public_id, 1), (ours.public_id[:-1], 0), ("owner", 1), ("we_\x00", 2)):
        assert count(ENDPOINTS, q=term) == found, term
    assert count(DELIVERIES, state__exact="delivered") == count(DELIVERIES, event="billing.spending_alert") == 1
    assert count(DELIVERIES, error="timeout") == 21 and count(DELIVERIES, error="redirect") == 0
    assert count(DELIVERIES, error="' OR 1") == 21
    assert count(ENDPOINTS, disabled_reason__exact="gone") == 1


@pytest.mark.sqlite_only
def test_naughty_words_find_nothing(support: Client, owner: Person) -> None:
    delivery(endpoint(owner.tenant, name="<script>alert(1)</script>"))
    for word in list(dict.fromkeys(naughty_strings()))[::40]:
        for address, query in ((ENDPOINTS, {"q": word}), (DELIVERIES, {"q": word, "error": word})):
            answer = support.get(address, query)
            assert answer.status_code == 200 and "<script>alert" not in answer.content.decode()
    page = url(WebhookEndpoint, "change", WebhookEndpoint.objects.get().pk)
    assert "<script>alert" not in support.get(page).content.decode()


@pytest.mark.sqlite_only
def test_the_filter_has_every_error_that_there_is() -> None:
    page = (ROOT / "docs/webhooks.md").read_text().partition("| `error` | Meaning |")[2].partition("\n\n")[0]
    named = {code for line in page.splitlines() for code in re.findall("`([a-z_]+)`", line.split(" | ")[0])}
    assert named == set(ERRORS)
