"""The storage: does it take, give and remove; is it that of the others; is there room."""

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from django.conf import settings

from batches import objects
from batches.models import File
from provocative.doctor import hosts
from provocative.doctor.findings import Finding, error, ok, warning
from provocative.doctor.running import reason

MULTIPART = 5 * 2**20 + 1  # bytes; from here on S3 gets an object in parts
IN_A_FOLDER = 2**16
SAMPLED = 20  # files
FEW, TOO_FEW = 5 * 2**30, 2**30  # bytes free: a batch may take a few hundred MB of scratch
INODES = 10_000
CURE = "See that STORAGE_URL is right, that its key may put, get and delete, and that the store has room."


def answers() -> Iterator[Finding]:
    """One object: written in parts, read whole and by range, removed; the daily task removes one that a crash left."""
    began, folder, key = time.monotonic(), objects.folder(), objects.fresh_key("ready")
    try:
        size = _round_trip(key)
        objects.delete(key)
    except OSError as fault:
        with suppress(OSError):
            objects.delete(key)
        yield error(reason(fault), f"See who owns {folder}, and df -h." if folder else CURE)
        return
    if _is_there(key):
        yield error("It keeps what is deleted.", "Turn off what protects objects from deletion in this bucket.")
        return
    yield ok(
        f"{'A folder' if folder else 'S3'}: {size:,} bytes written, read, removed in {time.monotonic() - began:.2f} s."
    )


def _round_trip(key: str) -> int:
    content = secrets.token_bytes(IN_A_FOLDER if objects.folder() else MULTIPART)
    with objects.Writer(key) as writer:
        for start in range(0, len(content), objects.CHUNK):
            writer.write(content[start : start + objects.CHUNK])
    whole = hashlib.sha256(b"".join(objects.chunks(key))).hexdigest()
    start, length = len(content) - 1000, 100
    if whole != writer.sha256 or objects.read(key, start, length) != content[start : start + length]:
        raise OSError("it gives other bytes than it was given")
    return len(content)


def _is_there(key: str) -> bool:
    try:
        return bool(objects.read(key, 0, 1))
    except FileNotFoundError:
        return False


def holds_the_files() -> Iterator[Finding]:
    """Whether what the newest rows name is here: else this is not the storage of who wrote it."""
    newest = File.objects.filter(deleted_at=None, bytes__gt=0).exclude(storage_key="").order_by("-created_at")[:SAMPLED]
    rows = list(newest.values_list("pk", "storage_key", "bytes"))
    missing = [pk for pk, key, size in rows if objects.size(key) != size]
    # one may have been deleted while we looked
    gone = File.objects.filter(pk__in=missing, deleted_at=None).exclude(storage_key="").count() if missing else 0
    if gone:
        yield error(
            f"{gone} of the newest {len(rows)} files are not in this storage, or not whole.",
            "Give every host the same STORAGE_URL (or mount the same folder); else restore the files.",
        )
    elif objects.folder() and (machines := hosts.count()) > 1:
        yield warning(
            f"{machines} hosts are seen, and files are in a folder of this one.",
            "Use S3 (STORAGE_URL), unless all of them mount this very folder.",
        )
    else:
        yield ok(f"The newest {len(rows)} files are here, and whole." if rows else "There are no files so far.")


def room() -> Iterator[Finding]:
    """On the disks of PROVOCATIVE_HOME, of the scratch files and of the folder of files."""
    folders = filter(None, (objects.folder(), settings.SPOOL_DIR, settings.HOME))
    disks = {folder.stat().st_dev: folder for folder in folders if folder.exists()}
    for folder in disks.values():
        yield _room(folder)


def _room(folder: Path) -> Finding:
    free, inodes = shutil.disk_usage(folder).free, os.statvfs(folder)
    text = f"{free / 2**30:,.1f} GiB are free in {folder}."
    cure = "Make room: older files (tenant set --retention-days), or a larger disk."
    if free < TOO_FEW:
        return error(text, cure)
    if inodes.f_files and inodes.f_favail < INODES:
        return error(f"{inodes.f_favail:,} more files fit in {folder}: its inodes are used up.", cure)
    return warning(text, cure) if free < FEW else ok(text)
