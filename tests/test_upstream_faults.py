"""Upstreams that ask for time, are away, or answer without end, through the real engine. Figures: `pytest -s`."""

import os
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from batches.core.retrying import BACKOFF_BASE
from batches.core.states import Status
from batches.engine import runner
from batches.engine.upstream import Client
from batches.models import Result, Upstream
from tests import crashes
from tests.conftest import Person
from tests.test_adaptive import during
from tests.test_engine import ledgers_agree, numbered, submit
from tests.witness import Entry, Witness, request_line

pytestmark = pytest.mark.sqlite_only  # nothing that a second database could change
Work = Callable[..., None]


def all_completed(owner: Person, batch: Any) -> None:
    ledgers_agree(owner, batch)
    assert (batch.status, batch.failed, batch.completed) == (Status.COMPLETED, 0, batch.total)


def attempts(witness: Witness) -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in witness.log():
        found.setdefault(entry.marker, []).append(entry)
    return found


# --- Retry-After ------------------------------------------------------------------------------------------------------

ASKED = {  # what the header says -> seconds to wait at least; 0: as for none at all, a random part of a second
    "ra=1": 1.0,
    "ra=2": 2.0,
    "ra=date": 2.0,
    "ra=0": 0.0,
    "ra=-5": 0.0,
    "ra=soon": 0.0,
    "ra=1e3": 0.0,
    "ra=Infinity": 0.0,
    "ra=NaN": 0.0,
}


def test_nobody_is_asked_again_before_its_time(owner: Person, witness: Witness, work: Work) -> None:
    """429 and 503, each with a Retry-After of each kind, all in one batch; other lines go on meanwhile."""
    asked = [(f"{status}:1:{header}", wait) for status in (429, 503) for header, wait in ASKED.items()]
    lines = [request_line(str(n), custom_id=f"line:{n}", faults=[fault]) for n, (fault, _) in enumerate(asked)]
    batch = submit(owner, [*lines, *numbered(60)[len(asked) :]])
    work()
    all_completed(owner, batch)
    log, early, longest = attempts(witness), 0, 0.0
    for n, (fault, wait) in enumerate(asked):
        first, second = log[f"line:{n}"]
        waited = second.at - (first.done_at or 0.0)
        early += waited < wait
        longest = max(longest, waited - wait)
        assert waited >= wait, (fault, waited)
    print(f"{len(asked)} kinds of Retry-After: early retries {early}, at most {longest:.1f} s later than asked")


