"""The stored objects that rows name: copied beside the database, put back, looked at."""

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from batches import objects, orphans
from batches.core.states import ACTIVE
from batches.models import Batch, File

FOLDER = "files"
NAMED = 20


class Named(NamedTuple):
    """An object that a row names: of a file with its bytes and SHA-256; of a plan nothing is known."""

    key: str
    bytes: int | None
    sha256: str


def named() -> Iterator[Named]:
    """Every one, once."""
    for key, size, digest in File.objects.exclude(storage_key="").values_list("storage_key", "bytes", "sha256"):
        yield Named(key, size, digest)
    inputs = File.objects.values("storage_key")
    plans = Batch.objects.filter(status__in=ACTIVE).exclude(plan_key="").exclude(plan_key__in=inputs)
    for key in plans.values_list("plan_key", flat=True):
        yield Named(key, None, "")


def copy_out(folder: Path) -> dict[str, Any]:
    """Copy them into `folder`; how many, and which are not there."""
    count, size, missing = 0, 0, []
    for each in named():
        target = folder / FOLDER / each.key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(target, "wb") as file:
                file.writelines(objects.chunks(each.key))
                size += file.tell()
                count += 1
        except FileNotFoundError:
            target.unlink(missing_ok=True)
            missing.append(each.key)
    return {"count": count, "bytes": size, "missing": missing}


def copy_back(folder: Path) -> dict[str, Any]:
    """Put back those that the storage does not have, and that are as they were written; what it has is never written
    over. How many; which are damaged; which it still lacks."""
    count, damaged, known = 0, [], {each.key: each for each in named()}
    for path in sorted((folder / FOLDER).rglob("*")):
        key = path.relative_to(folder / FOLDER).as_posix()
        if path.is_symlink() or not path.is_file() or objects.size(key) is not None:
            continue
        if key in known and _differs(path, known[key]):
            damaged.append(key)
            continue
        with open(path, "rb") as source, objects.Writer(key) as writer:
            shutil.copyfileobj(source, writer, objects.CHUNK)
        count += 1
    missing = [key for key in known if objects.size(key) is None]
    return {"count": count, "damaged": damaged, "missing": missing}


def _differs(path: Path, written: Named) -> bool:
    if written.bytes is None:
        return False
    with open(path, "rb") as file:
        return path.stat().st_size != written.bytes or hashlib.file_digest(file, "sha256").hexdigest() != written.sha256


def look(sample: int) -> dict[str, Any]:
    """Which are not in the storage; and of so many, by chance, whether they are as they were written."""
    there = {key for kind in orphans.KINDS for key in objects.keys(kind)}
    all_ = list(named())
    missing = [each.key for each in all_ if each.key not in there]
    known = [each for each in all_ if each.key in there and each.bytes is not None]
    some = secrets.SystemRandom().sample(known, min(sample, len(known)))
    damaged = [each.key for each in some if objects.digest(each.key) != (each.bytes, each.sha256)]
    return {
        "files": len(all_), "missing": len(missing), "missing_keys": missing[:NAMED],
        "sampled": len(some), "damaged": damaged,
    }  # fmt: skip
