"""`manage.py tenant create | set | list`, and what concerns all of a tenant's data: `erase`, `export`."""

import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError

from batches import erasing_tenants, exporting, keeping
from tenants import trail
from tenants.management.commands import tenant
from tenants.management.console import tenant_named
from tenants.models import Tenant


class Command(tenant.Command):
    help = "Tenants: create one with its first API key, change one, list all; delete or export all that one has."

    def add_verbs(self) -> None:
        super().add_verbs()
        erase = self.verb("erase", self.erase, "Delete all data of a tenant for good; its account stays.")
        erase.add_argument("name")
        erase.add_argument("--yes", action="store_true", help="It is meant: there is no way back.")
        export = self.verb("export", self.export, "Write all data of a tenant into one ZIP file.")
        export.add_argument("name")
        export.add_argument("--to", metavar="FILE", help="A file that is not there yet; absent: stdout.")

    def follow(self, tenant: Tenant, changes: dict[str, Any]) -> None:
        if "retention_days" in changes:
            keeping.shorten(tenant)

    def erase(self, name: str, yes: bool) -> None:
        found = tenant_named(name)
        if not yes:
            raise CommandError(f"This deletes all data of {name!r} for good: `tenant export` it first, then add --yes.")
        gone = erasing_tenants.erase(found, trail.OPERATOR)
        found.refresh_from_db()
        self.say({"tenant": found.name, "erased": gone._asdict()})

    def export(self, name: str, to: str | None) -> None:
        found = tenant_named(name)
        if to is None:
            _write(found, sys.stdout.buffer)
            return
        try:
            with open(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                _write(found, file)
        except OSError as error:
            raise CommandError(f"{to} can't be written: {error.strerror}.") from None
        self.say(_shown(Path(to), found.name))


def _write(found: Tenant, file: BinaryIO) -> None:
    trail.record(found, trail.OPERATOR, "tenant.exported", found.public_id)
    file.writelines(exporting.archive(found))


def _shown(path: Path, name: str) -> dict[str, Any]:
    return {"tenant": name, "file": str(path), "bytes": path.stat().st_size}
