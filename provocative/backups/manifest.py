"""What a backup is: `manifest.json` beside its files. Never the SECRET_KEY: its id alone."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder

from provocative.backups import databases
from provocative.backups.databases import CannotCopy
from tenants import holding, sealed

FORMAT = 1
FILE = "manifest.json"
Manifest = dict[str, Any]


def begun(at: datetime) -> Manifest:
    """What is known before the copy is made."""
    row = holding.row()
    return {
        "format": FORMAT,
        "made_at": at.isoformat(timespec="seconds"),
        "vendor": connection.vendor,
        "migrations": migrations(),
        "key_id": sealed.key_id(settings.SECRET_KEY),
        "mark": {"number": row.number, "at": row.moved_at and row.moved_at.isoformat(timespec="seconds")},
    }


def completed(begun: Manifest, database: Path, counts: dict[str, int], files: dict[str, Any] | None) -> Manifest:
    """Of a backup that lies there now."""
    copy = {"file": database.name, "bytes": database.stat().st_size, "sha256": sha256(database)}
    return begun | {"database": copy, "rows": counts, "files": files}


def migrations() -> list[str]:
    """Those that the database has seen, as app.name."""
    return sorted(".".join(each) for each in MigrationRecorder(connection).applied_migrations())


def write(folder: Path, manifest: Manifest) -> None:
    (folder / FILE).write_text(json.dumps(manifest, indent=1) + "\n")


def read(folder: Path) -> Manifest:
    """The manifest, checked against its files, this database and our keys. Raises CannotCopy with the cure."""
    try:
        manifest: Manifest = json.loads((folder / FILE).read_text())
        database = folder / manifest["database"]["file"]
        found, key = (manifest["format"], manifest["vendor"]), manifest["key_id"]
        whole = sha256(database) == manifest["database"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotCopy(f"{folder} is no backup, or not a whole one: {error!r}") from None
    if found != (FORMAT, connection.vendor):
        raise CannotCopy(
            f"The backup is of {found[1]}, format {found[0]}; this is {connection.vendor}, format {FORMAT}."
        )
    if not whole:
        raise CannotCopy(f"{database} is not as it was written: its SHA-256 differs. Take another copy.")
    if key not in map(sealed.key_id, sealed.keys()):
        raise CannotCopy(f"Its secrets are sealed under the SECRET_KEY with the id {key!r}: set that one, or add it to "
                         "SECRET_KEY_FALLBACKS.")  # fmt: skip
    return manifest


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(folder: Path, manifest: Manifest) -> None:
    """Fill the empty database. Raises CannotCopy."""
    databases.load(folder / manifest["database"]["file"])
