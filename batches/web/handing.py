"""A batch's files for people: the same rooms as the API's, behind a session; always to keep, never shown as a page."""

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.views.decorators.http import require_safe

from batches.api import outputs
from batches.web import watching
from tenants import transfers
from tenants.web.access import Seat, seat


@require_safe
@seat()
def output(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponseBase:
    """Every line's result; ?partial=true what is done so far, ?merged=true with what it retries."""
    return outputs.output(request, watching.batch(seat.tenant, batch_id), request.GET)


@require_safe
@seat()
def errors(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponseBase:
    """The failed lines alone."""
    answer = outputs.errors(request, watching.batch(seat.tenant, batch_id))
    answer.setdefault("Content-Disposition", transfers.disposition(f"{batch_id}_errors.jsonl"))
    return answer


@require_safe
@seat()
def receipts(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponseBase:
    """A receipt for each line."""
    return outputs.receipts(request, watching.batch(seat.tenant, batch_id))


@require_safe
@seat()
def manifest(request: HttpRequest, seat: Seat, batch_id: str) -> HttpResponseBase:
    """The signed account of the batch."""
    answer = JsonResponse(outputs.manifest(watching.batch(seat.tenant, batch_id)))
    answer["Content-Disposition"] = transfers.disposition(f"{batch_id}_manifest.json")
    return answer
