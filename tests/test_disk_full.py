"""No room: for the upload, in the database, for the output. Nothing is acknowledged that is not stored, and all goes on
by itself when there is room again."""

import errno
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.signals import connection_created

from batches import objects, tasks
from batches.core.states import Status
from batches.engine import runner
from batches.engine.commit import commit
from batches.models import Batch, File, Result, Segment
from tests import crashes
from tests.conftest import Person, step
from tests.test_engine import ledgers_agree, numbered, submit
from tests.witness import Witness, request_line

Work = Callable[..., None]
MB = 1024 * 1024


def limited(size: int, work: Callable[[], object]) -> None:
    """Do `work` in a process none of whose files may grow beyond `size` bytes."""

    def inside() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        work()

    assert crashes.end(crashes.fork(inside)) == 0


def stored() -> set[Path]:
    return {path for path in (Path(settings.HOME) / "files").rglob("*") if path.is_file()}


def refused(owner: Person, lines: list[Any]) -> None:
    answer = owner.submit(lines)
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "server_error"


# --- the upload -------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
@pytest.mark.parametrize("size", [12 * MB, 8 * MB + 100_000])
def test_no_room_for_the_upload(size: int, owner: Person, witness: Witness) -> None:
    """Also when only the last bytes, that wait in a buffer, find none."""
    before, lines = stored(), [request_line("1", pad=size)]
    limited(8 * MB, lambda: refused(owner, lines))
    assert stored() == before, "what was written so far takes the room of others"
    assert not Batch.objects.exists() and not File.objects.exists()
    assert owner.submit(lines).status_code == 200


@pytest.mark.sqlite_only
def test_an_object_whose_last_bytes_find_no_room_is_gone() -> None:
    def write() -> None:
        with pytest.raises(OSError, match="too large"), objects.Writer(objects.fresh_key("results")) as writer:
            writer.write(bytes(100_000))

    before = stored()
    limited(50_000, write)
    assert stored() == before


# --- the database -----------------------------------------------------------------------------------------------------

FULL = """
CREATE FUNCTION no_room() RETURNS trigger AS $$ BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$ LANGUAGE plpgsql;
CREATE TRIGGER no_room BEFORE INSERT ON batches_segment EXECUTE FUNCTION no_room();
CREATE TRIGGER no_room BEFORE INSERT ON batches_file EXECUTE FUNCTION no_room();
"""


def execute(query: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone() if cursor.description else None


PAGES = [2**31]  # that SQLite's file may have


@pytest.fixture(autouse=True)
def _commits_have_a_connection_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's limit is a connection's: the one that commits is told before each commit."""

    def in_room(group: Any) -> None:
        if connection.vendor == "sqlite":
            execute(f"PRAGMA max_page_count = {PAGES[0]}")
        commit(group)

    monkeypatch.setattr("batches.engine.committing.commit", in_room)


@contextmanager
def full_database() -> Iterator[None]:
    """SQLite may not grow by a page; PostgreSQL says what it says on a full disk."""
    if connection.vendor == "postgresql":
        execute(FULL)
        yield
        execute("DROP FUNCTION no_room CASCADE")
        return
    execute("VACUUM")
    (pages,) = execute("PRAGMA page_count")

    def limit(**_: Any) -> None:
        execute(f"PRAGMA max_page_count = {pages}")

    connection_created.connect(limit)
    PAGES[0] = pages
    limit()
    yield
    PAGES[0] = 2**31
    connection_created.disconnect(limit)
    execute(f"PRAGMA max_page_count = {2**31}")


def test_no_room_in_the_database_for_a_batch(owner: Person, witness: Witness, work: Work) -> None:
    acknowledged, lines = [], numbered(2)
    with full_database():
        for _ in range(200):
            answer = owner.submit(lines)
            if answer.status_code != 200:
                break
            acknowledged.append(answer.json()["id"])
            Batch.objects.update(status=Status.FAILED)  # a free place for the next
        refused(owner, lines)
    Batch.objects.update(status=Status.VALIDATING)
    assert list(Batch.objects.order_by("pk").values_list("public_id", flat=True)) == acknowledged
    batch = owner.submit(lines).json()["id"]
    work()
    assert owner.batch(batch)["status"] == "completed"


def test_no_room_in_the_database_for_results(owner: Person, witness: Witness, work: Work) -> None:
    """The runner keeps what it has, sends nothing more, and stores it when there is room."""
    witness.configure(latency_ms=[5, 10])
    batch = submit(owner, numbered(1500))
    moments: list[float] = []
    sent: list[int] = []
    room = full_database()

    def stop() -> bool:
        if not moments and Result.objects.count() >= 100:
            room.__enter__()
            moments.append(time.monotonic())
        elif len(moments) == 1 and time.monotonic() - moments[0] > 1.5:
            sent.append(witness.stats()["requests"])
            moments.append(time.monotonic())
        elif len(moments) == 2 and time.monotonic() - moments[1] > 0.5:
            sent.append(witness.stats()["requests"])
            room.__exit__(None, None, None)
            moments.append(time.monotonic())
        return False

    work(stop=stop)
    assert len(moments) == 3, "it was never full: the test shows nothing"
    ledgers_agree(owner, batch)
    assert (batch.status, batch.completed) == (Status.COMPLETED, 1500)
    print(f"no room for {moments[2] - moments[0]:.1f} s; sent meanwhile {sent[1] - sent[0]}, sent again 0")
    assert sent[0] == sent[1] < 1500
    assert set(witness.requests_by_marker().values()) == {1}


# --- the output -------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(owner: Person, witness: Witness) -> Batch:
    """A batch whose lines have all been run; two of its 200 have failed."""
    witness.configure(tokens=40_000)
    lines = [request_line(str(n), custom_id=f"line:{n}", faults=["400"] if n < 2 else []) for n in range(200)]
    batch = submit(owner, lines)
    runner.run(stop=lambda: False, idle=0.05)
    batch.refresh_from_db()
    assert batch.status == Status.FINALIZING
    return batch


def no_room(after: int) -> Callable[[Any, bytes], None]:
    """objects.Writer.write of a disk that is full after so many writes."""
    write, left = objects.Writer.write, [after]

    def full(writer: objects.Writer, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(writer, data)

    return full


@pytest.mark.sqlite_only
@pytest.mark.parametrize("where", ["spool", "results", "output"])
def test_no_room_for_the_output(where: str, owner: Person, ready: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored()
    if where == "spool":
        limited(16 * MB, lambda: tasks.finalize(ready.pk))
    else:
        with monkeypatch.context() as patched:
            patched.setattr(objects.Writer, "write", no_room(100 if where == "results" else 205))
            tasks.finalize(ready.pk)
    ready.refresh_from_db()
    assert (ready.status, ready.step_attempts) == (Status.FINALIZING, 0), "it is tried again, however often that takes"
    assert stored() == before
    assert Segment.objects.exists()
    Batch.objects.update(step_until=None)
    step("finalizing", tasks.finalize)
    ready.refresh_from_db()
    assert (ready.status, ready.completed, ready.failed) == (Status.COMPLETED, 198, 2)
    assert len(owner.lines(ready.public_id)) == 200
