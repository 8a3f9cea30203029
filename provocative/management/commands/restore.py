"""`manage.py restore FOLDER`: a backup into an empty database, which then holds; or a rehearsal of that."""

import sys
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from provocative.backups import databases, files, manifest, rehearsing
from provocative.backups.databases import CannotCopy
from provocative.preparing import unknown_migrations
from tenants import holding, trail
from tenants.management.console import DocumentCommand, whole_number

SAMPLE = 200


class Command(DocumentCommand):
    help = "Restore a backup into an empty database. The service holds then: `hold report` says what to decide."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="Of `backup`.")
        parser.add_argument("--files", action="store_true", dest="with_files", help="Put back files the storage lacks.")
        parser.add_argument("--rehearse", action="store_true", help="Into a database of its own, and look at it.")
        parser.add_argument("--sample", type=whole_number(0), default=SAMPLE, metavar="N", help="Files that are read.")

    def handle(self, *args: Any, folder: Path, rehearse: bool, with_files: bool, sample: int, **options: Any) -> None:
        try:
            found = rehearsing.rehearse(folder, sample) if rehearse else self._restore(folder, with_files)
        except (CannotCopy, OSError, DatabaseError) as error:
            raise CommandError(str(error)) from None
        self.say(found)
        if not found.get("ok", True):
            sys.exit(1)

    def _restore(self, folder: Path, with_files: bool) -> dict[str, Any]:
        made = manifest.read(folder)
        if with_files and made["files"] is None:
            raise CannotCopy("No files are in it, since it was made without --files: restore it without.")
        if newer := unknown_migrations(made["migrations"]):
            raise CannotCopy(f"The backup was made by a later version ({newer[0]}…): install that one.")
        if not databases.is_empty():
            raise CannotCopy("The database is not empty: restore into a new one, and keep this one until all is well.")
        manifest.load(folder, made)
        call_command("migrate", interactive=False, verbosity=0)
        holding.hold(holding.Why.RESTORED, trail.OPERATOR, f"From the backup of {made['made_at']}.")
        told = {"restored": str(folder), "made_at": made["made_at"], "files_put_back": 0, "hold": "restored"}
        if with_files:
            put = files.copy_back(folder)
            told |= {"files_put_back": put["count"], "files_damaged": put["damaged"], "files_missing": put["missing"]}
            told |= {"ok": not (put["damaged"] or put["missing"])}
        return told
