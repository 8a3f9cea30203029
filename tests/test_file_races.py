"""A batch is made of a file while it is deleted: the file's lock lets one of them through. And without it, both."""

from threading import Event
from typing import Any

import pytest
from django.db import connection

from batches import files, intake
from batches.idempotency import Attempt
from batches.models import Batch, File
from batches.uploads import Stored
from tenants.errors import Refused
from tenants.models import ApiKey
from tests import environment
from tests.conftest import Person
from tests.threads import ThreadPoolExecutor

HOLD = 0.5  # seconds that the batch's maker waits for a delete, which the lock keeps from ending


def race(owner: Person, monkeypatch: pytest.MonkeyPatch, lock: bool) -> tuple[bool, bool]:
    """Delete the file between the moment that a batch's maker has found it and its insert: which of them went well."""
    file, key = files.create(owner.tenant, Stored("inputs/a", "a", 3, 1, "0")), ApiKey.objects.get()
    found, deleted, find = Event(), Event(), files.input_of

    def slow(tenant: Any, file_id: str) -> File:
        row = find(tenant, file_id, lock=lock)
        found.set()
        deleted.wait(HOLD)
        return row

    def make() -> bool:
        try:
            intake.submit(Attempt(owner.tenant, key, "POST /v1/batches"), file.public_id, "/v1/embeddings", "{}")
        finally:
            connection.close()
        return True

    monkeypatch.setattr(files, "input_of", slow)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(make)
        assert found.wait(5)
        try:
            gone = files.delete(owner.tenant, file.public_id) is not None
        except Refused:
            gone = False
        deleted.set()
        return made.result(), gone


def test_a_file_that_a_batch_is_made_of_is_not_deleted(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert race(owner, monkeypatch, lock=True) == (True, False)
    assert Batch.objects.get().input_file.storage_key


@pytest.mark.skipif(environment.DATABASE != "postgres", reason="on SQLite the transaction itself is the lock")
def test_without_the_lock_the_batch_has_lost_its_input(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    assert race(owner, monkeypatch, lock=False) == (True, True)
    assert not Batch.objects.get().input_file.storage_key
