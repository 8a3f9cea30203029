"""A real S3 server, which pip brought: SeaweedFS in a process of its own."""

import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from tests import environment
from tests.conftest import until

WEED = Path(settings.BASE_DIR) / ".venv" / "bin" / "weed"
KEY, SECRET, BUCKET = "access", "secret-of-the-tests", "batches"


def installed() -> bool:
    return WEED.exists() or shutil.which("weed") is not None


def url(address: str) -> str:
    """STORAGE_URL of the bucket at `address`."""
    return f"s3://{KEY}:{quote(SECRET)}@{BUCKET}?endpoint_url={address}&region=us-east-1"


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Ports that are free, and whose port + 10000 is too: each of the server's parts opens both."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind((host, 0))
            port = first.getsockname()[1]
            try:
                second.bind((host, port + 10_000))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found


@contextmanager
def serving(host: str = "127.0.0.1") -> Iterator[str]:
    """A SeaweedFS with one bucket; its address."""
    folder = Path(tempfile.mkdtemp(prefix="s3-", dir=environment.HOME))
    identity = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    port, master, volume, filer = free_ports(4, host)
    command = [
        str(WEED if WEED.exists() else shutil.which("weed")), "server", f"-dir={folder}", f"-ip={host}",
        f"-ip.bind={host}", "-s3", f"-s3.port={port}", f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0",
        "-s3.port.lance=0", "-s3.iam=false", "-volume.max=10", "-master.volumeSizeLimitMB=64",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-master.telemetry=false",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    address = f"http://{host}:{port}"
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
