"""Days of virtual time: who waits how long, and who gets how much. The bounds are what operating.md promises."""

import pytest

from tests.simulator import DAY, HOUR, Job, Person, World

WHALE = 50_000
ENDLESS = 10**8
LATER = 10**6 * DAY  # no deadline that matters


def endless(person: Person, **fields: float) -> Job:
    return Job(person, ENDLESS, deadline=LATER, at=fields.get("at", 0.0))


def wait_of_ten_lines(world: World) -> float:
    small = Job(Person(999), 10, at=HOUR)
    world.add(small)
    world.run(DAY, stop=lambda: small.ended_at is not None)
    assert small.ended_at is not None
    return small.ended_at - small.at


@pytest.mark.parametrize("tenants", [1, 5, 50])
def test_ten_lines_behind_two_and_a_half_million_wait_seconds(tenants: int) -> None:
    """Row 31: two slices and a latency, whoever owns the 50 batches in front of it."""
    alone = wait_of_ten_lines(World())
    crowded = World()
    crowded.add(*(Job(Person(1 + n % tenants), WHALE) for n in range(50)))
    wait = wait_of_ten_lines(crowded)
    print(f"10 lines behind 50 x 50,000 of {tenants} tenants: {wait:.1f} s, alone {alone:.1f} s")
    assert wait <= 4 * alone


def test_weights_are_kept_within_five_percent() -> None:
    world, light, heavy = World(), Person(1, weight=1), Person(2, weight=3)
    world.add(endless(light), endless(heavy))
    world.run(2 * DAY)
    ratio = world.served(heavy) / world.served(light)
    print(f"weights 1:3 over two days: 1:{ratio:.3f}")
    assert ratio == pytest.approx(3, rel=0.05)


def test_a_wrong_estimate_wins_nothing() -> None:
    """One says a quarter of what its lines take, one four times as much: both get half, once lines have come back."""
    world, modest, boastful = World(), Person(1), Person(2)
    world.add(Job(modest, ENDLESS, deadline=LATER, estimate=250), Job(boastful, ENDLESS, deadline=LATER, estimate=4000))
    world.run(DAY)
    print(f"estimates of a quarter and of four times: {world.share(modest):.3f} for the modest")
    assert world.share(modest) == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(("crowd", "slots"), [(1, 64), (20, 64), (20, 128)])
def test_a_reserved_tenant_gets_its_share_and_no_more(crowd: int, slots: int) -> None:
    world, reserved = World(), Person(99, reserved=slots)
    world.add(*(endless(Person(1 + n)) for n in range(crowd)), endless(reserved))
    world.run(DAY / 2)
    owed, share = max(slots / 256, 1 / (crowd + 1)), world.share(reserved)
    print(f"{slots} of 256 slots reserved, {crowd} others: share {share:.3f}, owed {owed:.3f}")
    assert share == pytest.approx(owed, rel=0.05)


def test_many_small_reservations_starve_nobody() -> None:
    world, other = World(slots=32, latency=1.0), Person(99)
    few = [Person(n, reserved=1) for n in range(1, 6)]
    world.add(*(endless(person) for person in few), endless(other))
    world.run(DAY)
    print(
        f"five tenants with 1 of 32 slots reserved: {world.share(few[0]):.3f} each, the sixth {world.share(other):.3f}"
    )
    assert all(world.share(person) == pytest.approx(1 / 6, rel=0.05) for person in [*few, other])


def test_reservations_beyond_the_slots_leave_the_others_a_tenth() -> None:
    world, other = World(), Person(99)
    world.add(*(endless(Person(n, reserved=256)) for n in (1, 2)), endless(other))
    world.run(DAY)
    assert world.share(other) >= 0.04


@pytest.mark.parametrize("slots", [32, 256, pytest.param(1024, marks=pytest.mark.soak)])
def test_a_deadline_in_danger_is_met_with_at_most_half_of_the_slots(slots: int) -> None:
    """It needs 40% of the slots for a day and has a tenth by weight: it is in time, and the others keep half."""
    world, urgent = World(slots=slots), Person(99)
    lines = int(slots * DAY / world.latency * 0.4)
    job = Job(urgent, lines)
    others = [Person(n) for n in range(1, 10)]
    world.add(*(endless(person) for person in others), job)
    world.run(DAY)
    assert job.ended_at is not None and job.ended_at <= DAY
    hours = [world.share(urgent, hour * HOUR, (hour + 1) * HOUR) for hour in range(24)]
    print(f"{slots} slots: in time by {(DAY - job.ended_at) / 60:.0f} min, at most {max(hours):.3f} of an hour's work")
    assert max(hours) <= 0.5 + 0.05
    shares = [world.share(person) for person in others]
    assert max(shares) == pytest.approx(min(shares), rel=0.05)


