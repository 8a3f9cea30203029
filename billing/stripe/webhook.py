"""POST /stripe/webhook: where Stripe tells what has happened. No API key: its signature says who it is."""

import logging
import threading

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing.stripe import client, events
from tenants import scope

MOST = 256 * 1024  # bytes
PLACES = threading.BoundedSemaphore(16)  # each may wait for Stripe, and there are other requests

log = logging.getLogger(__name__)


@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """200 for what was acted on or is none of ours, 400 for what is not Stripe's, 503 to have it sent again."""
    if not (client.configured() and settings.STRIPE_WEBHOOK_SECRET):
        return HttpResponse(status=404)
    if int(request.META.get("CONTENT_LENGTH") or 0) > MOST:
        return HttpResponse(status=400)
    try:
        event = client.verified(request.body, request.headers.get("Stripe-Signature", ""))
    except client.BadSignature:
        return HttpResponse(status=400)
    if not PLACES.acquire(blocking=False):
        return HttpResponse(status=503)
    try:
        with scope.every():  # whose customer it is about is found out on the way
            events.act(event)
    except client.Failed as failed:
        log.warning("A webhook of Stripe's waits, since Stripe can't be asked: %s", failed)
        return HttpResponse(status=503)
    finally:
        PLACES.release()
    return HttpResponse(status=200)
