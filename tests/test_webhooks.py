"""A tenant's webhook endpoints over HTTP: made, changed, rotated, tried out, their log read and replayed."""

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from batches import sweeping
from batches.core import webhooks
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.webhooks import endpoints, leasing, sending
from tenants import keys
from tests.conftest import Person
from tests.hooks import ENDPOINTS, deliver, deliveries, end, endpoint, pass_time, post
from tests.receiver import Handler, Receiver, verified
from tests.test_resume import at_once

pytestmark = pytest.mark.postgres_first

URL = "https://hooks.example.com/batches?of=mine"


def code(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.content
    found: str = answer.json()["error"]["code"]
    return found


def delete(person: Person, path: str) -> Any:
    return person.client.delete(ENDPOINTS + path, headers={"Authorization": f"Bearer {person.key}"})


@pytest.mark.sqlite_only
def test_an_endpoint_is_made_and_its_secret_shown_once(owner: Person) -> None:
    made = endpoint(owner, URL, name="Nightly ünïcode")
    secret = made.pop("signing_secret")
    assert secret.startswith("whsec_") and secret not in json.dumps(made)
    expected = {"object": "webhook_endpoint", "url": URL, "name": "Nightly ünïcode", "enabled": True}
    kinds = ["batch.completed", "batch.failed", "batch.cancelled", "batch.expired", "billing.spending_alert"]
    expected |= {"event_types": kinds}
    expected |= {"disabled_reason": None, "previous_secret_expires_at": None}
    assert {key: made[key] for key in expected} == expected
    assert made["created_at"] == made["updated_at"] > 1_700_000_000
    for answer in (owner.get(ENDPOINTS), owner.get(f"{ENDPOINTS}/{made['id']}")):
        assert answer.status_code == 200 and secret not in answer.content.decode()
        assert made["signing_secret_hint"] in json.dumps(answer.json(), ensure_ascii=False)
    assert owner.get("/v1/webhook_event_types").json() == {"object": "list", "data": list(webhooks.EVENTS)}


REFUSED: list[tuple[Any, str]] = [
    ({}, "invalid_url"), ({"url": None}, "invalid_url"), ({"url": 5}, "invalid_url"), ({"url": ["x"]}, "invalid_url"),
    ({"url": ""}, "invalid_url"), ({"url": "null"}, "invalid_url"), ({"url": "hooks.example.com"}, "invalid_url"),
    ({"url": "//hooks.example.com/"}, "invalid_url"), ({"url": "http://hooks.example.com/"}, "invalid_url"),
    ({"url": "ftp://hooks.example.com/"}, "invalid_url"), ({"url": "file:///etc/passwd"}, "invalid_url"),
    ({"url": "https://"}, "invalid_url"), ({"url": "https:///x"}, "invalid_url"), ({"url": "https://:443/"}, "invalid_url"),
    ({"url": "https://a:b@example.com/"}, "invalid_url"), ({"url": "https://a@example.com/"}, "invalid_url"),
    ({"url": "https://example.com:0/"}, "invalid_url"), ({"url": "https://example.com:99999/"}, "invalid_url"),
    ({"url": "https://example.com:x/"}, "invalid_url"), ({"url": "https://example.com/#x"}, "invalid_url"),
    ({"url": "https://example.com/a b"}, "invalid_url"), ({"url": "https://example.com/\r\nx: y"}, "invalid_url"),
    ({"url": "https://exa\tmple.com/"}, "invalid_url"), ({"url": "https://\x00.com/"}, "invalid_url"),
    ({"url": "https://bücher.example/"}, "invalid_url"), ({"url": "https://\ud800.com/"}, "invalid_url"),
    ({"url": "https://example.com\\@127.0.0.1/"}, "invalid_url"), ({"url": "https://[::1/"}, "invalid_url"),
    ({"url": "https://[::1]/"}, "invalid_url"), ({"url": "https://[fe80::1%25lo]/"}, "invalid_url"),
    ({"url": "https://127.0.0.1/"}, "invalid_url"), ({"url": "https://2130706433/"}, "invalid_url"),
    ({"url": "https://0x7f.1/"}, "invalid_url"), ({"url": "https://169.254.169.254/latest/"}, "invalid_url"),
    ({"url": "https://example.com/" + "x" * 2000}, "invalid_url"),
    ({"url": URL, "name": 5}, "invalid_name"), ({"url": URL, "name": None}, "invalid_name"),
    ({"url": URL, "name": "x" * 201}, "invalid_name"), ({"url": URL, "name": "\x00"}, "invalid_name"),
    ({"url": URL, "name": "\ud800"}, "invalid_name"),
    ({"url": URL, "event_types": []}, "invalid_event_types"), ({"url": URL, "event_types": None}, "invalid_event_types"),
    ({"url": URL, "event_types": "batch.failed"}, "invalid_event_types"),
    ({"url": URL, "event_types": ["response.completed"]}, "invalid_event_types"),
    ({"url": URL, "event_types": [["batch.failed"]]}, "invalid_event_types"),
    ({"url": URL, "event_types": {"batch.failed": 1}}, "invalid_event_types"),
    ({"url": URL, "secret": "whsec_mine"}, "unsupported_parameter"), ({"url": URL, "enabled": True}, "unsupported_parameter"),
    (b'{"url": "https://a.example/", "url": "https://b.example/"}', "duplicate_parameter"),
    (b"[]", "malformed_request"), (b'"x"', "malformed_request"), (b"{", "malformed_request"),
    (b"[" * 100_000, "malformed_request"), (b'{"name": ' + b"9" * 5_000 + b"}", "malformed_request"),
    (b"\xff", "malformed_request"),
]  # fmt: skip


@pytest.mark.sqlite_first
def test_what_can_not_be_taken_is_refused(owner: Person) -> None:
    for body, expected in REFUSED:
        assert code(post(owner, "", body), 400) == expected, body
    assert not WebhookEndpoint.objects.exists()
    made = endpoint(owner, URL)
    for body, expected in REFUSED:
        if body and body != {"url": URL, "enabled": True}:
            assert code(post(owner, f"/{made['id']}", body), 400) == expected, body
    wrong: list[Any] = [None, 1, 1.0, "yes", [], {}]
    for value in wrong:
        assert code(post(owner, f"/{made['id']}", {"enabled": value}), 400) == "invalid_enabled"
        rotated = post(owner, f"/{made['id']}/rotate_secret", {"keep_old_secret_active_for_24_hours": value})
        assert code(rotated, 400) == "invalid_keep_old_secret"
    for value in (None, 1, "batch", [], ["batch.failed"]):
        assert code(post(owner, f"/{made['id']}/test", {"event_type": value}), 400) == "invalid_event_types"
    for path in ("", f"/{made['id']}", f"/{made['id']}/deliveries"):
        assert code(owner.get(f"{ENDPOINTS}{path}?x=1"), 400) == "unsupported_parameter"
    assert {**owner.get(f"{ENDPOINTS}/{made['id']}").json(), "signing_secret": made["signing_secret"]} == made


def test_others_see_nothing_of_it(owner: Person, outsider: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    end(owner)
    (delivery,) = deliveries(owner, made)
    for path, name in ((f"/{made['id']}", "webhook_not_found"), ("/we_unknown", "webhook_not_found")):
        for call in (
            outsider.get(ENDPOINTS + path), post(outsider, path, {"enabled": False}), delete(outsider, path),
            post(outsider, f"{path}/rotate_secret"), post(outsider, f"{path}/test", {"event_type": "batch.failed"}),
            outsider.get(f"{ENDPOINTS}{path}/deliveries"), post(outsider, f"{path}/deliveries/{delivery['id']}/replay"),
            outsider.get(f"{ENDPOINTS}?after={made['id']}"),
        ):  # fmt: skip
            assert code(call, 404) == name
    assert outsider.get(ENDPOINTS).json()["data"] == []
    other = endpoint(outsider, receiver.url)
    path = f"/{other['id']}/deliveries/{delivery['id']}/replay"
    assert code(post(outsider, path), 404) == "delivery_not_found"
    assert code(owner.get(f"{ENDPOINTS}/{made['id']}/deliveries?after=%00"), 404) == "delivery_not_found"
    assert WebhookEndpoint.objects.get(public_id=made["id"]).secret.open() == made["signing_secret"]
    reader = owner._replace(key=keys.create(owner.tenant, scopes=("batch:read",))[1])
    assert reader.get(f"{ENDPOINTS}/{made['id']}/deliveries").status_code == 200
    assert (
        code(post(reader, "", {"url": URL}), 403) == code(delete(reader, f"/{made['id']}"), 403) == "insufficient_scope"
    )


def test_at_most_ten_even_in_a_race(owner: Person) -> None:
    answers = at_once(12, lambda number: post(owner, "", {"url": URL}).status_code)
    assert sorted(answers) == [200] * 10 + [400] * 2
    assert code(post(owner, "", {"url": URL}), 400) == "too_many_webhooks"
    first = owner.get(f"{ENDPOINTS}?limit=7").json()
    rest = owner.get(f"{ENDPOINTS}?limit=7&after={first['last_id']}").json()
    assert (len(first["data"]), first["has_more"], len(rest["data"]), rest["has_more"]) == (7, True, 3, False)
    assert len({each["id"] for each in first["data"] + rest["data"]}) == 10
    assert delete(owner, f"/{first['first_id']}").json() == {
        "id": first["first_id"], "object": "webhook_endpoint.deleted", "deleted": True,
    }  # fmt: skip
    assert code(delete(owner, f"/{first['first_id']}"), 404) == "webhook_not_found"
    assert post(owner, "", {"url": URL}).status_code == 200


def test_what_is_named_is_changed_and_the_rest_stays(owner: Person) -> None:
    made = endpoint(owner, URL, name="one", event_types=["batch.failed"])
    WebhookEndpoint.objects.update(updated_at=timezone.now() - timedelta(hours=1))
    shown = post(owner, f"/{made['id']}", {}).json()
    assert shown["updated_at"] < made["updated_at"], "nothing was changed"
    shown = post(owner, f"/{made['id']}", {"event_types": ["batch.expired", "batch.completed"]}).json()
    assert shown["event_types"] == ["batch.completed", "batch.expired"] and shown["updated_at"] >= made["updated_at"]
    shown = post(owner, f"/{made['id']}", {"url": URL + "2", "enabled": False}).json()
    assert (shown["url"], shown["name"], shown["enabled"]) == (URL + "2", "one", False)


# --- secrets ----------------------------------------------------------------------------------------------------------


def rotate(owner: Person, made: dict[str, Any], keep: bool) -> Any:
    return post(owner, f"/{made['id']}/rotate_secret", {"keep_old_secret_active_for_24_hours": keep})


def sent(owner: Person, receiver: Receiver) -> Any:
    end(owner)
    deliver()
    return receiver.received[-1]


@pytest.mark.sqlite_first
def test_two_secrets_are_live_for_a_day(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    rotated = rotate(owner, made, keep=True).json()
    first, second = made["signing_secret"], rotated["signing_secret"]
    assert first != second and rotated["previous_secret_expires_at"] - rotated["updated_at"] == 24 * 3600
    both = sent(owner, receiver)
    assert verified(both, first) and verified(both, second)
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    assert code(rotate(owner, made, keep=True), 409) == "secret_rotating"
    assert "signing_secret" not in owner.get(f"{ENDPOINTS}/{made['id']}").json()
    WebhookEndpoint.objects.update(previous_until=timezone.now())
    one = sent(owner, receiver)
    sweeping.sweep()
    assert owner.get(f"{ENDPOINTS}/{made['id']}").json()["previous_secret_expires_at"] is None
    assert WebhookEndpoint.objects.get().previous_secret.open() == ""
    assert verified(one, second) and not verified(one, first)
    assert rotate(owner, made, keep=True).status_code == 200


def test_without_keeping_one_only_the_new_secret_is_live(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    rotate(owner, made, keep=True)
    third = post(owner, f"/{made['id']}/rotate_secret", b"").json()["signing_secret"]
    only = sent(owner, receiver)
    assert verified(only, third) and " " not in only.headers["webhook-signature"]


def test_of_rotations_at_once_one_keeps_the_old_secret(owner: Person, receiver: Receiver) -> None:
    """Else the secret that the receiver has would sign nothing any more."""
    made = endpoint(owner, receiver.url)
    answers = at_once(3, lambda number: rotate(owner, made, keep=True))
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    received = sent(owner, receiver)
    assert verified(received, made["signing_secret"]) and verified(received, won["signing_secret"])


# --- the log, replays, tests ------------------------------------------------------------------------------------------


def test_the_log_is_paged_newest_first(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    batches = [end(owner).public_id for _ in range(5)]
    deliver()
    seen, after = [], ""
    while True:
        page = owner.get(f"{ENDPOINTS}/{made['id']}/deliveries?limit=2{after}").json()
        seen += [each["data"]["id"] for each in page["data"]]
        after = f"&after={page['last_id']}"
        if not page["has_more"]:
            break
    assert seen == batches[::-1]


@pytest.mark.sqlite_first
def test_a_replay_has_the_same_id(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    end(owner)
    deliver()
    (logged,) = deliveries(owner, made)
    path = f"/{made['id']}/deliveries/{logged['id']}/replay"
    answer = post(owner, path).json()
    assert (answer["id"], answer["status"], answer["attempts"]) == (logged["id"], "pending", 0)
    deliver()
    first, second = receiver.received
    assert first.body == second.body and first.headers["webhook-id"] == second.headers["webhook-id"] == logged["id"]
    assert post(owner, path).status_code == 200
    assert leasing.claim("somebody", ())
    assert code(post(owner, path), 409) == "delivery_in_progress"
    assert WebhookDelivery.objects.get().attempts == 1
    pass_time()
    assert post(owner, path).status_code == 200


@pytest.mark.sqlite_only
def test_an_endpoint_is_tried_out(owner: Person, receiver: Receiver) -> None:
    made = endpoint(owner, receiver.url)
    receiver.answers = [200, 500, 302]
    for status in (200, 500, 302):
        answer = post(owner, f"/{made['id']}/test", {"event_type": "batch.expired"})
        expected = {"object": "webhook_endpoint.test", "webhook_endpoint_id": made["id"], "event_type": "batch.expired"}
        assert answer.json() == expected | {"status_code": status, "success": True}
    assert all(verified(each, made["signing_secret"]) for each in receiver.received)
    assert {each.event["type"] for each in receiver.received} == {"batch.expired"}
    assert not deliveries(owner, made)
    post(owner, f"/{made['id']}", {"url": "http://127.0.0.1:1/"})
    answer = post(owner, f"/{made['id']}/test", {"event_type": "batch.expired"})
    assert code(answer, 400) == "webhook_test_failed" and "connection_failed" in answer.json()["error"]["message"]


@pytest.mark.sqlite_only
def test_tests_at_once_are_bounded(
    owner: Person,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = endpoint(owner, receiver.url)
    monkeypatch.setattr(sending, "TOTAL", 5)

    def asks_again(handler: Handler) -> None:
        """While the last place is taken."""
        answer = post(owner, f"/{made['id']}/test", {"event_type": "batch.failed"})
        connection.close()  # of this thread
        assert code(answer, 503) == "too_many_transfers"
        handler.send_response(201)
        handler.end_headers()

    receiver.answers = [asks_again]
    for _ in range(endpoints.TESTS - 1):
        endpoints._tests.acquire()
    try:
        assert post(owner, f"/{made['id']}/test", {"event_type": "batch.failed"}).json()["status_code"] == 201
    finally:
        endpoints._tests.release(endpoints.TESTS - 1)


# --- sent again -------------------------------------------------------------------------------------------------------


def test_what_is_sent_again_is_done_once(owner: Person) -> None:
    again = {"Idempotency-Key": "of mine"}
    made = [post(owner, "", {"url": URL}, **again).json() for _ in range(2)]
    assert made[0] == made[1] and WebhookEndpoint.objects.count() == 1
    assert code(post(owner, "", {"url": URL + "&more"}, **again), 422) == "idempotency_key_reused"
    path = f"/{made[0]['id']}"
    rotated = [post(owner, f"{path}/rotate_secret", {}, **{"Idempotency-Key": "b"}).json() for _ in range(2)]
    assert rotated[0] == rotated[1] and rotated[0]["signing_secret"] != made[0]["signing_secret"]
    renamed = [post(owner, path, {"name": "x"}, **{"Idempotency-Key": "c"}).json() for _ in range(2)]
    assert renamed[0] == renamed[1]
    retried = post(owner, "", {"url": URL + "2"}).json()
    assert post(owner, "", {"url": URL + "2"}, **{"x-stainless-retry-count": "1"}).json() == retried
    assert WebhookEndpoint.objects.count() == 2
