"""Results by a cursor: who follows last_seq has every line once, byte for byte, whatever happens meanwhile."""

import json
from typing import Any

import pytest

from batches import cursor, objects, tasks
from batches.api import live
from batches.engine import runner
from batches.models import Batch, File, Result, Segment, Upstream
from tenants import clock
from tests.conftest import Person, step
from tests.test_engine import Work, numbered, submit, when
from tests.test_pause import code
from tests.test_skip import GOOD, skip
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

ENDED = ("completed", "failed", "cancelled")


class Follower:
    """A client that asks for what is new, again and again. Also a runner's `stop`, which is never true."""

    def __init__(self, person: Person, batch: str, limit: int = 100) -> None:
        self.person, self.batch, self.limit = person, batch, limit
        self.after, self.status, self.more = 0, "", False
        self.pages: list[bytes] = []
        self.seen: list[dict[str, Any]] = []

    def __call__(self) -> bool:
        answer = self.person.get(f"/v1/batch/{self.batch}/results?after={self.after}&limit={self.limit}")
        assert answer.status_code == 200, answer.content
        assert answer["Content-Type"] == "application/json"
        page = answer.json()
        assert set(page) == {"object", "data", "last_seq", "has_more", "status"} and page["object"] == "list"
        seqs = [entry["seq"] for entry in page["data"]]
        assert seqs == list(range(self.after + 1, self.after + 1 + len(seqs)))
        assert len(seqs) <= self.limit and page["last_seq"] == self.after + len(seqs)
        assert seqs or not page["has_more"]
        self.after, self.status, self.more = page["last_seq"], page["status"], page["has_more"]
        if seqs:
            self.pages.append(answer.content)
            self.seen += page["data"]
        return False

    def to_the_end(self) -> None:
        self()
        while self.more:
            self()
        assert self.status in ENDED

    def has_the_output(self) -> None:
        """Each line of the output that was run, once and byte for byte."""
        file = b"".join(self.person.get(f"/v1/batch/{self.batch}/output").streaming_content)
        of_line = {entry["line"]: entry for entry in self.seen}
        assert len(of_line) == len(self.seen) == Result.objects.filter(batch__public_id=self.batch).count()
        pages = b"".join(self.pages)
        for number, line in enumerate(file.splitlines(), 1):
            if number in of_line:
                assert pages.count(b'{"seq":%d,"line":%d,%b' % (of_line[number]["seq"], number, line[1:])) == 1


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pump.FLUSH_RESULTS", "pump.AHEAD_RESULTS", "committing.GROUP_RESULTS"):
        monkeypatch.setattr(f"batches.engine.{name}", 20)


def test_who_follows_a_running_batch_has_every_line_once(owner: Person, witness: Witness, work: Work) -> None:
    witness.configure(latency_ms=[5, 20])
    lines = [request_line(str(n), custom_id=f"ü{n}", faults=["400"] if n % 7 == 0 else []) for n in range(300)]
    batch = submit(owner, lines).public_id
    follower, slow = Follower(owner, batch, limit=33), Follower(owner, batch, limit=1)

    def look() -> bool:
        return follower() or slow()

    work(stop=look)
    assert 0 < slow.after < follower.after and len(follower.pages) > 5, "while it ran"
    for reader in (follower, slow):
        reader.limit = 100
        reader.to_the_end()
        assert reader.after == 300 and reader.status == "completed"
        reader.has_the_output()
    late = Follower(owner, batch, limit=1000)
    late.to_the_end()
    assert late.seen == follower.seen


@pytest.mark.sqlite_first
def test_lines_that_were_never_run_are_not_among_them(owner: Person, witness: Witness, work: Work) -> None:
    Upstream.objects.create(model="away", base_url=witness.base_url, enabled=False)
    lines = [request_line(str(n), model=("away", "witness", "witness")[n % 3]) for n in range(150)]
    batch = submit(owner, [b"", *lines, b""])
    work(stop=when(60, lambda: owner.post(f"/v1/batch/{batch.public_id}/cancel")))
    batch.refresh_from_db()
    assert batch.status == "cancelled" and 60 <= batch.last_seq <= 100
    follower = Follower(owner, batch.public_id, limit=50)
    follower.to_the_end()
    assert follower.after == batch.last_seq
    outputs = {line["custom_id"]: line for line in owner.lines(batch.public_id)}
    assert len(outputs) == 150
    for entry in follower.seen:
        line = outputs[str(entry.pop("line") - 2)]
        assert {**line, "seq": entry["seq"]} == entry


