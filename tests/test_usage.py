"""What a tenant has used: metered with each commit, reported by model, day and key."""

import importlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.apps import apps

from batches import metering
from batches.models import Batch, Result, Upstream, Usage
from billing import prices
from tenants import keys
from tests.conftest import Person
from tests.test_api import error
from tests.test_engine import ledgers_agree, metered, numbered
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

Work = Callable[..., None]
DAY = datetime(2026, 3, 1, tzinfo=UTC).date()


def rows() -> list[dict[str, Any]]:
    """Every row of usage, but for its key."""
    names = ("tenant_id", "api_key_id", "batch_id", "model", "day", *metering.MEASURES)
    return list(Usage.objects.order_by("batch", "model", "day").values(*names))


@pytest.fixture
def second(witness: Witness) -> str:
    """Another model on the same upstream, at other prices."""
    Upstream.objects.create(model="org/second", base_url=witness.base_url, upstream_model="witness")
    prices.set_price("org/second", "3", "5")
    return "org/second"


def mixed(owner: Person, model: str) -> Batch:
    """A batch of two models, one line that fails on each, and one that is skipped."""
    lines = [
        request_line(str(n), custom_id=f"line:{n}", model=(model, "witness")[n % 2], faults=["400"] * (n > 7))
        for n in range(10)
    ]
    answer = owner.submit([*lines, b"{"], on_invalid_line="skip")
    assert answer.status_code == 200
    return Batch.objects.get(public_id=answer.json()["id"])


# --- metering ----------------------------------------------------------------------------------------------------------


def test_usage_is_metered_by_model_and_without_what_was_skipped(owner: Person, second: str, work: Work) -> None:
    batch = mixed(owner, second)
    work()
    batch.refresh_from_db()
    assert (batch.model, batch.completed, batch.failed) == (None, 8, 3)
    found = {row["model"]: row for row in rows()}
    assert set(found) == {second, "witness"}
    assert {(row["completed"], row["failed"]) for row in found.values()} == {(4, 1)}
    assert {row["day"] for row in rows()} == {batch.created_at.astimezone(UTC).date()}
    assert metered(batch) == {name: getattr(batch, name) for name in metering.MEASURES} | {"failed": 2}
    assert found[second]["cost"] > found["witness"]["cost"] > 0


def test_many_commits_move_one_row(owner: Person, witness: Witness, work: Work, monkeypatch: Any) -> None:
    for name in ("pump.FLUSH_RESULTS", "pump.AHEAD_RESULTS", "committing.GROUP_RESULTS"):
        monkeypatch.setattr(f"batches.engine.{name}", 5)
    batch = Batch.objects.get(public_id=owner.submit(numbered(40)).json()["id"])
    work()
    ledgers_agree(owner, batch)
    assert Usage.objects.count() == 1


def test_a_day_is_of_utc(owner: Person, witness: Witness, work: Work, monkeypatch: Any) -> None:
    """Both sides of a midnight that falls between two commits."""
    midnight = datetime(2026, 3, 1, tzinfo=UTC)
    batch = Batch.objects.get(public_id=owner.submit([]).json()["id"])
    taken = dict.fromkeys(metering.MEASURES, 1)
    for moment in (midnight, midnight - timedelta(seconds=1), midnight):
        metering.add(batch, "m", moment, taken)
    east = midnight.astimezone(datetime.strptime("+1300", "%z").tzinfo)
    metering.add(batch, "m", east, taken)
    assert [(row["day"], row["completed"]) for row in rows()] == [(DAY - timedelta(days=1), 1), (DAY, 3)]


def test_the_migration_finds_the_usage_of_receipts(owner: Person, second: str, work: Work) -> None:
    mixed(owner, second)
    owner.submit(numbered(3))
    work()
    metered_before = rows()
    assert len(metered_before) == 3
    Usage.objects.all().delete()
    importlib.import_module("batches.migrations.0007_usage").fill(apps, None)
    assert rows() == metered_before


@pytest.mark.sqlite_first
def test_usage_outlives_its_batch(owner: Person, witness: Witness, work: Work) -> None:
    owner.submit(numbered(2))
    work()
    before = owner.get("/v1/usage").json()
    Result.objects.all().delete()
    Batch.objects.all().delete()
    assert owner.get("/v1/usage").json() == before
    assert before["totals"]["requests"]["completed"] == 2


# --- the report ---------------------------------------------------------------------------------------------------------


def take(owner: Person, model: str, day: str, key: Any = None, **taken: int) -> None:
    Usage.objects.create(tenant=owner.tenant, api_key=key, model=model, day=day, **taken)


