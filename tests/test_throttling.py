"""The rate of requests of a key: headers on every answer, 429 beyond it, and no body read before that."""

import threading
import time
from collections import Counter
from contextlib import nullcontext
from typing import Any

import httpx
import pytest

from tenants import buckets, keys, throttling
from tenants.models import ApiKey, Tenant
from tests.conftest import Person
from tests.test_api import error
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

NAMES = ("limit", "remaining", "reset")


def rate(answer: Any) -> list[str]:
    return [answer.headers[f"x-ratelimit-{name}-requests"] for name in NAMES]


def spend(owner: Person, requests: int) -> None:
    """Give the tenant so many requests a minute, and use them up."""
    Tenant.objects.update(requests_per_minute=requests)
    assert {owner.get("/v1/batch").status_code for _ in range(requests)} == {200}


def test_every_answer_to_a_key_says_what_is_left(owner: Person, witness: Witness, work: Any) -> None:
    assert rate(owner.get("/v1/batch"))[:2] == ["1200", "1199"]
    batch = owner.submit([request_line("1", custom_id="one")])
    work()
    etag = {"If-None-Match": owner.get(f"/v1/batch/{batch.json()['id']}/output")["ETag"]}
    for answer in (
        batch,
        owner.get(f"/v1/batch/{batch.json()['id']}/output"),
        owner.get(f"/v1/batch/{batch.json()['id']}/output", **etag),
        owner.get("/v1/batch/batch_unknown"),
        owner.get("/v1/batch?limit=0"),
        owner.client.put("/v1/batch", headers={"Authorization": f"Bearer {owner.key}"}),
        owner.client.head("/v1/models", headers={"Authorization": f"Bearer {owner.key}"}),
    ):
        limit, remaining, reset = rate(answer)
        assert limit == "1200" and int(remaining) < 1200 and reset.endswith("s")
    Tenant.objects.update(suspended=True)
    suspended = owner.get("/v1/batch")
    assert error(suspended, 403) == "tenant_suspended" and rate(suspended)


def test_beyond_its_rate_a_key_is_told_when_to_come_back(owner: Person, witness: Witness) -> None:
    spend(owner, 2)
    ApiKey.objects.update(last_used_at=None)
    for _ in range(3):
        answer = owner.get("/v1/batch")
        assert error(answer, 429) == "rate_limit_exceeded"
        limit, remaining, reset = rate(answer)
        assert (limit, remaining) == ("2", "0")
        seconds = float(reset.removesuffix("s"))
        assert 30 < seconds <= 60, "it takes more than half a minute to fill one that has no room for one of two"
        assert 0 <= int(answer["Retry-After"]) - (seconds - 30) < 1
    assert ApiKey.objects.get().last_used_at is None
    Tenant.objects.update(requests_per_minute=1_000_000)
    assert owner.get("/v1/batch").status_code == 200


def test_keys_are_counted_apart(owner: Person, outsider: Person) -> None:
    spend(owner, 1)
    assert owner.get("/v1/batch").status_code == 429
    second = owner._replace(key=keys.create(owner.tenant)[1])
    assert rate(second.get("/v1/batch"))[:2] == ["1", "0"]
    assert outsider.get("/v1/batch").status_code == 200


def test_who_is_not_recognised_is_not_counted(owner: Person, django_assert_num_queries: Any) -> None:
    spend(owner, 1)
    assert owner.get("/v1/batch").status_code == 429
    for bad in ("", owner.key[:-1] + "!", keys.generate()):
        answer = owner.client.get("/v1/batch", headers={"Authorization": f"Bearer {bad}"})
        assert error(answer, 401) == "invalid_api_key"
        assert "x-ratelimit-limit-requests" not in answer.headers
    with django_assert_num_queries(1):
        assert owner.get("/v1/batch").status_code == 429
    ApiKey.objects.update(revoked_at="2026-01-01T00:00:00Z")
    assert owner.get("/v1/batch").status_code == 401


class Unreadable:
    def read(self, *_: Any) -> bytes:
        raise AssertionError("the body was read")

    readline = read


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/batch/batch_x/resume"])
def test_a_body_is_not_read_before(owner: Person, path: str) -> None:
    spend(owner, 1)
    body: dict[str, Any] = {"CONTENT_LENGTH": "1000", "wsgi.input": Unreadable()}
    answer = owner.client.generic(
        "POST", path, content_type="multipart/form-data; boundary=x", headers={"Authorization": f"Bearer {owner.key}"},
        **body,
    )  # fmt: skip
    assert error(answer, 429) == "rate_limit_exceeded"


def test_a_large_upload_is_refused_cleanly(owner: Person, http: httpx.Client) -> None:
    Tenant.objects.update(requests_per_minute=1)
    headers = {"Authorization": f"Bearer {owner.key}"}
    assert http.get("/v1/batch", headers=headers).status_code == 200
    answer = http.post("/v1/batch", headers=headers, files={"file": ("a.jsonl", b"x" * 20_000_000)}, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert int(answer.headers["Retry-After"]) >= 1


# --- racing -----------------------------------------------------------------------------------------------------------


def race(throttle: throttling.Throttle, monkeypatch: pytest.MonkeyPatch, racers: int = 30) -> int:
    """How many of so many requests at once are allowed at ten a minute, where each takes a moment to count."""
    take = buckets.take

    def slow(*arguments: int) -> Any:
        time.sleep(0.01)
        return take(*arguments)

    monkeypatch.setattr(buckets, "take", slow)
    gate = threading.Barrier(racers)

    def request(_: int) -> bool:
        gate.wait()
        return throttle.take(1, 10).allowed

    with ThreadPoolExecutor(racers) as pool:
        return Counter(pool.map(request, range(racers)))[True]


@pytest.mark.sqlite_only
def test_racing_requests_are_counted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert race(throttling.Throttle(), monkeypatch) == 10


@pytest.mark.sqlite_only
def test_without_the_lock_more_come_through(monkeypatch: pytest.MonkeyPatch) -> None:
    throttle = throttling.Throttle()
    monkeypatch.setattr(throttle, "_lock", nullcontext())
    assert race(throttle, monkeypatch) > 10
