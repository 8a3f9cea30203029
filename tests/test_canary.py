"""What a tenant sends and is answered, and every secret, is nowhere but where it belongs; deleted on request, nowhere.

A canary is a text that stands nowhere else. Words that are searched for are found first where they must be: a search
that finds nothing would prove nothing.
"""

import io
import json
import logging
import os
import secrets
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django_q.models import OrmQ, Task

from batches.core import retrying
from batches.models import Batch, Segment, Upstream
from provocative import logs
from tenants import keys
from tests import browser
from tests.conftest import person, seal
from tests.test_erasing import empty_storage
from tests.witness import Witness, request_line

__all__ = ["empty_storage"]  # a fixture


class Canary:
    """A tenant whose every word is one, and what is searched for."""

    def __init__(self, witness: Witness) -> None:
        self.person = person("aviary")
        self.content = {
            name: f"canary{name}{secrets.token_hex(6)}"
            for name in ("prompt", "customid", "metadatakey", "metadata", "filename", "quoted")
        }
        self.secret = {"key": self.person.key, "upstream": f"canaryupstream{secrets.token_hex(6)}"}
        Upstream.objects.filter(model="witness").update(api_key=self.secret["upstream"])

    def words(self) -> dict[str, bytes]:
        return {name: word.encode() for name, word in (self.content | self.secret).items()}

    def upload(self, *lines: Any) -> Any:
        body = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
        word = self.content
        return self.person.client.post(  # unchecked: with DEBUG=1 a fault is answered by a page of Django's
            "/v1/batch",
            {
                "file": SimpleUploadedFile(f"{word['filename']}.jsonl", body),
                "metadata": json.dumps({word["metadatakey"]: word["metadata"]}),
            },
            headers={"Authorization": f"Bearer {self.person.key}"},
        )


