"""Stored objects: written once under a fresh key, read in ranges, through Django's storage API.

Two kinds of storage are known: a folder, and S3 (django-storages), whose own file object would fetch a whole object
to read a range of it.
"""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage

CHUNK = 1024 * 1024


def fresh_key(kind: str) -> str:
    """A key that nothing else has: `kind/2-letter folder/random`."""
    token = secrets.token_hex(16)
    return f"{kind}/{token[:2]}/{token}"


class Writer:
    """Writes one object in pieces, counting bytes and hashing; an exception inside `with` removes it again."""

    def __init__(self, key: str) -> None:
        self.key, self.bytes, self._hash = key, 0, hashlib.sha256()
        self._local = _local_path(key)
        if self._local:
            self._local.parent.mkdir(parents=True, exist_ok=True)
            self._file: Any = open(self._local, "xb", buffering=CHUNK)  # noqa: SIM115 - closed by close()
        else:
            self._file = default_storage.open(key, "wb")

    def write(self, data: bytes) -> None:
        if self._local:
            self._file.write(data)
        else:
            with _as_disk_error(self.key):
                self._file.write(data)
        self._hash.update(data)
        self.bytes += len(data)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        """Make it durable: what is acknowledged afterwards is stored."""
        if self._local:
            self._file.flush()
            os.fsync(self._file.fileno())
        elif not self.bytes:
            self._file.write(b"")
        with _as_disk_error(self.key):
            self._file.close()

    def discard(self) -> None:
        """Remove what was written; a storage that fails at that leaves it to the sweep of orphans."""
        with suppress(OSError), _as_disk_error(self.key):
            self._file.close()  # on a full disk it fails, having closed
        with suppress(OSError):
            delete(self.key)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.close()
        except BaseException:
            self.discard()
            raise
        if kind is not None:
            self.discard()


def chunks(key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The object's bytes from `start`, at most `length` of them, in pieces of at most 1 MiB."""
    if path := _local_path(key):
        with open(path, "rb") as file:
            file.seek(start)
            left = length if length is not None else path.stat().st_size - start
            while left > 0 and (piece := file.read(min(CHUNK, left))):
                left -= len(piece)
                yield piece
    elif length != 0:
        yield from _remote_chunks(key, start, length)


def _remote_chunks(key: str, start: int, length: int | None) -> Iterator[bytes]:
    """The same from S3. Raises OSError, as a disk would."""
    end = "" if length is None else start + length - 1
    bucket: Any = default_storage.bucket  # type: ignore[attr-defined]  # django-storages, S3
    with _as_disk_error(key):
        yield from bucket.Object(key).get(Range=f"bytes={start}-{end}")["Body"].iter_chunks(CHUNK)


@contextmanager
def _as_disk_error(key: str) -> Iterator[None]:
    """A storage's own exceptions as those of a disk: FileNotFoundError, or another OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if fault := _s3_fault(key, error):
            raise fault from error
        raise


def _s3_fault(key: str, error: Exception) -> OSError | None:
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 - slow to import, and a folder needs none of it
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    if not isinstance(error, ClientError | BotoCoreError | Boto3Error):
        return None
    missing = isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}
    return (FileNotFoundError if missing else OSError)(f"object {key}: {error}")


def read(key: str, start: int, length: int) -> bytes:
    """A range of the object. Raises OSError when it is not all there."""
    data = b"".join(chunks(key, start, length))
    if len(data) != length:
        raise OSError(f"object {key} is shorter than {start + length} bytes")
    return data


def folder() -> Path | None:
    """Where objects are files; None: they are in S3."""
    try:
        return Path(default_storage.path(""))
    except NotImplementedError:
        return None


def delete(key: str) -> None:
    """Remove the object; it may be gone already."""
    if key:
        with _as_disk_error(key):
            default_storage.delete(key)


def abort_unfinished(kinds: Sequence[str], before: datetime) -> int:
    """End uploads to S3 in parts that began before then; how many. No listing shows their parts, which are stored.
    Raises OSError."""
    bucket = getattr(default_storage, "bucket", None)
    aborted = 0
    with _as_disk_error("multipart uploads"):
        for upload in bucket.multipart_uploads.all() if bucket else ():
            if upload.object_key.partition("/")[0] in kinds and upload.initiated < before:
                upload.abort()
                aborted += 1
    return aborted


def names(folder: str) -> list[str]:
    """The objects right in a folder, by their names there. Raises OSError."""
    with _as_disk_error(folder):
        return default_storage.listdir(folder)[1] if _exists(folder) else []


def keys(folder: str) -> Iterator[str]:
    """The keys of all objects in a folder, and in those in it. Raises OSError."""
    if not _exists(folder):
        return
    with _as_disk_error(folder):
        folders, files = default_storage.listdir(folder)
    for name in files:
        yield f"{folder}/{name}"
    for name in folders:
        yield from keys(f"{folder}/{name}")


def _exists(folder: str) -> bool:
    """Whether it can be listed: S3 has no folders, and lists an empty one."""
    path = _local_path(folder)
    return path is None or path.is_dir()


def digest(key: str) -> tuple[int, str]:
    """How many bytes an object has, and their SHA-256 in hex. Raises OSError."""
    found, size = hashlib.sha256(), 0
    for piece in chunks(key):
        found.update(piece)
        size += len(piece)
    return size, found.hexdigest()


def size(key: str) -> int | None:
    """Bytes of an object; None where there is none. Raises OSError."""
    try:
        with _as_disk_error(key):
            return default_storage.size(key)
    except FileNotFoundError:
        return None


def modified(key: str) -> datetime:
    """When it was written. Raises OSError."""
    with _as_disk_error(key):
        return default_storage.get_modified_time(key)


@contextmanager
def local(key: str) -> Iterator[Path]:
    """The object as a local file: its own path, or a copy in the spool for as long as `with` lasts."""
    if path := _local_path(key):
        yield path
        return
    settings.SPOOL_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=settings.SPOOL_DIR, buffering=CHUNK) as file:
        for piece in chunks(key):
            file.write(piece)
        file.flush()
        yield Path(file.name)


@contextmanager
def scratch() -> Iterator[Any]:
    """A temporary file without a name in the spool folder: gone at the end, also at the end of the process."""
    settings.SPOOL_DIR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.SPOOL_DIR, buffering=CHUNK) as file:
        yield file


def _local_path(key: str) -> Path | None:
    if not key:
        raise FileNotFoundError("a deleted file has no object")
    try:
        return Path(default_storage.path(key))
    except NotImplementedError:
        return None