@pytest.fixture
def history(owner: Person, outsider: Person) -> None:
    first = keys.create(owner.tenant, name="nightly")[0]
    take(owner, "a", "2026-01-31", first, completed=3, failed=1, input_tokens=30, cached_tokens=10, cost=2 * 10**18)
    take(owner, "b", "2026-01-31", first, completed=2, output_tokens=7, cost=1)
    take(owner, "a", "2026-02-01", completed=5, input_tokens=50, output_tokens=5)
    take(outsider, "a", "2026-01-31", completed=1000, cost=10**12)


def report(owner: Person, query: str) -> dict[str, Any]:
    answer = owner.get(f"/v1/usage?{query}")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_usage_by_day(owner: Person, history: None) -> None:
    found = report(owner, "from=2026-01-01&to=2026-12-31")
    assert list(found) == ["object", "data", "totals", "from", "to", "group_by"]
    assert (found["object"], found["from"], found["to"], found["group_by"]) == (
        "list",
        "2026-01-01",
        "2026-12-31",
        "day",
    )
    assert found["data"][0] == {
        "day": "2026-01-31",
        "requests": {"completed": 5, "failed": 1},
        "input_tokens": 30,
        "cached_tokens": 10,
        "output_tokens": 7,
        "total_tokens": 37,
        "cost": {"usd": "2000000.000000000001", "currency": "usd"},
    }
    assert [group["day"] for group in found["data"]] == ["2026-01-31", "2026-02-01"]
    assert found["totals"]["requests"] == {"completed": 10, "failed": 1}
    assert found["totals"]["total_tokens"] == 92


def test_usage_by_model_and_by_key(owner: Person, history: None) -> None:
    span = "from=2026-01-31&to=2026-02-01"
    models = report(owner, f"{span}&group_by=model")["data"]
    assert [(group["model"], group["requests"]["completed"]) for group in models] == [("a", 8), ("b", 2)]
    found = report(owner, f"{span}&group_by=key")["data"]
    by_key = {group["key"] and group["key"]["name"]: group["requests"]["completed"] for group in found}
    assert by_key == {"nightly": 5, None: 5}
    (shown,) = [group["key"] for group in found if group["key"]]
    assert set(shown) == {"prefix", "name"}
    assert len(shown["prefix"]) == 16


def test_both_ends_are_included_and_days_are_left_out(owner: Person, history: None) -> None:
    for span, days in (
        ("from=2026-02-01&to=2026-02-01", ["2026-02-01"]),
        ("from=2026-01-31&to=2026-01-31", ["2026-01-31"]),
        ("from=2026-02-02&to=9999-12-31", []),
        ("to=2026-02-28", ["2026-01-31", "2026-02-01"]),
        ("to=2026-03-02", ["2026-02-01"]),
        ("to=0001-01-01", []),
    ):
        found = report(owner, span)
        assert [group["day"] for group in found["data"]] == days, span
        assert found["totals"]["requests"]["completed"] == sum(g["requests"]["completed"] for g in found["data"])


@pytest.mark.sqlite_first
def test_the_last_thirty_days_are_shown(owner: Person, witness: Witness, work: Work) -> None:
    owner.submit(numbered(2))
    work()
    found = report(owner, "")
    assert found["totals"]["requests"]["completed"] == 2
    first, last = (datetime.fromisoformat(found[end]) for end in ("from", "to"))
    assert (last - first).days == 29


NO_SPANS = [
    ("from=2026-02-01&to=2026-01-31", "invalid_from"),
    ("from=9999-12-31", "invalid_from"),
    ("from=2026-02-30", "invalid_from"),
    ("from=20260201", "invalid_from"),
    ("from=2026-W05-1", "invalid_from"),
    ("from=", "invalid_from"),
    ("from=%D9%A1026-01-01", "invalid_from"),
    ("to=0000-00-00", "invalid_to"),
    ("to=2026-02-01T00:00:00", "invalid_to"),
    ("to=2026-01-01%00", "invalid_to"),
    ("group_by=tenant", "invalid_group_by"),
    ("group_by=", "invalid_group_by"),
    ("group_by=model,day", "invalid_group_by"),
    ("limit=1", "unsupported_parameter"),
    ("from=2026-01-01&from=2026-01-01", "duplicate_parameter"),
]


@pytest.mark.sqlite_only
def test_what_is_no_span(owner: Person) -> None:
    for query, code in NO_SPANS:
        assert error(owner.get(f"/v1/usage?{query}"), 400) == code, query


def test_a_report_is_two_queries(owner: Person, history: None, django_assert_num_queries: Any) -> None:
    owner.get("/v1/usage")
    for group_by in metering.GROUPS:
        with django_assert_num_queries(2):
            owner.get(f"/v1/usage?group_by={group_by}&to=2026-02-01")