def test_an_absurd_retry_after_is_capped(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A year, and a number of 100 digits, wait as long as the cap; the date of 1970 does not wait."""
    monkeypatch.setattr("batches.core.retrying.RETRY_AFTER_CAP", 1.5)
    faults = ["429:1:ra=31536000", f"429:1:ra={'9' * 100}"]
    batch = submit(owner, [request_line(str(n), custom_id=f"line:{n}", faults=[f]) for n, f in enumerate(faults)])
    work()
    all_completed(owner, batch)
    waits = [second.at - (first.done_at or 0.0) for first, second in attempts(witness).values()]
    print(f"waited {[round(wait, 2) for wait in waits]} s at a cap of 1.5 s")
    assert min(waits) >= 1.5


def test_backoff_has_full_jitter(owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty lines that fail at once do not come back at once."""
    monkeypatch.setattr("batches.core.retrying.BUDGET_SHARE", 100.0)
    Upstream.objects.update(max_in_flight=64)
    batch = submit(owner, numbered(40, faults=["500:1"]))
    work()
    all_completed(owner, batch)
    waits = sorted(second.at - (first.done_at or 0.0) for first, second in attempts(witness).values())
    print(f"first retries after {waits[0]:.2f} to {waits[-1]:.2f} s of {BACKOFF_BASE} s")
    assert waits[0] < 0.5 * BACKOFF_BASE
    assert waits[-1] - waits[0] > 0.4 * BACKOFF_BASE


# --- away -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead() -> Upstream:
    """Nobody listens there."""
    return Upstream.objects.create(model="witness", base_url="http://127.0.0.1:1/v1", max_in_flight=32)


def test_a_dead_upstream_beside_a_healthy_one(
    owner: Person, witness: Witness, work: Work, dead: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All work moves; the dead one gets a probe now and then, and no line an attempt."""
    probes: list[float] = []
    connect = Client._connect

    async def counted(client: Client, target: Any) -> Any:
        if target.port == 1:
            probes.append(time.monotonic())
        return await connect(client, target)

    monkeypatch.setattr(Client, "_connect", counted)
    witness.configure(latency_ms=[100, 150])
    batch = submit(owner, numbered(600))
    begun = time.monotonic()
    work()
    span = time.monotonic() - begun
    all_completed(owner, batch)
    at_once = sum(probe - probes[0] < 0.3 for probe in probes)
    print(f"dead upstream: {at_once} connections at once, {len(probes) - at_once} probes in {span:.1f} s")
    assert set(Result.objects.values_list("attempts", flat=True)) == {1}
    assert set(witness.requests_by_marker().values()) == {1}
    assert at_once <= dead.max_in_flight
    assert len(probes) - at_once <= 2 + 2 * span


@pytest.mark.soak
def test_an_upstream_that_goes_away_for_a_while(owner: Person, witness: Witness, work: Work) -> None:
    """It drops all its connections and takes none: no line fails."""
    witness.configure(latency_ms=[5, 10])
    moments: list[float] = []

    def stop() -> bool:
        if not moments and Result.objects.count() >= 100:
            moments.append(time.monotonic())
            witness.configure(down=True)
        elif len(moments) == 1 and time.monotonic() - moments[0] > 1.5:
            moments.append(time.monotonic())
            witness.configure(down=False)
        return False

    batch = submit(owner, numbered(600))
    work(stop=stop)
    all_completed(owner, batch)
    assert len(moments) == 2
    most = max(Result.objects.values_list("attempts", flat=True))
    print(f"away for 1.5 s: attempts of a line at most {most}")


@pytest.mark.soak
@pytest.mark.parametrize("status", ["503", "500", "reset"])
def test_thirty_seconds_of_errors(owner: Person, witness: Witness, work: Work, status: str) -> None:
    """An upstream of 64 slots that refuses everything for 30 s: no storm, no failed line, back to full speed."""
    Upstream.objects.update(max_in_flight=64)
    witness.configure(latency_ms=[20, 40])
    batch = submit(owner, numbered(5000))
    work(stop=during(1000, 30, witness, fault_rates={status: 1.0}))
    all_completed(owner, batch)
    log = witness.log()
    bad = [entry.at for entry in log if entry.status == status]
    per_second = Counter(int(at - bad[0]) for at in bad)
    after = min(entry.at for entry in log if entry.status == "200" and entry.at > bad[-1]) - bad[0]
    steady = max(count for second, count in per_second.items() if second >= 5)
    used = Counter(Result.objects.values_list("attempts", flat=True))
    print(
        f"{status} for 30 s: {len(bad)} errors, {per_second[0]} in the first second, at most {steady} a second after"
        f" five; first good answer {after:.1f} s after the first error; attempts {dict(used)}"
    )
    assert steady <= 40
    assert max(used) <= 8


# --- answers without end ----------------------------------------------------------------------------------------------

PARTIAL = ["truncate", "truncate-chunked", "reset", "reset-headers", "reset-body", "endless", "gzip-bomb"]
GARBAGE = ["html", "empty", "null", "no-choices", "invalid-json", "nan"]
SENSELESS = ["no-usage", "usage-negative", "usage-string", "usage-huge", "usage-float"]


def test_what_is_no_whole_answer_is_never_stored_or_charged(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every attempt fails: the line fails, free of charge, and nothing of what came is in the output."""
    for name, value in {"BACKOFF_BASE": 0.01, "COOL_BASE": 0.01, "MAX_ATTEMPTS": 2, "BUDGET_SHARE": 100.0}.items():
        monkeypatch.setattr(f"batches.core.retrying.{name}", value)
    faults = PARTIAL + GARBAGE
    lines = [request_line(str(n), custom_id=f"line:{n}", faults=[fault]) for n, fault in enumerate(faults)]
    batch = submit(owner, lines)
    work()
    ledgers_agree(owner, batch)
    output = owner.lines(batch.public_id)
    stored = [line for line in output if line["response"] is not None]
    print(f"{len(faults)} kinds: partial bodies stored {len(stored)}, charged {batch.cost}")
    assert not stored and batch.cost == 0
    assert {line["error"]["code"] for line in output} == {"invalid_upstream_response", "upstream_unreachable"}
    assert (batch.completed, batch.failed) == (0, len(faults))


def test_senseless_usage_is_never_charged(owner: Person, witness: Witness, work: Work) -> None:
    """Beside one line that is charged, so that a charge could be wrong."""
    lines = [request_line(str(n), custom_id=f"line:{n}", faults=[fault]) for n, fault in enumerate(SENSELESS)]
    batch = submit(owner, [*lines, request_line("9", custom_id=f"line:{len(lines)}")])
    work()
    batch.refresh_from_db()
    charged = Result.objects.exclude(cost=0)
    wrong = charged.exclude(line=len(SENSELESS) + 1).count()
    print(f"{len(SENSELESS)} kinds of senseless usage: wrong charges {wrong}")
    assert wrong == 0 and charged.get().cost == batch.cost
    assert set(Result.objects.filter(line__lte=len(SENSELESS)).values_list("flag", flat=True)) == {"usage_missing"}


def test_a_total_deadline_cuts_what_never_ends(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadline = 1.0
    monkeypatch.setattr("batches.core.retrying.MAX_ATTEMPTS", 1)
    monkeypatch.setattr(Client.__init__, "__defaults__", (deadline, lambda: True))
    faults = ["drip", "slow-headers", "hang"] * 4
    lines = [request_line(str(n), custom_id=f"line:{n}", faults=[fault]) for n, fault in enumerate(faults)]
    batch = submit(owner, lines)
    work()
    ledgers_agree(owner, batch)
    assert {line["error"]["code"] for line in owner.lines(batch.public_id)} == {"request_timeout"}
    overrun = max(Result.objects.values_list("latency_ms", flat=True)) / 1000 - deadline
    print(f"{len(faults)} answers without end: overrun at most {overrun:.2f} s of {deadline} s")
    assert 0 <= overrun < deadline
    witness.until(lambda stats: stats["in_flight"] == 0)


def peak() -> float:
    """MB that this process has ever had in memory."""
    with open("/proc/self/status") as status:
        found = re.search(r"VmHWM:\s+(\d+)", status.read())
    assert found
    return int(found[1]) / 1024


def test_bombs_and_endless_bodies_fit_in_memory(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight at once, of 300 MB and of no end, in a runner whose memory is looked at."""
    monkeypatch.setattr("batches.core.retrying.MAX_ATTEMPTS", 1)
    Upstream.objects.update(max_in_flight=8)
    faults = ["gzip-bomb", "endless"] * 4
    batch = submit(owner, [request_line(str(n), custom_id=f"line:{n}", faults=[f]) for n, f in enumerate(faults)])
    reading, writing = os.pipe()

    def run() -> None:
        before = peak()
        runner.run(stop=lambda: False, idle=0.05)
        os.write(writing, f"{peak() - before:.0f}".encode())

    assert crashes.end(crashes.fork(run)) == 0
    grown = int(os.read(reading, 100))
    os.close(reading)
    os.close(writing)
    batch.refresh_from_db()
    print(f"8 bodies of 300 MB or no end: peak memory grew by {grown} MB")
    assert batch.failed == 8
    assert grown <= 8 * 2 * 32 + 64, "each may hold a body of 32 MB, and once more while it is put together"


def test_no_redirect_is_followed_and_no_proxy_is_used(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    batch = submit(owner, numbered(5, faults=["redirect"]) + numbered(10)[5:])
    work()
    ledgers_agree(owner, batch)
    assert (batch.completed, batch.failed) == (5, 5)
    assert "trap" not in witness.requests_by_marker()
    assert {line["error"]["code"] for line in owner.lines(batch.public_id, "errors")} == {"upstream_redirect"}
