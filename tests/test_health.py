"""How upstreams do: what runners tell of them, added up, and forgotten with the runner."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F, Sum
from django.test.utils import CaptureQueriesContext

from batches.engine import health, leases
from batches.engine.health import Health
from batches.models import Permit, Result, Runner, Upstream
from tenants import clock
from tests.conftest import Person
from tests.test_engine import Work, numbered, submit
from tests.witness import Witness, request_line


def seen(samples: list[Health]) -> Callable[[], bool]:
    """A `stop` that is never true, and notes how the only upstream does."""

    def stop() -> bool:
        samples.extend(health.of_upstreams().values())
        return False

    return stop


def test_the_figures_are_what_the_upstream_did_and_go_with_the_runner(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.05)
    for name in ("BACKOFF_BASE", "COOL_CAP"):
        monkeypatch.setattr(f"batches.core.retrying.{name}", 0.05)
    witness.configure(latency_ms=[150, 200])  # longer than a turn of the loop: some are in flight at a heartbeat
    faults = {0: "429:1", 1: "503:1", 2: "500:1", 3: "reset:1", 4: "html:2", 5: "400"}
    lines = numbered(60)
    for number, fault in faults.items():
        lines[number] = request_line(str(number), custom_id=f"line:{number}", faults=[fault])
    batch = submit(owner, lines)
    samples: list[Health] = []
    work(stop=seen(samples), idle=0.6)
    batch.refresh_from_db()
    assert (batch.completed, batch.failed) == (59, 1)
    last = samples[-1]
    taken = Result.objects.aggregate(tokens=Sum(F("input_tokens") + F("output_tokens")))["tokens"]
    assert (last.answers, last.throttled, last.errors, last.tokens) == (60, 2, 4, taken)
    assert sum(witness.requests_by_marker().values()) == 66
    assert max(sample.in_flight for sample in samples) > 0 == last.in_flight
    assert all(sample.in_flight <= sample.max_in_flight == 32 for sample in samples)
    (after,) = health.of_upstreams().values()
    assert after == Health(32, 32, 0, 0, 0, 0, 0, 0)


@pytest.mark.sqlite_only
def test_a_limit_that_was_cut_is_seen(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT", 0.05)
    witness.configure(slots=4, latency_ms=[20, 30])
    submit(owner, numbered(150))
    samples: list[Health] = []
    work(stop=seen(samples))
    limits = [sample.limit for sample in samples if sample.throttled]
    assert limits and min(limits) <= 8, limits


def test_the_figures_of_runners_are_added_up_and_those_of_dead_ones_count_nothing(witness: Witness) -> None:
    used, other = Upstream.objects.get(), Upstream.objects.create(model="other", base_url="http://other.invalid/v1")
    figures = {"in_flight": 5, "limit": 32, "answers": 7, "throttled": 2, "errors": 1, "tokens": 2**40}
    runners = [leases.register() for _ in range(3)]
    for runner in runners:
        Permit.objects.create(upstream=used, runner=runner, slots=10, wanted=10, **figures)
    idle = Permit.objects.create(upstream=used, runner=leases.register())
    Runner.objects.filter(pk=runners[2].pk).update(lease_until=clock.now() - timedelta(seconds=1))
    with CaptureQueriesContext(connection) as queries:
        found = health.of_upstreams()
    assert found == {
        used.pk: Health(32, 32, 2, 10, 14, 4, 2, 2**41),
        other.pk: Health(64, 64, 0, 0, 0, 0, 0, 0),
    }
    assert len([query for query in queries if "permit" in query["sql"]]) == 1
    Permit.objects.filter(runner=runners[0]).update(limit=4)
    assert health.of_upstreams()[used.pk].limit == 14, "what one has learned, and the slots of the other"
    Permit.objects.filter(runner=runners[1]).update(limit=3, slots=0)
    Permit.objects.filter(pk=idle.pk).update(limit=1)
    assert health.of_upstreams()[used.pk].limit == 7, "who has sent nothing lately has learned nothing"
