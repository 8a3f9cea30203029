"""A database from yesterday and files from today: noticed, and nothing is sent, charged or deleted until it is decided."""

import io
import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from batches import marks, objects, orphans, sweeping, tasks
from batches.core.marks import Mark as Position
from batches.core.marks import difference
from batches.engine import runner
from batches.engine.supply import Supply
from batches.models import Batch, File, Manifest, Result, Upstream, WebhookDelivery
from billing import invoicing
from billing import tasks as billing_tasks
from billing.models import Invoice, LedgerEntry
from billing.stripe import comparing
from tenants import clock, holding
from tenants.models import AuditEvent, Mark
from tests import hooks
from tests.conftest import Person, seal, step
from tests.fakestripe import FakeStripe
from tests.stripes import OCTOBER, USD, post
from tests.test_engine import numbered, when
from tests.test_invoices import charge, taken
from tests.test_reconcile import reconcile
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness, request_line
from tests.yesterday import Yesterday

Work = Callable[..., None]


def hold(*words: str) -> list[dict[str, Any]]:
    out = io.StringIO()
    reason = () if words[0] == "report" else ("--reason", "restored on Sunday")
    call_command("hold", *words, *reason, stdout=out, stderr=io.StringIO())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def held() -> str:
    return Mark.objects.values_list("held_why", flat=True).get()


def about(documents: list[dict[str, Any]], batch: str) -> dict[str, Any]:
    return next(each for each in documents if each.get("batch") == batch)


def stored() -> set[str]:
    return {key for kind in orphans.KINDS for key in objects.keys(kind)}


@pytest.fixture(autouse=True)
def emptied(settings: Any) -> None:
    """A storage without what other tests left."""
    for kind in orphans.KINDS:
        shutil.rmtree(settings.HOME / "files" / kind, ignore_errors=True)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep of orphans spares nothing for its age."""
    monkeypatch.setattr(orphans, "AGE", timedelta(0))


def begin(owner: Person, count: int, faults: tuple[str, ...] = ()) -> str:
    """A batch with its plan, of which nothing was sent."""
    lines = [
        request_line(f"{count}-{n}", custom_id=f"c{n}", faults=list(faults) if n == 3 else []) for n in range(count)
    ]
    batch: str = owner.submit(lines).json()["id"]
    step("validating", tasks.validate)
    return batch


def answered(witness: Witness) -> int:
    return sum(witness.requests_by_marker().values())


def try_everything(work: Work) -> None:
    """What the service does by itself, as it starts and goes on."""
    sweeping.sweep()
    work()
    seal()
    tasks.remove_orphans()
    tasks.deliver()


@pytest.mark.sqlite_only
def test_without_the_guard_it_is_all_done_again(
    owner: Person, witness: Witness, work: Work, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the story below has teeth."""
    monkeypatch.setattr(marks, "look", lambda: True)
    monkeypatch.setattr(marks, "tick", lambda: True)
    batch = begin(owner, 7)
    yesterday = Yesterday()
    work()
    late = owner.submit(numbered(1)).json()["id"]
    key = Batch.objects.get(public_id=late).input_file.storage_key
    files = stored()
    yesterday.restore()
    try_everything(work)
    assert (answered(witness), owner.batch(batch)["status"]) == (14, "completed")
    assert key in files and key not in stored()


