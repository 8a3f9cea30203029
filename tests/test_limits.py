"""GET /v1/limits, and the limit on enqueued tokens: exact under a race, which the same race without the lock shows."""

import threading
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection

from batches import enqueued, lifecycle, objects, tasks, validation
from batches.core.states import Status
from batches.models import Batch, Slice
from tenants import admission
from tenants.models import Tenant
from tests.conftest import Person, step, validate_at_once
from tests.test_api import error
from tests.test_engine import Work, numbered
from tests.witness import Witness, request_line

LINES = 8
RACERS = 4


def limits(owner: Person) -> dict[str, Any]:
    answer = owner.get("/v1/limits")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def submit(owner: Person, **fields: str) -> Batch:
    answer = owner.submit(numbered(LINES), **fields)
    assert answer.status_code == 200, answer.content
    return Batch.objects.get(public_id=answer.json()["id"])


@pytest.fixture
def tokens(owner: Person, witness: Witness) -> int:
    """The estimated tokens of what `submit` sends."""
    batch = submit(owner)
    tasks.validate(batch.pk)
    found = enqueued.tokens(owner.tenant.pk)
    assert found > LINES
    lifecycle.cancel(batch)
    step("finalizing", tasks.finalize)
    return found


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_tenant_is_told_its_limits(owner: Person) -> None:
    found = limits(owner)
    assert found["requests_per_minute"].pop("reset").endswith("ms")
    assert found == {
        "object": "limits",
        "plan": "shared",
        "active_batches": {"limit": 10, "used": 0, "remaining": 10},
        "enqueued_tokens": {"limit": None, "used": 0, "remaining": None},
        "stored_bytes": {"limit": 107_374_182_400, "used": 0, "remaining": 107_374_182_400},
        "retention": {"days": 30},
        "requests_per_minute": {"limit": 1200, "remaining": 1199},
        "file": {"bytes": 104_857_600, "lines": 50_000},
        "line": {"bytes": 10_485_760, "nesting": 512},
        "custom_id": {"characters": 512},
        "metadata": {"pairs": 16, "key_characters": 64, "value_characters": 512},
        "batch": {"seconds": 86_400},
    }
    assert error(owner.get("/v1/limits?plan=x"), 400) == "unsupported_parameter"
    assert error(owner.post("/v1/limits"), 405) == "method_not_allowed"


def test_what_is_used_comes_and_goes(
    owner: Person, outsider: Person, witness: Witness, tokens: int, work: Work
) -> None:
    Tenant.objects.update(enqueued_token_limit=3 * tokens, batch_limit=3)
    running, cancelled = submit(owner), submit(owner)
    step("validating", tasks.validate)
    found = limits(owner)
    assert found["active_batches"] == {"limit": 3, "used": 2, "remaining": 1}
    assert found["enqueued_tokens"] == {"limit": 3 * tokens, "used": 2 * tokens, "remaining": tokens}
    assert limits(outsider)["enqueued_tokens"]["used"] == limits(outsider)["active_batches"]["used"] == 0
    owner.post(f"/v1/batch/{cancelled.public_id}/cancel")
    assert limits(owner)["enqueued_tokens"]["used"] == tokens
    work()
    running.refresh_from_db()
    assert running.status == Status.COMPLETED
    found = limits(owner)
    assert found["active_batches"]["used"] == found["enqueued_tokens"]["used"] == 0
    Tenant.objects.update(batch_limit=0, enqueued_token_limit=0)
    assert (
        limits(owner)["active_batches"] == limits(owner)["enqueued_tokens"] == {"limit": 0, "used": 0, "remaining": 0}
    )


def test_limits_are_few_queries(owner: Person, django_assert_num_queries: Any) -> None:
    limits(owner)
    with django_assert_num_queries(4):
        limits(owner)


