"""A backup tried out: restored into a database of its own, and looked at. Nothing is changed."""

import itertools
import time
from pathlib import Path
from typing import Any

from batches import reconciling
from billing.reconciling import invoice_findings, ledger_findings
from provocative.backups import databases, files, manifest
from provocative.backups.manifest import Manifest
from provocative.preparing import missing_migrations
from tenants import resealing

FOUND = 5  # that are told


def rehearse(folder: Path, sample: int) -> dict[str, Any]:
    """What came of it, with `ok`. Raises CannotCopy, OSError."""
    begun, made = time.monotonic(), manifest.read(folder)
    with databases.scratch():
        manifest.load(folder, made)
        found = _looked_at(made) | files.look(sample)
    bad = ("rows_differ", "findings", "unopened", "missing", "damaged")
    return {
        "rehearsed": str(folder),
        "made_at": made["made_at"],
        **found,
        "seconds": round(time.monotonic() - begun, 1),
        "ok": not any(found[name] for name in bad),
    }


def _looked_at(made: Manifest) -> dict[str, Any]:
    counts = databases.counts()
    differ = {name: [made["rows"].get(name), counts.get(name)] for name in made["rows"] | counts}
    missing = missing_migrations()
    found = [] if missing else list(itertools.chain(reconciling.findings(), ledger_findings(), invoice_findings()))
    sealed = [] if missing else list(resealing.check())
    return {
        "rows": sum(counts.values()),
        "rows_differ": {name: both for name, both in differ.items() if both[0] != both[1]},
        "migrations_to_come": missing,
        "findings": len(found),
        "first_findings": [f"{each.check} {each.where}" for each in found[:FOUND]],
        "secrets": sum(each.key is not None for each in sealed),
        "unopened": [each.where for each in sealed if each.key is None][:FOUND],
    }
