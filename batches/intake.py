"""Accepting an upload: admission, the File, the Batch, what to answer its repetition, the bell: in one transaction."""

import json
from datetime import timedelta
from typing import Any

from django.db.models import Min, QuerySet

from batches import files, life, reserving, tasks
from batches.core.requests import ENDPOINTS
from batches.core.states import ACTIVE
from batches.idempotency import Attempt
from batches.models import Batch
from batches.uploads import Stored
from tenants import admission, clock
from tenants.errors import Refused
from tenants.models import Tenant

WINDOW = timedelta(hours=24)
MAX_METADATA = 16  # pairs
MAX_METADATA_KEY, MAX_METADATA_VALUE = 64, 512  # characters
NO_METADATA = "metadata must be a JSON object whose keys stand once and whose values are strings."
SOONEST, LATEST, UNKNOWN = 5, 60, 30  # seconds of Retry-After: clients give up at a longer one, or ignore it


def active(tenant: int) -> QuerySet[Batch]:
    """The tenant's batches that hold a place."""
    return Batch.objects.filter(tenant_id=tenant, status__in=ACTIVE)


def check_room(tenant: Tenant) -> None:
    """Refuse early, before the body is read; `submit` decides with authority, under the tenant's lock."""
    _check(tenant)


def _check(tenant: Tenant) -> None:
    reserving.check_room(tenant.pk)
    admission.check(tenant, active(tenant.pk).count(), lambda: retry_after(tenant.pk))


def retry_after(tenant: int) -> int:
    """Seconds until the soonest of the tenant's batches should end."""
    soonest = active(tenant).aggregate(soonest=Min("expected_at"))["soonest"]
    seconds = (soonest - clock.now()).total_seconds() if soonest else UNKNOWN
    return int(min(max(seconds, SOONEST), LATEST))


def submit(
    attempt: Attempt, source: Stored | str, endpoint: str, metadata: str, keep: int | None = None, **columns: Any
) -> Batch:
    """A new batch of an upload, kept for `keep` seconds, or of the tenant's file with this id; `columns` are others of
    its row.

    Raises Refused 402 and 429 at the tenant's limits, 404 without such a file, Replayed when another attempt of it made
    one.
    """

    def make(tenant: Tenant) -> Batch:
        _check(tenant)
        file = files.input_of(tenant, source) if isinstance(source, str) else files.create(tenant, source, keep)
        now = clock.now()
        batch = Batch.objects.create(
            tenant=tenant,
            api_key=attempt.api_key,
            input_file=file,
            endpoint=endpoint,
            metadata=metadata,
            created_at=now,
            deadline=now + WINDOW,
            total=file.lines,
            **columns,
        )
        tasks.ring_validate(batch.pk)
        life.created(batch, tenant)
        return batch

    return attempt.create(make)


def read_endpoint(value: str | None) -> str:
    """The form field `endpoint`."""
    endpoint = ENDPOINTS[0] if value is None else value
    if endpoint not in ENDPOINTS:
        raise Refused(400, "invalid_endpoint", f"endpoint must be one of {', '.join(ENDPOINTS)}.", param="endpoint")
    return endpoint


def read_on_invalid_line(value: str | None) -> str:
    """The form field `on_invalid_line`."""
    if value is not None and value not in Batch.OnInvalidLine.values:
        known = " or ".join(Batch.OnInvalidLine.values)
        raise Refused(400, "invalid_on_invalid_line", f"on_invalid_line must be {known}.", param="on_invalid_line")
    return value or Batch.OnInvalidLine.FAIL


def read_metadata(value: str | None) -> str:
    """The form field `metadata`: the text of a JSON object, kept as JSON."""
    try:
        return check_metadata(json.loads(value or "{}", object_pairs_hook=_unique))
    except (ValueError, RecursionError):
        raise _bad_metadata(NO_METADATA) from None


def check_metadata(pairs: Any) -> str:
    """A JSON object of at most 16 short strings, as JSON."""
    if not isinstance(pairs, dict) or not all(isinstance(item, str) for item in pairs.values()):
        raise _bad_metadata(NO_METADATA)
    try:
        json.dumps(pairs, ensure_ascii=False).encode()  # a lone surrogate can be read, but never be sent back
    except UnicodeEncodeError:
        raise _bad_metadata(NO_METADATA) from None
    if len(pairs) > MAX_METADATA:
        raise _bad_metadata(f"metadata takes at most {MAX_METADATA} pairs.")
    if any(len(key) > MAX_METADATA_KEY or len(item) > MAX_METADATA_VALUE for key, item in pairs.items()):
        raise _bad_metadata(f"A metadata key has at most {MAX_METADATA_KEY} characters, a value {MAX_METADATA_VALUE}.")
    return json.dumps(pairs)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError for a key that stands twice: one of its values would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _bad_metadata(message: str) -> Refused:
    return Refused(400, "invalid_metadata", message, param="metadata")
