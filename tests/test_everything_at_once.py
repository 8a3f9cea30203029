"""Everything at once: clients submit, cancel, delete, read and manage webhooks while workers validate, run, finalize,
sweep, deliver and expire. Nothing answers 5xx, nobody waits in a circle, and in the end all the books agree.

The dice are seeded, the moments are not: a seed gives the same clients, and other races.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import Sum

from batches import metering, sweeping, tasks
from batches.core.states import ACTIVE, Status
from batches.engine import runner
from batches.engine.stopping import StopFlag
from batches.models import Batch, File, Permit, Result, Runner, Segment, Slice, Submission, WebhookDelivery
from batches.webhooks import delivering, leasing
from billing.models import LedgerEntry
from tenants import clock
from tenants.models import Tenant
from tests import crashes
from tests.caller import ACTS, Caller, Ids
from tests.conftest import Person, serving, step, until
from tests.receiver import Receiver
from tests.test_disk_full import stored
from tests.test_engine import metered
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness

pytestmark = pytest.mark.soak

SECONDS = 20.0
OWNERS, OUTSIDERS = 8, 4  # clients


@pytest.fixture
def web(transactional_db: None) -> Iterator[str]:
    """A web server that lets webhooks go to a receiver on this machine; its address."""
    with serving(PROVOCATIVE_WEBHOOK_NETWORKS="127.0.0.0/8") as address:
        yield address


def chores() -> None:
    step("validating", tasks.validate)
    step("finalizing", tasks.finalize)
    sweeping.sweep()


def endings() -> None:
    """Now and then a file's time is over, or a deadline comes."""
    for rows, column in (
        (File.objects.exclude(storage_key=""), "expires_at"),
        (Batch.objects.filter(status__in=ACTIVE), "deadline"),
    ):
        if random.random() < 0.1 and (row := rows.order_by("?").first()):
            rows.filter(pk=row.pk).update(**{column: clock.now()})
    sweeping.sweep()


def deliveries() -> None:
    """What has failed once is due at once."""
    waiting = WebhookDelivery.objects.filter(state="pending", lease_token="")
    for pk in waiting.values_list("pk", flat=True):
        waiting.filter(pk=pk).update(next_at=clock.now())
    leasing.bury()
    leasing.prune()
    delivering.deliver()


@contextmanager
def workers() -> Iterator[None]:
    """Seven processes, each of which does one thing over and over; none of them ends by itself."""
    stop = StopFlag()

    def again(work: Callable[[], object]) -> None:
        while not stop():
            work()
            time.sleep(0.01)

    def run() -> None:
        runner.run(stop=stop, idle=0.5)

    kinds = (chores, chores, endings, deliveries, deliveries, run, run)
    pids = [crashes.fork(lambda kind=kind: again(kind)) for kind in kinds]  # type: ignore[misc]  # no type for kind
    try:
        yield
    finally:
        stop.set()
        codes = [crashes.end(pid) for pid in pids]
    assert not any(codes), "a worker met an error"


def settled() -> bool:
    ended = not Batch.objects.filter(status__in=ACTIVE).exists() and not Slice.objects.exists()
    return ended and not WebhookDelivery.objects.filter(state="pending").exists()


def deadlocks() -> int:
    """That PostgreSQL has resolved so far. SQLite has one lock for all."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def agrees(batch: Batch) -> None:
    """Its rows, counters, charge, usage and files."""
    results = Result.objects.filter(batch=batch)
    assert results.count() == batch.completed + batch.failed
    assert (results.aggregate(sum=Sum("cost"))["sum"] or 0) == batch.cost
    charges = LedgerEntry.objects.filter(kind="batch_charge", reference=batch.public_id).values_list(
        "amount", flat=True
    )
    assert list(charges) == ([] if batch.status == Status.FAILED else [batch.cost])
    assert metered(batch) == {name: getattr(batch, name) for name in metering.MEASURES}
    undelivered = batch.total - batch.completed
    counts = {batch.results_file: batch.total, batch.output_file: batch.completed, batch.error_file: undelivered}
    for file, count in counts.items():
        if file is not None and file.storage_key:
            content = (Path(settings.HOME) / "files" / file.storage_key).read_bytes()
            assert content.count(b"\n") == file.lines == count, (batch, batch.status, file.filename)


def nothing_is_left(before: set[Path]) -> None:
    """No object without a row, no row without its object, nothing of what only served to run."""
    named = File.objects.exclude(storage_key="").values_list("storage_key", flat=True)
    assert stored() - before == {Path(settings.HOME) / "files" / key for key in named}
    assert not File.objects.filter(storage_key="", deleted_at=None).exists()
    assert not Submission.objects.filter(state=Submission.State.RESERVED).exists()
    assert [kind.objects.count() for kind in (Segment, Slice, Runner, Permit)] == [0] * 4


def test_everything_at_once(
    owner: Person,
    outsider: Person,
    witness: Witness,
    receiver: Receiver,
    web: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    dice, before, known = random.Random(seed), stored(), deadlocks()
    monkeypatch.setattr(leasing, "LOG_KEPT", timedelta(seconds=1))
    Tenant.objects.update(batch_limit=30, requests_per_minute=10**7, enqueued_token_limit=10**9)
    receiver.answers = dice.choices((200, 500, 410), (6, 2, 1), k=10_000)
    callers = [
        Caller(person, web, receiver, ids, random.Random(dice.random()))
        for person, count in ((owner, OWNERS), (outsider, OUTSIDERS))
        for ids in [Ids(["file-none"], ["batch_none"])]
        for _ in range(count)
    ]
    with workers():
        end = time.monotonic() + SECONDS
        with ThreadPoolExecutor(len(callers)) as pool:
            list(pool.map(lambda caller: caller.live(end), callers))
        until(settled, 120)
    answers = sum((caller.answers for caller in callers), Counter[tuple[str, int]]())
    statuses = Counter(Batch.objects.values_list("status", flat=True))
    print({act: {code: n for (name, code), n in sorted(answers.items()) if name == act} for act in ACTS})
    print(f"{answers.total()} answers, {dict(statuses)}, {len(receiver.received)} webhooks")
    print(f"5xx {sum(len(caller.faults) for caller in callers)}, deadlocks {deadlocks() - known}")
    done = {act for act, code in answers if code == 200}
    assert done >= set(ACTS) - {"retry"} and receiver.received, "it shows too little"
    assert not [fault for caller in callers for fault in caller.faults]
    assert deadlocks() == known
    told = {batch for caller in callers for batch in caller.batches} - {"batch_none"}
    assert set(Batch.objects.values_list("public_id", flat=True)) == told
    for batch in Batch.objects.select_related("results_file", "output_file", "error_file"):
        agrees(batch)
    nothing_is_left(before)