def test_segments_that_go_while_they_are_read(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = submit(owner, numbered(60))
    runner.run(stop=lambda: False, idle=0.1)
    assert Segment.objects.count() > 1
    rows = cursor._rows

    def then_it_ends(*args: Any) -> Any:
        found = rows(*args)
        step("finalizing", tasks.finalize)
        assert not Segment.objects.exists()
        return found

    monkeypatch.setattr(cursor, "_rows", then_it_ends)
    follower = Follower(owner, batch.public_id, limit=45)
    follower()
    assert (follower.status, follower.after, follower.more) == ("in_progress", 45, True)
    monkeypatch.setattr(cursor, "_rows", rows)
    monkeypatch.setattr(cursor, "GAP", 0)  # now each line by itself
    follower.to_the_end()
    assert follower.status == "completed"
    follower.has_the_output()


@pytest.mark.sqlite_only
def test_pages_end_early_but_never_empty(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = skip(owner, [b"{", GOOD, *numbered(20)])
    step("validating", tasks.validate)
    first = Follower(owner, batch.public_id)
    first()
    assert [(entry["seq"], entry["line"], entry["error"]["code"]) for entry in first.seen] == [
        (1, 1, "invalid_json_line")
    ]
    work(stop=first)
    for most in (1, 1500):
        monkeypatch.setattr(cursor, "PAGE_BYTES", most)
        follower = Follower(owner, batch.public_id)
        follower.to_the_end()
        assert len(follower.pages) == 22 if most == 1 else 2 < len(follower.pages) < 22
        follower.has_the_output()


@pytest.mark.sqlite_only
def test_results_that_are_stored_no_more(owner: Person, witness: Witness, work: Work) -> None:
    batch = submit(owner, numbered(3))
    work()
    path = f"/v1/batch/{batch.public_id}/results"
    results = File.objects.filter(filename__contains="_results")
    for change, back in (
        ({"deleted_at": clock.now()}, {"deleted_at": None}),
        ({"expires_at": clock.now()}, {"expires_at": None}),
    ):
        results.update(**change)
        assert code(owner.get(path), 410) == "file_expired"
        results.update(**back)
    assert owner.get(path).json()["last_seq"] == 3
    assert owner.get(f"{path}?after=3").json() == {
        "object": "list", "data": [], "last_seq": 3, "has_more": False, "status": "completed",
    }  # fmt: skip
    objects.delete(results.get().storage_key)
    assert code(owner.get(path), 410) == "file_expired"
    Result.objects.all().delete()
    assert code(owner.get(path), 410) == "file_expired"
    assert owner.get(f"{path}?after=3").status_code == 200


@pytest.mark.sqlite_only
def test_queries_and_batches_without_results(
    owner: Person, outsider: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = owner.submit([b"{"]).json()["id"]
    path = f"/v1/batch/{batch}/results"
    assert owner.get(path).json()["status"] == "validating"
    work()
    assert owner.get(path).json() == {
        "object": "list",
        "data": [],
        "last_seq": 0,
        "has_more": False,
        "status": "failed",
    }
    assert owner.get(f"{path}?after=1000000000").json()["last_seq"] == 1_000_000_000
    for query in ("after=-1", "after=x", "after=%C2%B2", "after=", "after=1000000001", "after=" + "9" * 5000):
        assert code(owner.get(f"{path}?{query}"), 400) == "invalid_after"
    for query in ("limit=0", "limit=1001", "limit=1e2", "limit=" + "1" * 5000):
        assert code(owner.get(f"{path}?{query}"), 400) == "invalid_limit"
    assert code(owner.get(f"{path}?after=1&after=2"), 400) == "duplicate_parameter"
    assert code(owner.get(f"{path}?partial=true"), 400) == "unsupported_parameter"
    assert code(outsider.get(path), 404) == "batch_not_found"
    assert code(owner.post(path), 405) == "method_not_allowed"
    assert Batch.objects.get().last_seq == 0
    for _ in range(live.PAGES):
        live._places.acquire()
    assert code(owner.get(path), 503) == "too_many_transfers"
    live._places.release(live.PAGES)
    assert json.loads(owner.get(path).content)["data"] == []
