"""Results as they come: GET /v1/batch/{id}/results. The output lines go out byte for byte as they are stored."""

import threading

from django.http import HttpResponse
from rest_framework.decorators import api_view
from rest_framework.request import Request

from batches import cursor
from batches.api import fields, finding, paging
from batches.core import states
from batches.core.states import Status
from batches.models import Batch
from tenants.errors import Refused, busy

MAX_LIMIT, DEFAULT_LIMIT = 1000, 100
MAX_AFTER = 10**9
PAGES = 16  # made at once: each may hold a few times cursor.PAGE_BYTES
_places = threading.BoundedSemaphore(PAGES)


@api_view(["GET", "HEAD"])
def results(request: Request, batch_id: str) -> HttpResponse:
    """The results after ?after=N, in the order in which they were stored."""
    fields.query(request, "after", "limit")
    after = _after(request.query_params.get("after", "0"))
    limit = paging.limit(request, MAX_LIMIT, DEFAULT_LIMIT)
    found = finding.batch(request, batch_id)
    if not _places.acquire(blocking=False):
        raise busy()
    try:
        return HttpResponse(_page(found, after, limit), content_type="application/json")
    finally:
        _places.release()


def _after(value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(MAX_AFTER)) and int(value) <= MAX_AFTER):
        raise Refused(400, "invalid_after", f"after must be a whole number from 0 to {MAX_AFTER}.", param="after")
    return int(value)


def _page(batch: Batch, after: int, limit: int) -> bytes:
    """JSON around the lines. The status is as old as last_seq: at a terminal one nothing comes any more."""
    page = cursor.page(batch, after, limit)
    last = page[-1][0].seq if page else after
    lines = b",".join(b'{"seq":%d,"line":%d,%b' % (row.seq, row.line, body[1:]) for row, body in page)
    more = b"true" if last < batch.last_seq else b"false"
    shown = states.shown(Status(batch.status), batch.cancelling_at is not None).encode()
    return b'{"object":"list","data":[%b],"last_seq":%d,"has_more":%b,"status":"%b"}' % (lines, last, more, shown)
