"""A batch's life in the log: a line for each thing that became of it, once that is committed.

By its id an operator follows a batch across hosts: docs/operating.md. Where steps are traced, its creation and the
whole of it are two of them.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction

from batches.core.states import TERMINAL, Status
from batches.models import Batch
from tenants import clock, observed
from tenants.models import Tenant
from tenants.observed import Figure

log = logging.getLogger(__name__)

WHOLE = "batch"  # the step that all others of a batch are parts of
NAMES = ("public_id", "tenant__public_id")
MOMENTS = ("created_at", "in_progress_at", "finalizing_at", "ended_at")
COUNTS = ("total", "completed", "failed")


def created(batch: Batch, tenant: Tenant) -> None:
    """Accepted, in this transaction; the rest of its request is about it."""
    observed.note(batch=batch.public_id)
    figures = {"lines": batch.total, "bytes": batch.input_file.bytes}
    _on_commit((batch.public_id, tenant.public_id), "created", figures, ("create", batch.created_at))


def moved(batch: int, status: Status) -> None:
    """It has got to `status`, in this transaction."""
    *names, created_at, started, closed, ended, total, completed, failed = _row(batch, *NAMES, *MOMENTS, *COUNTS)
    counts: dict[str, Figure] = {"total": total, "completed": completed, "failed": failed}
    if status in TERMINAL:
        figures = {"status": status.value, **counts, **_seconds(created_at, ended)}
        _on_commit(names, "ended", figures, (WHOLE, created_at))
    elif status == Status.IN_PROGRESS:
        _on_commit(names, "validated", {**counts, **_seconds(created_at, started)})
    elif status == Status.FINALIZING:
        _on_commit(names, "finalizing", {**counts, **_seconds(started or created_at, closed)})
    else:
        _on_commit(names, status.value, counts)


def started(batch: Batch) -> None:
    """The first slice of it was claimed, in this transaction; `batch` with its tenant."""
    waited = _seconds(batch.in_progress_at or clock.now(), clock.now())
    _on_commit((batch.public_id, batch.tenant.public_id), "started", waited)


def befell(batch: int, event: str, **figures: Figure) -> None:
    """Something else became of it, in this transaction."""
    _on_commit(_row(batch, *NAMES), event, figures)


def say(event: str, **figures: Figure) -> None:
    """A line about the batch that is worked on now."""
    observed.tell(log, event, **figures)


def _row(batch: int, *columns: str) -> Any:
    return Batch.objects.filter(pk=batch).values_list(*columns).get()


def _seconds(since: datetime, until: datetime | None) -> dict[str, Figure]:
    return {"seconds": round((until - since).total_seconds(), 3)} if until else {}


def _on_commit(names: Any, event: str, figures: Mapping[str, Figure], step: tuple[str, datetime] | None = None) -> None:
    """Robust: a batch goes its way, whatever is told of it."""
    transaction.on_commit(partial(_tell, names, event, figures, step), robust=True)


def _tell(names: Any, event: str, figures: Mapping[str, Figure], step: tuple[str, datetime] | None) -> None:
    batch, tenant = names
    with observed.within(batch=batch, tenant=tenant):
        say(event, **figures)
    if step:
        name, began = step
        observed.done(name, batch, began.timestamp(), figures)