def test_yesterdays_database_does_nothing_until_it_is_decided(
    owner: Person, witness: Witness, work: Work, soon: None, receiver: Any
) -> None:
    hooks.endpoint(owner, receiver.url)
    adopted, again, back = begin(owner, 12, ("400",)), begin(owner, 7), begin(owner, 5)
    sweeping.sweep()  # the mark
    yesterday = Yesterday()
    work()
    seal()
    outputs = {batch: owner.lines(batch) for batch in (adopted, again, back)}
    cost = owner.batch(adopted)["cost"]["usd"]
    owner.submit(numbered(3))  # of which yesterday knows nothing
    files, sent = stored(), answered(witness)

    yesterday.restore()
    try_everything(work)
    assert (held(), answered(witness), stored()) == ("database_older", sent, files)
    assert not LedgerEntry.objects.exists() and not WebhookDelivery.objects.exists() and not Result.objects.exists()
    refused = owner.submit(numbered(1))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "service_held")
    assert owner.batch(adopted)["status"] == "in_progress", "who reads is answered"
    assert owner.client.get("/readyz").json() == {"status": "ok", "held": "database_older"}

    report = hold("report")
    assert report[0]["storage"]["mark"] > report[0]["database"]["mark"]
    assert [about(report, batch)["would_be_sent"] for batch in (adopted, again, back)] == [12, 7, 5]
    assert all(about(report, batch)["results"] for batch in (adopted, again, back))
    unknown = {each["unknown_objects"]: each["count"] for each in report if "unknown_objects" in each}
    assert unknown == {"inputs": 1, "results": 5, "receipts": 3}
    with pytest.raises(CommandError, match="3 batches are not decided about"):
        hold("release")

    [done] = hold("adopt", adopted)
    assert (done["status"], done["same"], done["completed"], done["failed"]) == ("completed", True, 11, 1)
    assert owner.lines(adopted) == outputs[adopted]
    assert owner.batch(adopted)["cost"]["usd"] == cost
    assert [hold("send-again", again)[0]["status"], hold("hand-back", back)[0]["status"]] == [
        "in_progress",
        "cancelled",
    ]
    assert (answered(witness), LedgerEntry.objects.count()) == (sent, 2)
    assert hold("release")[0]["hold"] is None

    try_everything(work)
    assert answered(witness) == sent + 7, "what was sent again, and nothing else"
    assert [owner.batch(batch)["status"] for batch in (adopted, again, back)] == ["completed", "completed", "cancelled"]
    assert [line["error"]["code"] for line in owner.lines(back)] == ["batch_cancelled"] * 5
    charges = {entry.reference: entry.amount for entry in LedgerEntry.objects.all()}
    assert charges == {batch.public_id: batch.cost for batch in Batch.objects.all()} and charges[back] == 0
    assert reconcile() == []
    actions = AuditEvent.objects.filter(tenant=owner.tenant).values_list("action", flat=True)
    assert {"batch.adopted", "batch.sent_again", "batch.handed_back"} <= set(actions)
    assert files <= stored(), "what rows of the lost day named is kept for a month"
    named = set(File.objects.exclude(storage_key="").values_list("storage_key", flat=True))
    assert named <= stored()


def test_a_copy_of_the_database_with_the_same_storage_is_noticed(owner: Person) -> None:
    sweeping.sweep()
    copy = Yesterday()
    marks.move()
    copy.restore()
    assert not marks.look() and held() == "database_older"
    with holding.deciding():
        assert marks.release("me", "it is this one")
    assert marks.look()
    Mark.objects.update(token="0" * 16)  # another copy moved on to the same number
    assert not marks.look() and held() == "database_forked"


def test_a_storage_that_lost_its_mark_is_another_one(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(marks, "OFTEN", timedelta(0))
    for _ in range(3):
        sweeping.sweep()
    for key in list(objects.keys(marks.FOLDER)):
        objects.delete(key)
    assert not marks.look() and held() == "storage_older"
    batch = owner.get("/v1/batch").json()
    assert batch["data"] == []


def test_a_storage_without_a_mark_is_the_first_starts(owner: Person) -> None:
    """Also after an upgrade; what a storage could not take is no reason to hold."""
    assert marks.look() and not Mark.objects.exists()
    sweeping.sweep()
    assert [mark.number for mark in marks.stored()] == [1] == [Mark.objects.get().number]
    for key in list(objects.keys(marks.FOLDER)):  # a write that was lost
        objects.delete(key)
    assert marks.look()


def test_a_storage_that_fails_stops_no_process_that_has_compared(
    owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: str) -> list[str]:
        raise OSError("away")

    monkeypatch.setattr(marks, "_compared", Event())
    with monkeypatch.context() as away:
        away.setattr(objects, "names", fail)
        assert not marks.look(), "nobody knows yet"
    assert marks.look()
    monkeypatch.setattr(objects, "names", fail)
    assert marks.look() and holding.held() is None


def test_hosts_that_move_the_mark_at_once_hold_nobody(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment between a commit and the storage's write is long enough for others to come between."""
    monkeypatch.setattr(marks, "OFTEN", timedelta(0))
    monkeypatch.setattr("batches.marks.clock.now", slowly(clock.now))

    def move(_: int) -> None:
        for turn in range(10):
            (marks.move if turn % 2 else marks.tick)()
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(4)))
    assert holding.held() is None
    top, row = marks.stored()[-1], Mark.objects.get()
    assert (top.number, top.token) == (row.number, row.token) and top.number >= 10


