"""An upstream that does harm is switched off at once: what it has goes elsewhere, as though it had never had it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from django.db import IntegrityError, transaction

from batches.core.states import Status
from batches.engine import health, switching
from batches.engine.upstream import Target
from batches.engine.wire import Connection
from batches.models import Permit, Result, Slice, Upstream
from tenants.models import AuditEvent
from tests.conftest import Person
from tests.staff import confirmed
from tests.test_admin import staff
from tests.test_engine import Work, ledgers_agree, numbered, submit
from tests.witness import Witness

SLOTS = 8


@pytest.fixture
def bad(witness: Witness) -> Upstream:
    """The witness, to be severed."""
    Upstream.objects.update(max_in_flight=SLOTS)
    return Upstream.objects.get()


@pytest.fixture
def good(bad: Upstream) -> Iterator[Witness]:
    """Another server of the same model."""
    with Witness() as other:
        Upstream.objects.create(model="witness", base_url=other.base_url, max_in_flight=SLOTS)
        yield other


def severing(upstream: Upstream, witness: Witness) -> Callable[[], bool]:
    """A `stop` that is never true, and severs the upstream once it has as many lines as it takes."""
    done: list[bool] = []

    def stop() -> bool:
        if not done and len(witness.requests_by_marker()) >= SLOTS:
            done.append(switching.switch_off(upstream.pk, now=True))
        return False

    return stop


def test_what_hangs_is_sent_elsewhere_and_is_no_attempt(
    owner: Person, witness: Witness, bad: Upstream, good: Witness, work: Work
) -> None:
    witness.configure(fault_rates={"hang": 1.0})
    batch = submit(owner, numbered(60))
    work(stop=severing(bad, witness))
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed, batch.wasted) == (Status.COMPLETED, 60, 0)
    assert len(witness.requests_by_marker()) == SLOTS
    assert Counter(good.requests_by_marker().values()) == {1: 60}
    other = Upstream.objects.exclude(pk=bad.pk).get()
    assert set(Result.objects.values_list("attempts", "upstream_id")) == {(1, other.pk)}


def test_where_there_is_no_other_lines_wait_and_a_late_answer_is_not_taken(
    owner: Person, witness: Witness, bad: Upstream, work: Work
) -> None:
    witness.configure(latency_ms=[2500, 2600])
    batch = submit(owner, numbered(20))
    work(stop=severing(bad, witness))
    batch.refresh_from_db()
    assert (batch.status, batch.completed, batch.wasted) == (Status.IN_PROGRESS, 0, 0)
    assert not Slice.objects.filter(state=Slice.State.LEASED).exists() and not Permit.objects.exists()
    assert health.of_upstreams()[bad.pk].in_flight == 0
    witness.configure(latency_ms=[1, 2])
    assert switching.switch_on(bad.pk)
    work()
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed, batch.wasted) == (Status.COMPLETED, 20, 0)
    assert Counter(witness.requests_by_marker().values()) == {2: SLOTS, 1: 20 - SLOTS}
    assert set(Result.objects.values_list("attempts", flat=True)) == {1}


@pytest.mark.sqlite_only
def test_it_is_used_again_by_the_runner_that_severed_it(
    owner: Person, witness: Witness, bad: Upstream, work: Work
) -> None:
    """Every slot of it comes back."""
    witness.configure(latency_ms=[2500, 2600])
    batch = submit(owner, numbered(40))
    turns: list[int] = []
    sever = severing(bad, witness)

    def stop() -> bool:
        sever()
        if not Upstream.objects.get().enabled:
            turns.append(1)
            if len(turns) == 3:
                witness.configure(latency_ms=[50, 60])
                switching.switch_on(bad.pk)
        return False

    work(stop=stop, idle=1.0)
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed) == (Status.COMPLETED, 40)
    assert max(entry.in_flight for entry in witness.log()[SLOTS:]) == SLOTS


def test_only_what_is_off_is_severed(bad: Upstream) -> None:
    assert switching.switch_off(bad.pk) and not switching.switch_off(bad.pk)
    assert switching.switch_off(bad.pk, now=True) and not switching.switch_off(bad.pk, now=True)
    assert not switching.switch_off(bad.pk), "it stays severed"
    bad.refresh_from_db()
    assert (bad.enabled, bad.severed) == (False, True)
    with pytest.raises(IntegrityError), transaction.atomic():
        Upstream.objects.update(enabled=True)
    assert switching.switch_on(bad.pk) and not switching.switch_on(bad.pk)
    bad.refresh_from_db()
    assert (bad.enabled, bad.severed) == (True, False)
    assert not switching.switch_off(0) and not switching.switch_on(0)


@pytest.mark.sqlite_only
def test_staff_switch_it_off_at_once_and_on_again(bad: Upstream) -> None:
    root, page = staff("root@example.com", is_superuser=True), "/admin/batches/upstream/"
    for action, state in (("drain", (False, False)), ("sever", (False, True)), ("enable", (True, False))):
        assert "done to 1 upstream" in confirmed(root, page, action, bad)
        bad.refresh_from_db()
        assert (bad.enabled, bad.severed) == state
    made = AuditEvent.objects.filter(target=f"upstream {bad.pk}").order_by("pk").values_list("action", "details")
    assert [action for action, _ in made] == ["upstream.drained", "upstream.severed", "upstream.enabled"]
    assert made[1][1]["before"] == {"severed": False} and made[2][1]["after"] == {"enabled": True, "severed": False}


@pytest.mark.sqlite_only
def test_a_connection_whose_answer_came_as_it_was_given_up_is_closed(witness: Witness) -> None:
    """It is in no pool, so nobody else would close it."""

    async def give_up() -> bool:
        loop = asyncio.get_running_loop()
        target = Target(witness.base_url, "/v1/chat/completions")
        transport, connection = await loop.create_connection(Connection, target.host, target.port)
        exchange = loop.create_task(connection.exchange(target.head(2), b"{}", 5.0))
        while connection._waiter is None or not connection._waiter.done():
            if connection.idle and connection.used:
                break
            await asyncio.sleep(0)
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        return transport.is_closing()

    assert asyncio.run(give_up())