@pytest.fixture
def canary(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> Canary:
    monkeypatch.setattr(retrying, "BACKOFF_BASE", 0.01)  # seconds: the 500s are tried again at once
    monkeypatch.setattr(retrying, "BACKOFF_CAP", 0.02)
    monkeypatch.setattr(retrying.RetryBudget, "wait", lambda *args: 0.0)
    return Canary(witness)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that would be logged with LOG_LEVEL=DEBUG, SQL among it where DEBUG=1; in both of the product's forms."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = [logging.StreamHandler(stream), logging.StreamHandler(stream)], root.level
    for handler, form in zip(handlers, (logs.OneLine(), logs.OneObject()), strict=True):
        handler.setFormatter(form)
        root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    for handler in handlers:
        root.removeHandler(handler)
    root.setLevel(level)


# --- where is looked ----------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes()


def rows() -> Iterator[tuple[str, bytes]]:
    """Every column of every row of every table; what is compressed also as it was."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            for row in cursor.fetchall():
                for value in row:
                    raw = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    yield table, raw
                    if table == "batches_segment" and raw[:1] == b"\x78":
                        yield table, zlib.decompress(raw)


def database_files() -> Iterator[tuple[str, bytes]]:
    """SQLite's own file and its log, as they lie on the disk."""
    if connection.vendor == "sqlite":
        name = str(connection.settings_dict["NAME"])
        for suffix in ("", "-wal", "-shm"):
            if os.path.exists(name + suffix):
                yield name + suffix, Path(name + suffix).read_bytes()


def everywhere() -> Iterator[tuple[str, bytes]]:
    yield from files_of(settings.HOME)
    yield from rows()
    yield from database_files()


def hits(words: dict[str, bytes], places: Iterator[tuple[str, bytes]]) -> tuple[Counter[tuple[str, str]], int]:
    """How often each word is found, and where; and how many bytes were searched."""
    found: Counter[tuple[str, str]] = Counter()
    searched = 0
    for place, data in places:
        searched += len(data)
        for name, word in words.items():
            if word in data:
                found[name, place] += 1
    return found, searched


def named(found: Counter[tuple[str, str]]) -> set[str]:
    return {name for name, _ in found}


# --- the tests ----------------------------------------------------------------------------------------------------------


def run(canary: Canary, work: Any) -> dict[str, str]:
    """Success, an upstream's 400, 500s, lines that are not valid; by what they were."""
    word = canary.content
    good = request_line(word["prompt"], custom_id=word["customid"])
    bad = request_line(f"{word['prompt']}bad", custom_id=f"{word['customid']}-400", faults=["400"])
    broken = request_line(f"{word['prompt']}500", custom_id=f"{word['customid']}-500", faults=["500"])
    made = {"ran": canary.upload(good, bad, broken).json()["id"]}
    wrong = {"custom_id": word["quoted"], "method": word["quoted"], "url": "/v1/chat/completions", "body": {}}
    made["invalid"] = canary.upload(good, wrong, f'{{"{word["quoted"]}"'.encode()).json()["id"]
    work()
    seal()
    return made


def test_in_no_log_no_task_no_error_page_no_trail(
    canary: Canary, work: Any, log: io.StringIO, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pickles: list[tuple[str, bytes]] = []

    def enqueued() -> None:
        pickles.extend(("django_q_ormq", row.payload.encode()) for row in OrmQ.objects.all())
        pickles.extend(("decoded", repr(row.task).encode()) for row in OrmQ.objects.all())
        pickles.extend(
            ("django_q_task", repr((row.args, row.kwargs, row.result)).encode()) for row in Task.objects.all()
        )

    made = run(canary, work)
    enqueued()
    words = canary.words() | {"webhook": b""}
    hook = canary.person.post("/v1/webhook_endpoints", {"url": "https://hooks.example/x"}).json()
    words["webhook"] = hook["signing_secret"].encode()
    pages = [("page", answer.content) for answer in failures(canary, made, settings, monkeypatch)]
    enqueued()
    trail = (place for place in rows() if place[0] == "tenants_auditevent")
    places = [("log", log.getvalue().encode()), *pickles, *pages, *trail]
    found, searched = hits(words, iter(places))
    assert len(log.getvalue()) > 1_000 and len(pickles) >= 4 and len(pages) >= 12
    print(
        f"\ncanary: {len(words)} words, {searched:,} bytes of logs, tasks, pages and trail searched, hits = {len(found)}"
    )
    assert not found, found
    there, _ = hits(words, everywhere())
    assert {"prompt", "customid", "metadata", "filename", "quoted"} <= named(there)  # teeth
    assert not {"key", "upstream", "webhook"} & named(there), "these are sealed, or a digest"


def failures(canary: Canary, made: dict[str, str], settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Pages of errors, without and with DEBUG: of a route that breaks, with the canary in its path, query and body."""
    word, batch = canary.content, made["ran"]
    client = Client(raise_request_exception=False)
    client.force_login(browser.person_of(canary.person.tenant, "bird@example.com"))
    headers = {"Authorization": f"Bearer {canary.person.key}"}
    for debug in (False, True):
        settings.DEBUG = debug
        yield canary.person.get("/v1/nothing")
        yield canary.person.get(f"/v1/batch/{batch}/nothing")
        yield client.get(f"/t/{canary.person.tenant.public_id}/nothing")
        yield client.post(f"/t/{canary.person.tenant.public_id}/batches/{batch}/cancel")
        with monkeypatch.context() as broken:
            broken.setattr("batches.api.serializers.native", explode)
            broken.setattr("batches.intake.submit", explode)
            yield canary.person.client.get(f"/v1/batch/{batch}", headers=headers)
            yield canary.upload(request_line(word["prompt"]))
            yield client.get(f"/t/{canary.person.tenant.public_id}/batches/{batch}")
    settings.DEBUG = False


def explode(*args: Any, **options: Any) -> Any:
    """A fault of ours, with what it was given at hand."""
    raise RuntimeError("a fault of ours")


def test_deleted_on_request_it_is_nowhere(canary: Canary, work: Any) -> None:
    made = run(canary, work)
    words = {name: word for name, word in canary.words().items() if name not in ("key", "upstream")}
    before, _ = hits(words, everywhere())
    assert named(before) == set(words), "a search that finds nothing proves nothing"
    for batch in made.values():
        assert canary.person.delete(f"/v1/batch/{batch}").status_code == 200
    found, searched = hits(words, everywhere())
    print(f"\ncanary, batches deleted: {searched:,} bytes searched, hits = {len(found)}")
    assert not found, found


def test_what_is_on_its_way_is_compressed_and_found_all_the_same(canary: Canary, work: Any) -> None:
    """Teeth of the search: segments are read as they were written."""
    Segment.objects.create(
        tenant=canary.person.tenant, batch=Batch.objects.get(public_id=canary.upload(request_line("x")).json()["id"]),
        data=zlib.compress(b"....." + canary.words()["prompt"]),
    )  # fmt: skip
    assert ("prompt", "batches_segment") in hits(canary.words(), rows())[0]


def test_of_an_erased_tenant_nothing_is_left_but_its_account(canary: Canary, work: Any) -> None:
    run(canary, work)
    canary.content["keyname"] = f"canarykeyname{secrets.token_hex(6)}"
    keys.create(canary.person.tenant, canary.content["keyname"])
    canary.content["person"] = f"canary{secrets.token_hex(6)}@example.com"
    browser.person_of(canary.person.tenant, canary.content["person"])
    spare = SimpleUploadedFile(f"{canary.content['filename']}.jsonl", json.dumps(request_line("x")).encode())
    assert canary.person.post("/v1/files", {"purpose": "batch", "file": spare}).status_code == 200
    words = {name: word for name, word in canary.words().items() if name not in ("key", "upstream")}
    assert named(hits(words, everywhere())[0]) == set(words)
    call_command("tenant", "erase", "aviary", "--yes", stdout=io.StringIO())
    found, searched = hits(words, everywhere())
    kept = {place for _, place in found}
    print(f"\ncanary, tenant erased: {searched:,} bytes searched, hits = {len(found)}")
    assert not found, kept
