"""The limit on active batches, under a race; and the same race with the lock taken away, to show that the test bites."""

import threading
from collections import Counter
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from django.db import connection, transaction

from batches import intake
from batches.idempotency import Attempt
from batches.models import Batch, File
from batches.uploads import Stored
from tenants import admission
from tenants.errors import Refused
from tenants.models import ApiKey, Tenant
from tests.conftest import Person
from tests.threads import ThreadPoolExecutor

pytestmark = pytest.mark.postgres_first

RACERS = 40


def race(http: httpx.Client, key: str) -> Counter[int]:
    gate = threading.Barrier(RACERS)

    def submit(_: int) -> httpx.Response:
        gate.wait()
        return http.post(
            "/v1/batch", headers={"Authorization": f"Bearer {key}"}, files={"file": ("a.jsonl", b"{}\n")}, timeout=60
        )

    with ThreadPoolExecutor(RACERS) as pool:
        answers = list(pool.map(submit, range(RACERS)))
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["error"]["code"] == "concurrent_batch_limit_exceeded"
            assert 5 <= int(answer.headers["Retry-After"]) <= 60
    return Counter(answer.status_code for answer in answers)


def test_forty_racing_submissions_admit_exactly_ten(owner: Person, http: httpx.Client) -> None:
    assert race(http, owner.key) == {200: 10, 429: 30}
    assert Batch.objects.count() == File.objects.count() == 10


@pytest.mark.parametrize("plan", ["reserved", "dedicated"])
def test_no_limit_on_other_plans(owner: Person, plan: str) -> None:
    Tenant.objects.update(plan=plan)
    assert {owner.submit([b"{}"]).status_code for _ in range(12)} == {200}


def test_a_limit_of_the_tenants_own(owner: Person) -> None:
    Tenant.objects.update(batch_limit=1)
    assert [owner.submit([b"{}"]).status_code for _ in range(2)] == [200, 429]


def test_an_ended_batch_frees_its_place(owner: Person, work: Any) -> None:
    Tenant.objects.update(batch_limit=1)
    owner.submit([b"{"])
    work()
    assert owner.submit([b"{}"]).status_code == 200


def submit_in_threads(owner: Person) -> int:
    """The same race without HTTP, so that the lock can be taken away; how many were accepted."""
    gate, key = threading.Barrier(RACERS), ApiKey.objects.get()

    def submit(number: int) -> bool:
        gate.wait()
        try:
            attempt = Attempt(owner.tenant, key, "POST /v1/batch")
            intake.submit(attempt, Stored(f"inputs/{number}", "a", 3, 1, "0"), "/v1/embeddings", "{}")
        except Refused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        return sum(pool.map(submit, range(RACERS)))


def test_the_lock_admits_exactly_ten(owner: Person) -> None:
    assert submit_in_threads(owner) == 10


def test_counting_without_the_lock_lets_more_in(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    counted, check = threading.Barrier(RACERS), admission.check

    def together(tenant: Tenant, active: int, retry_after: Any) -> None:
        counted.wait()
        check(tenant, active, retry_after)

    with monkeypatch.context() as patched:
        patched.setattr(admission, "lock", lambda tenant: Tenant.objects.get(pk=tenant))
        patched.setattr(admission, "check", together)
        if connection.vendor == "sqlite":  # there the lock is the transaction itself
            patched.setattr(transaction, "atomic", nullcontext)
        assert submit_in_threads(owner) == RACERS
