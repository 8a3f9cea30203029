"""Expected ends against real ones, in the scheduler's virtual time: the error of the time left, at each tenth."""

from random import Random
from statistics import median

import pytest

from tests.simulator import HOUR, Job, Person, World

LATER = 10**9.0  # no deadline that matters
A, B, C = Person(1), Person(2), Person(3)
BOUND = 0.25


def errors(world: World, job: Job) -> list[float]:
    """At each tenth of the batch, by how much of the real time left the estimate was wrong."""
    samples = []
    for tenth in range(1, 10):
        while world.finished(job) < job.lines * tenth / 10:
            world.run(world.now + world.latency / 10)
        samples.append((world.now, world.estimates()[job.number]))
    world.run(LATER, stop=lambda: job.ended_at is not None)
    assert job.ended_at is not None
    return [abs(said - (job.ended_at - at)) / (job.ended_at - at) for at, said in samples]


def show(what: str, found: list[float]) -> float:
    middle = median(found)
    print(f"{what}: median {middle:.1%}, worst {max(found):.1%} of {len(found)}")
    return middle


def batch(person: Person, lines: int, **fields: float) -> Job:
    return Job(person, lines, deadline=LATER, at=fields.get("at", 0.0))


@pytest.mark.parametrize("lines", [300, 2_000, 50_000])
def test_alone(lines: int) -> None:
    world, job = World(), batch(A, lines)
    world.add(job)
    assert show(f"alone, {lines} lines", errors(world, job)) <= BOUND


@pytest.mark.parametrize("weights", [(1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("lines", [600, 20_000])
def test_beside_another(weights: tuple[int, int], lines: int) -> None:
    world, job = World(), batch(Person(1, weights[0]), lines)
    world.add(job, batch(Person(2, weights[1]), 20_000))
    assert show(f"weights {weights[0]}:{weights[1]}, {lines} lines", errors(world, job)) <= BOUND


@pytest.mark.parametrize("tenants", [1, 50])
@pytest.mark.parametrize("lines", [500, 3_000])
def test_a_small_batch_behind_fifty_large_ones(tenants: int, lines: int) -> None:
    world, job = World(), batch(Person(99), lines, at=HOUR)
    world.add(*(batch(Person(1 + n % tenants), 50_000) for n in range(50)), job)
    world.run(HOUR)
    assert show(f"{lines} lines behind 50 x 50,000 of {tenants}", errors(world, job)) <= BOUND


def test_the_last_of_ones_own_batches() -> None:
    world, job = World(), batch(A, 5_000)
    world.add(*(batch(A, 10_000) for _ in range(5)), batch(B, 20_000), job)
    first = world.estimates()[job.number]
    found = errors(world, job)
    show("behind five of one's own, at its start", [abs(first - (job.ended_at or 0)) / (job.ended_at or 1)])
    assert show("behind five of one's own", found) <= BOUND


@pytest.mark.parametrize("reserved", [True, False])
def test_a_reserved_tenant_and_who_is_beside_it(reserved: bool) -> None:
    world, kept = World(), Person(9, reserved=128)
    jobs = [batch(kept, 30_000), *(batch(Person(n), 30_000) for n in (1, 2, 3))]
    world.add(*jobs)
    what = "half of the slots reserved" if reserved else "beside one with half of the slots reserved"
    assert show(what, errors(world, jobs[0] if reserved else jobs[1])) <= BOUND


def test_a_batch_in_danger_of_its_deadline() -> None:
    world, job = World(), Job(A, 30_000, deadline=HOUR)
    world.add(job, *(batch(Person(n), 100_000) for n in (2, 3, 4)))
    assert show("in danger beside three others", errors(world, job)) <= BOUND


def test_beside_one_in_danger() -> None:
    world, job = World(), batch(B, 30_000)
    world.add(job, batch(C, 60_000), Job(A, 20_000, deadline=HOUR))
    assert show("beside one in danger", errors(world, job)) <= BOUND


@pytest.mark.parametrize("estimate", [250, 4_000])
def test_wrong_estimates_of_tokens(estimate: int) -> None:
    """A quarter of what the lines take, and four times as much: beside one who is right."""
    world, job = World(), Job(A, 20_000, deadline=LATER, estimate=estimate)
    world.add(job, batch(B, 40_000))
    assert show(f"an estimate of {estimate} for 1,000 tokens", errors(world, job)) <= BOUND


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_of_all_sorts(seed: int) -> None:
    """Thirty batches of ten tenants: weights, reservations, lines of 300 to 5,000 tokens, estimates off by up to 3."""
    dice = Random(seed)
    people = [Person(n, dice.choice((1, 1, 2, 5)), dice.choice((0, 0, 0, 32))) for n in range(10)]
    world, jobs = World(), list[Job]()
    for _ in range(30):
        real = int(300 * (5000 / 300) ** dice.random())
        estimate = int(real * 3 ** dice.uniform(-1, 1))
        lines = int(200 * 100 ** dice.random())
        jobs.append(Job(dice.choice(people), lines, deadline=LATER, estimate=estimate, real=real))
    world.add(*jobs)
    samples: dict[int, list[tuple[float, float]]] = {job.number: [] for job in jobs}
    while world.jobs:
        for job in world.jobs:
            if world.finished(job) >= job.lines * (len(samples[job.number]) + 1) / 10:
                samples[job.number].append((world.now, world.estimates()[job.number]))
        world.run(world.now + world.latency)
    found = [
        abs(said - (job.ended_at - at)) / (job.ended_at - at)
        for job in jobs
        for at, said in samples[job.number]
        if job.ended_at is not None
    ]
    assert show(f"a crowd, seed {seed}", found) <= BOUND


def test_from_when_a_newcomer_is_there() -> None:
    """Nobody can know of it before: until then the estimate is right for a world without it, and so too soon."""
    world, job = World(), batch(A, 40_000)
    world.add(job, batch(B, 40_000, at=800.0))
    world.run(790.0)
    before, at = world.estimates()[job.number], world.now
    world.run(801.0)
    samples = []
    while job.ended_at is None:
        samples.append((world.now, world.estimates()[job.number]))
        world.run(world.now + 150, stop=lambda: job.ended_at is not None)
    found = [abs(said - (job.ended_at - moment)) / (job.ended_at - moment) for moment, said in samples]
    show("before a newcomer, who halves the rest", [abs(before - (job.ended_at - at)) / (job.ended_at - at)])
    assert show("from when it is there", found) <= BOUND


@pytest.mark.parametrize("danger", [False, True])
def test_a_raised_batch_and_who_is_beside_it(danger: bool) -> None:
    world, job, other = World(), batch(A, 20_000), batch(B, 30_000)
    job.raised = True
    late = [Job(Person(9), 30_000, deadline=HOUR)] if danger else []
    world.add(batch(A, 20_000), other, batch(C, 60_000), *late, job)
    before = world.estimates()
    job.raised = False
    assert world.estimates()[job.number] > before[job.number]
    job.raised = True
    found = errors(world, job)
    assert show(f"raised, beside three others{' and one in danger' * danger}", found) <= BOUND
    assert show("who is beside it", errors(world, other)) <= BOUND