# --- enqueued tokens --------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_a_batch_over_the_limit_fails_with_the_numbers_and_the_cure(
    owner: Person, outsider: Person, witness: Witness, tokens: int, work: Work
) -> None:
    Tenant.objects.filter(name="owner").update(enqueued_token_limit=2 * tokens - 1)
    first, second, foreign = submit(owner), submit(owner), submit(outsider)
    for batch in (first, second, foreign):
        tasks.validate(batch.pk)
    shown = owner.batch(second.public_id)
    assert (shown["status"], shown["errors"]["counts"]) == ("failed", {"token_limit_exceeded": 1})
    (fault,) = shown["errors"]["data"]
    assert (fault["code"], fault["line"], fault["param"]) == ("token_limit_exceeded", None, None)
    assert f"{tokens:,}" in fault["message"] and f"{2 * tokens - 1:,}" in fault["message"]
    assert "cancel" in fault["message"]
    assert not Slice.objects.filter(batch=second).exists()
    work()
    assert {owner.batch(first.public_id)["status"], outsider.batch(foreign.public_id)["status"]} == {"completed"}
    again = submit(owner)
    work()
    assert owner.batch(again.public_id)["status"] == "completed"


@pytest.mark.sqlite_first
def test_a_batch_that_can_never_start_is_to_be_split(owner: Person, witness: Witness, tokens: int) -> None:
    Tenant.objects.update(enqueued_token_limit=tokens - 1)
    batch = submit(owner, on_invalid_line="skip")
    tasks.validate(batch.pk)
    (fault,) = owner.batch(batch.public_id)["errors"]["data"]
    assert "Split it" in fault["message"]
    Tenant.objects.update(enqueued_token_limit=tokens)
    batch = submit(owner)
    tasks.validate(batch.pk)
    batch.refresh_from_db()
    assert batch.status == Status.IN_PROGRESS


def test_a_refused_batch_leaves_no_plan_behind(owner: Person, witness: Witness, monkeypatch: Any) -> None:
    Tenant.objects.update(enqueued_token_limit=1)
    written: list[str] = []
    rewrite = validation._rewrite

    def watched(*arguments: Any) -> tuple[str, Any]:
        found = rewrite(*arguments)
        written.append(found[0])
        return found

    monkeypatch.setattr(validation, "_rewrite", watched)
    shared = [{"role": "system", "content": letter * 2000} for letter in "ab"]
    lines = [
        request_line(str(n), custom_id=f"line:{n}", messages=[shared[n % 2], {"role": "user", "content": f"{n}"}])
        for n in range(8)
    ]
    batch = Batch.objects.get(public_id=owner.submit(lines).json()["id"])
    tasks.validate(batch.pk)
    batch.refresh_from_db()
    assert batch.status == Status.FAILED
    (plan,) = written
    with pytest.raises(FileNotFoundError):
        objects.read(plan, 0, 1)


# --- racing -----------------------------------------------------------------------------------------------------------


def started(owner: Person, tokens: int) -> int:
    """How many of some batches that are validated at once start, where tokens for two may be enqueued."""
    Tenant.objects.update(enqueued_token_limit=2 * tokens)
    batches = [submit(owner) for _ in range(RACERS)]
    return validate_at_once(batches).count("in_progress")


def test_racing_batches_start_as_far_as_the_limit_goes(owner: Person, tokens: int) -> None:
    assert started(owner, tokens) == 2
    assert enqueued.tokens(owner.tenant.pk) == 2 * tokens


def test_counting_without_the_lock_lets_more_start(owner: Person, tokens: int, monkeypatch: Any) -> None:
    counted, count = threading.Barrier(RACERS), enqueued.tokens

    def all_count_first(tenant: int) -> int:
        found = count(tenant)
        counted.wait(30)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(admission, "lock", lambda tenant: Tenant.objects.get(pk=tenant))
        patched.setattr(enqueued, "tokens", all_count_first)
        if connection.vendor == "sqlite":  # there the lock is the transaction itself
            patched.setattr(validation, "transaction", SimpleNamespace(atomic=nullcontext))
        assert started(owner, tokens) == RACERS
