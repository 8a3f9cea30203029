"""`manage.py backup FOLDER`: the database at one moment, and what is needed to know it again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from batches import marks
from provocative.backups import databases, files, manifest
from provocative.backups.databases import CannotCopy
from tenants import clock, sealed
from tenants.management.console import DocumentCommand


class Command(DocumentCommand):
    help = "Copy the database into a new folder, while the service runs; with --files also the stored files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="A new one, or an empty one.")
        parser.add_argument("--files", action="store_true", dest="with_files", help="Copy stored files, too.")

    def handle(self, *args: Any, folder: Path, with_files: bool, **options: Any) -> None:
        try:
            with _for_us_alone():
                self._make(folder)
                begun = manifest.begun(clock.now())
                database, counts = databases.dump(folder)
                copied = files.copy_out(folder) if with_files else None
                made = manifest.completed(begun, database, counts, copied)
                manifest.write(folder, made)
            marks.move()  # so that what was copied is older than the storage, from now on
        except (CannotCopy, OSError) as error:
            raise CommandError(str(error)) from None
        shown = {name: made[name] for name in ("made_at", "vendor", "database", "key_id", "mark", "files")}
        self.say({"backup": str(folder), **shown, "rows": sum(counts.values())})
        self.stderr.write(
            f"SECRET_KEY (id {sealed.key_id(settings.SECRET_KEY)}) is not in it: keep it elsewhere. Without it the"
            " secrets in the copy are lost, with it they can be read."
        )

    def _make(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise CannotCopy(f"{folder} is not empty: a backup needs a folder of its own.")


@contextmanager
def _for_us_alone() -> Iterator[None]:
    """Prompts and answers are in what is written, also into a folder that others may look into."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