def slowly(now: Callable[[], Any]) -> Callable[[], Any]:
    def slow() -> Any:
        time.sleep(0.002)
        return now()

    return slow


def test_the_storage_is_read_before_the_database(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host may come between the two readings."""
    sweeping.sweep()
    stored, looked = marks.stored, []

    def other_host_moves() -> Any:
        found = stored()
        looked.append(holding.row())
        marks._advance(looked[-1])
        return found

    monkeypatch.setattr(marks, "stored", other_host_moves)
    assert marks.look() and holding.held() is None
    own = looked[0]  # the other way round it would have held
    assert difference(Position(own.number, own.token), own.anchor, stored()) == "database_older"


def in_october(owner: Person, batch: str, pico: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clock, "now", lambda: datetime(2026, 10, 5, tzinfo=UTC))
        charge(owner, batch, taken("a", OCTOBER, pico))


@pytest.mark.postgres_first
def test_a_month_that_stripe_has_is_not_billed_again(owner: Person, stripe: FakeStripe) -> None:
    """What was made and sent after the backup is found there, by the month, and taken over: with its customer."""
    in_october(owner, "batch_1", 4 * USD)
    sweeping.sweep()
    yesterday = Yesterday()
    invoicing.close_all()
    billing_tasks.send_invoices()
    marks.move()
    [sent] = stripe.objects.of("invoice")
    before = Invoice.objects.get().public_id
    yesterday.restore()
    assert not marks.look()
    billing_tasks.close_months()
    billing_tasks.send_invoices()
    event = {"type": "invoice.paid", "id": "evt_1"}
    assert post(event) == 503 and not Invoice.objects.exists()
    hold("release")
    billing_tasks.close_months()
    billing_tasks.send_invoices()
    invoice = Invoice.objects.get()
    assert (invoice.stripe_id, bool(invoice.sent_at), invoice.public_id == before) == (sent["id"], True, False)
    assert [len(stripe.objects.of(kind)) for kind in ("customer", "invoice", "invoiceitem")] == [1, 1, 1]
    assert list(comparing.findings()) == []


@pytest.mark.postgres_first
def test_a_month_of_another_sum_waits_for_somebody(owner: Person, stripe: FakeStripe) -> None:
    in_october(owner, "batch_1", 4 * USD)
    sweeping.sweep()
    yesterday = Yesterday()
    in_october(owner, "batch_2", 3 * USD)
    invoicing.close_all()
    billing_tasks.send_invoices()
    marks.move()
    yesterday.restore()
    assert not marks.look()
    report = hold("report")
    hold("release")
    billing_tasks.close_months()
    billing_tasks.send_invoices()
    assert len(stripe.objects.of("invoice")) == 1
    assert "of this month, of 7 USD" in Invoice.objects.get().send_error
    assert report[0]["hold"]["why"] == "database_older"


def outcome(owner: Person, batch: str) -> tuple[Any, ...]:
    found = owner.batch(batch)
    seen = ("status", "completed_count", "failed_count", "usage", "cost", "request_counts")
    return (*(found[name] for name in seen), owner.lines(batch))


@pytest.mark.postgres_first
@pytest.mark.parametrize(
    "how",
    [
        "cancelled",
        "skipping",
        *(pytest.param(how, marks=pytest.mark.soak) for how in ("not validated", "half run", "finalizing")),
    ],
)
def test_adopted_batches_end_as_they_had(
    how: str, owner: Person, witness: Witness, work: Work, small_groups: None
) -> None:
    """Whatever was committed before the backup, and however they ended."""
    Upstream.objects.update(max_in_flight=8)
    last = ["sleep-2000"] if how == "cancelled" else []  # more than are in flight: some never run
    faults = [["400"] if n % 9 == 3 else last if n >= 45 else [] for n in range(60)]
    lines = [request_line(str(n), custom_id=f"c{n}", faults=faults[n]) for n in range(60)]
    fields = {"on_invalid_line": "skip"} if how == "skipping" else {}
    batch = owner.submit([*lines[:30], *([b"{no json"] if fields else []), *lines[30:]], **fields).json()["id"]
    if how != "not validated":
        step("validating", tasks.validate)
    if how in ("half run", "cancelled"):
        witness.configure(latency_ms=[100, 110])
        runner.run(stop=lambda: Result.objects.count() >= 16, idle=0.21)
        assert 0 < Result.objects.count() < 60
    if how == "finalizing":
        runner.run(idle=0.21)
    sweeping.sweep()
    yesterday = Yesterday()
    if how == "cancelled":
        runner.run(stop=when(32, lambda: owner.post(f"/v1/batch/{batch}/cancel")), idle=0.21)
    work()
    seal()
    before, sent = outcome(owner, batch), answered(witness)
    manifest = Manifest.objects.get().signed
    assert before[0] == ("cancelled" if how == "cancelled" else "completed")
    assert (Result.objects.count() < 60) == (how == "cancelled")

    yesterday.restore()
    try_everything(work)
    if how == "finalizing":  # nothing of it would be sent: it needs no decision
        hold("release")
        step("finalizing", tasks.finalize)
        seal()
    else:
        [done] = hold("adopt", "--all")
        assert done["same"] and done["object"].startswith("results/")
    assert (outcome(owner, batch), answered(witness)) == (before, sent)
    assert account(Manifest.objects.get().signed) == account(manifest)
    assert reconcile() == []


def account(manifest: str) -> dict[str, Any]:
    """What was signed, without ids and moments that are new, and without the receipts, which name attempts."""
    signed: dict[str, Any] = json.loads(manifest)
    files = {name: file and file["sha256"] for name, file in signed.pop("files").items() if name != "receipts"}
    return {name: signed[name] for name in ("batch_id", "lines", "totals", "models", "ledger")} | files


@pytest.mark.postgres_first
def test_results_of_another_batch_or_another_answer_are_refused(owner: Person, witness: Witness, work: Work) -> None:
    batch = begin(owner, 6)
    sweeping.sweep()
    yesterday = Yesterday()
    work()
    seal()
    key = Batch.objects.get().results_file.storage_key  # type: ignore[union-attr]
    yesterday.restore()
    assert not marks.look()
    good = b"".join(objects.chunks(key))
    first, second, *rest = good.splitlines(keepends=True)
    for bad, why in (
        (good.replace(b'"custom_id":"c2"', b'"custom_id":"c9"'), "is not as this version writes it"),
        (b"".join([first, *rest, second]), "is not this batch's"),
    ):
        objects.delete(key)
        with objects.Writer(key) as writer:
            writer.write(bad)
        err = io.StringIO()
        with pytest.raises(CommandError, match="1 of 1 batches are not decided"):
            call_command("hold", "adopt", batch, "--reason", "r", stdout=io.StringIO(), stderr=err)
        assert why in err.getvalue()
        assert not Result.objects.exists() and not LedgerEntry.objects.exists()
    objects.delete(key)
    err = io.StringIO()
    with pytest.raises(CommandError):
        call_command("hold", "adopt", batch, "--reason", "r", stdout=io.StringIO(), stderr=err)
    assert "has no whole results" in err.getvalue()


@pytest.mark.postgres_first
@pytest.mark.parametrize("guarded", [True, False])
def test_a_runner_whose_database_was_away_compares_before_it_claims(
    guarded: bool, owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was restored meanwhile, and no sweep has noticed yet."""
    monkeypatch.setattr("batches.engine.leases.HEARTBEAT", 0.05)  # its row is gone, too: it registers anew
    begin(owner, 6)
    sweeping.sweep()
    yesterday = Yesterday()
    work()
    sent, claim = answered(witness), Supply.claim
    restored: list[bool] = []

    def breaks(supply: Supply, row: Any) -> None:
        if not restored:
            yesterday.restore()
            restored.append(True)
            raise OperationalError("the connection was lost")
        claim(supply, row)

    monkeypatch.setattr(Supply, "claim", breaks)
    if not guarded:
        monkeypatch.setattr(marks, "look", lambda: True)
    runner.run(idle=1.5)
    assert restored and (answered(witness) == sent) == guarded
    assert (holding.held() is not None) == guarded