def test_a_tenant_that_is_always_late_does_not_stop_the_others() -> None:
    """More work than the model can ever do, all of it due: urgency has its half, a small batch its turn."""
    world, late, other = World(), Person(1), Person(2)
    world.add(*(Job(late, WHALE, deadline=HOUR) for _ in range(50)), endless(other))
    wait = wait_of_ten_lines(world)
    world.run(12 * HOUR)
    print(f"2.5 million lines overdue: the other has {world.share(other, HOUR):.3f}, ten lines wait {wait:.1f} s")
    assert world.share(other, HOUR) >= 0.45
    assert wait <= 60


def test_urgency_leaves_reservations_what_they_are() -> None:
    world, late, reserved = World(), Person(1), Person(2, reserved=64)
    world.add(Job(late, ENDLESS), *(endless(Person(n)) for n in range(10, 20)), endless(reserved))
    world.run(DAY)
    print(f"64 of 256 reserved beside an overdue batch: {world.share(reserved):.3f}")
    assert world.share(reserved) >= 0.25 * 0.95


@pytest.mark.parametrize("keeps_rows", [True, False])
def test_who_comes_back_neither_starves_nor_is_starved(keeps_rows: bool) -> None:
    """One worked for an hour, was away for twelve, and comes back: with rows of an old batch, or without any."""
    world, back, steady, third = World(), Person(1), Person(2), Person(3)
    old = Job(back, 30_000, deadline=LATER)
    world.add(old, endless(steady), endless(third))
    world.run(2 * HOUR)
    if keeps_rows:
        stub = Job(back, 256, deadline=LATER, at=0.0)  # suspended: its tag stays, nothing of it can be claimed
        stub.tag = old.tag
        world.add(stub)
        stub.sent = stub.lines
    world.run(14 * HOUR)
    world.add(endless(back, at=14 * HOUR))
    world.run(20 * HOUR)
    first = [world.share(person, 14 * HOUR, 15 * HOUR) for person in (back, steady, third)]
    gaps = [world.longest_gap(person, 14 * HOUR, 20 * HOUR) for person in (back, steady, third)]
    print(
        f"back after 12 h: shares of its first hour {first[0]:.3f} {first[1]:.3f} {first[2]:.3f}, gaps <= {max(gaps):.0f} s"
    )
    assert first == pytest.approx([1 / 3] * 3, rel=0.15)
    assert max(gaps) <= 300


def test_many_small_batches_one_after_the_other_win_nothing() -> None:
    world, crumbs, whale = World(), Person(1), Person(2)
    world.add(endless(whale))
    world.add(*(Job(crumbs, 256, deadline=LATER, at=n * 5.0) for n in range(1000)))
    world.run(HOUR)
    print(f"a batch of one slice every 5 s, half of the capacity each: {world.share(crumbs):.3f}")
    assert world.share(crumbs) == pytest.approx(0.5, rel=0.1)


def test_a_raised_batch_has_half_at_once_and_one_in_danger_is_met_all_the_same() -> None:
    """Its tenant has a tenth by weight, and another batch in front of it; later one comes that needs 40% for its day."""
    world, owner, late = World(), Person(1), Person(2)
    lines = int(world.slots * 6 * HOUR / world.latency * 0.5)
    own = Job(owner, lines, deadline=LATER)
    urgent = Job(late, int(world.slots * DAY / world.latency * 0.4), at=HOUR)
    world.add(own, Job(owner, lines, deadline=LATER, raised=True), urgent, *(endless(Person(n)) for n in range(10, 18)))
    world.run(HOUR)
    shares = [world.share(owner), own.done]
    world.run(DAY + HOUR, stop=lambda: urgent.ended_at is not None)
    print(f"raised: {shares[0]:.3f} of its first hour; the one in danger ends at {(urgent.ended_at or 0) / HOUR:.2f} h")
    assert shares == [pytest.approx(0.5, rel=0.05), 0]
    assert urgent.ended_at is not None and urgent.ended_at <= DAY + HOUR
