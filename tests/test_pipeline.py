"""The main job in one process: submitted, validated, run, finalized, downloaded, charged."""

import os
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError
from django.core.files.storage import default_storage

from batches import objects, orphans
from batches.models import Batch, File, Result, Segment, Slice
from billing import money
from billing.models import LedgerEntry
from tests.conftest import Person
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database


def test_three_lines_end_to_end(owner: Person, witness: Witness, work: Callable[..., None]) -> None:
    first = owner.submit([request_line(f"e{n}", custom_id=f"eval-{n}") for n in (1, 2, 3)])
    assert first.status_code == 200, first.content
    batch = first.json()
    assert list(batch.items())[1:6] == [
        ("status", "validating"),
        ("endpoint", "/v1/chat/completions"),
        ("total_requests", 3),
        ("completed_count", 0),
        ("failed_count", 0),
    ]
    work()
    done = owner.batch(batch["id"])
    assert (done["status"], done["completed_count"], done["failed_count"]) == ("completed", 3, 0)
    lines = owner.lines(batch["id"])
    assert [line["custom_id"] for line in lines] == ["eval-1", "eval-2", "eval-3"]
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines] == [
        "line:e1 ok",
        "line:e2 ok",
        "line:e3 ok",
    ]
    usages = [line["response"]["body"]["usage"] for line in lines]
    pico = sum(u["prompt_tokens"] * 500_000 + u["completion_tokens"] * 1_000_000 for u in usages)
    assert done["cost"] == {"usd": money.usd(pico), "currency": "usd", "discount": "0.5", "reserved_usd": None}
    assert sum(Result.objects.values_list("cost", flat=True)) == pico
    assert LedgerEntry.objects.get().amount == pico
    assert not Segment.objects.exists() and not Slice.objects.exists()
    assert witness.requests_by_marker() == {"line:e1": 1, "line:e2": 1, "line:e3": 1}
    assert Batch.objects.get().ended_at is not None


def test_only_old_objects_that_nobody_names_are_removed(
    owner: Person, witness: Witness, work: Callable[..., None]
) -> None:
    batch = owner.submit([request_line("1")]).json()["id"]
    work()
    owner.submit([request_line("2")])
    for _ in range(2):
        with objects.Writer(objects.fresh_key("inputs")) as writer:
            writer.write(b"left by a crash")
    old = writer.key
    for key in [*File.objects.values_list("storage_key", flat=True), old]:
        os.utime(default_storage.path(key), (0, 0))
    assert orphans.remove() == 1
    assert not default_storage.exists(old)
    assert len(owner.lines(batch)) == 1
    assert orphans.remove() == 0


def test_a_key_that_may_not_list_uploads_keeps_no_orphan(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With S3 that is a right of its own: without it nothing was ever removed."""

    class Uploads:
        def all(self) -> None:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListMultipartUploads")

    monkeypatch.setattr(default_storage, "bucket", SimpleNamespace(multipart_uploads=Uploads()), raising=False)
    with objects.Writer(objects.fresh_key("inputs")) as writer:
        writer.write(b"left by a crash")
    os.utime(default_storage.path(writer.key), (0, 0))
    assert orphans.remove() >= 1 and objects.size(writer.key) is None
    assert "AccessDenied" in caplog.text
