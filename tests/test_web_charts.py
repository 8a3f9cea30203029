"""What the database makes of results for pages, on either database: the charts' sums, the speed, the search."""

import math
import os
import random
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from batches.models import Result
from batches.web import charts, listing, watching
from tests.conftest import Person
from tests.test_web import make_batches
from tests.test_web_batch import results, running

COUNT = int(os.environ.get("LINES", "2000"))


def two(number: int) -> int:
    """Its first two digits."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return number // unit * unit


def test_charts_are_added_up_by_the_database(owner: Person) -> None:
    """As by hand: each line in its stretch of time, percentiles of those that were sent, to two digits."""
    batch, other = running(owner, COUNT), running(owner, COUNT)
    results(batch, COUNT, 589)
    results(other, 50, 589)
    dice = random.Random(2)
    skipped = list(Result.objects.filter(batch=batch, line__lte=20))
    for row in skipped:
        row.upstream_id, row.latency_ms, row.error_code = None, 0, "invalid_json"
        row.finished_at -= timedelta(seconds=dice.randrange(100))  # before the beginning, too
    Result.objects.bulk_update(skipped, ["upstream_id", "latency_ms", "error_code", "finished_at"])
    assert batch.in_progress_at
    began = time.perf_counter()
    rows = charts.added(batch, batch.in_progress_at, 10.0)
    print(f"{connection.vendor}: {COUNT} results in {time.perf_counter() - began:.3f} s")
    expected: dict[int, list[Result]] = {}
    for result in Result.objects.filter(batch=batch):
        seconds = (result.finished_at - batch.in_progress_at).total_seconds()
        expected.setdefault(min(max(math.floor(seconds / 10), 0), 59), []).append(result)
    near = 0
    for bucket, good, failed, *tokens, median, slow in rows:
        those = expected[bucket]
        sent = sorted(row.latency_ms for row in those if row.upstream_id)
        if good + failed != len(those):  # one at the very edge: SQLite reckons in days
            near += 1
            continue
        assert good == sum(not row.error_code for row in those)
        assert tokens == [
            sum(getattr(row, f"{name}_tokens") for row in those) for name in ("input", "cached", "output")
        ]
        assert (median, slow) == tuple(two(sent[math.ceil(len(sent) * share) - 1]) for share in (0.5, 0.95))
    assert [row[0] for row in rows] == sorted(expected) and near <= 4 + COUNT // 5000
    assert sum(row[1] + row[2] for row in rows) == COUNT


@pytest.mark.parametrize("seconds", [30, 600])
def test_speed_is_that_of_the_last_minute(owner: Person, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, other = (running(owner, 10_000, since=seconds) for _ in range(2))
    results(batch, 1200, seconds)
    results(other, 400, seconds)
    found = watching.batch(owner.tenant, batch.public_id)
    assert watching.speed(found, timezone.now()) == pytest.approx(1200 / seconds, rel=0.3)
    monkeypatch.setattr(watching, "RECENT", 200)
    found = watching.batch(owner.tenant, batch.public_id)
    assert watching.speed(found, timezone.now()) == 0, "all of the latest are another's"


def test_names_are_searched_as_they_are_written(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "LOOKED", 3)
    for name in ("old-a.jsonl", "b.jsonl", r"50%_\a.jsonl", "A.jsonl"):
        make_batches(owner.tenant, filename=name)
    for sought, wanted in (("a", 2), ("%_\\", 1), ("_", 1), ("old", 0), ("x" * 255, 0), ("\ufffd", 0)):
        asked = listing.Asked("", "", sought, "")
        found = [batch.input_file.filename for batch in listing._found(owner.tenant, asked) if batch.pk]
        assert len([name for name in found if sought.lower() in name.lower()]) == len(found) == wanted, sought
