"""How batches and webhooks look on pages: the words and the colours of their states."""

from batches.core import caps
from batches.core.states import Status
from batches.models import WebhookDelivery

# What a status looks like: busy and waiting batches move, good, bad and still ones have ended.
LOOKS = {
    Status.VALIDATING: "waiting",
    Status.IN_PROGRESS: "busy",
    Status.CANCELLING: "waiting",
    Status.EXPIRING: "waiting",
    Status.FINALIZING: "busy",
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "still",
    Status.EXPIRED: "bad",
}
PAUSES = {
    caps.MAX_COST: "cost limit reached",
    caps.MAX_ERROR_RATE: "too many lines failed",
    caps.CREDITS: "credits used up",
    caps.SPENDING: "spending limit reached",
}
DELIVERY_LOOKS = {
    WebhookDelivery.State.PENDING: ("Waits", "waiting"),
    WebhookDelivery.State.DELIVERED: ("Delivered", "good"),
    WebhookDelivery.State.FAILED: ("Failed", "bad"),
}
# Why an attempt failed, by the code of the log: what happened, and what to do.
DELIVERY_ERRORS = {
    "http_status": "That is no success: answer with a status from 200 to 299.",
    "redirect": "Redirects are not followed: correct the URL.",
    "timeout": "There was no answer within 15 seconds, or no connection within 5.",
    "connection_failed": "The connection was refused, or broke.",
    "tls_failed": "The certificate is not valid for this name, or not trusted.",
    "invalid_response": "What came back is no HTTP.",
    "name_not_resolved": "The host has no address: check the URL.",
    "address_not_allowed": "The host leads to an address that is not on the public internet.",
    "https_required": "The URL must begin with https://.",
    "invalid_url": "The URL can't be used.",
    "endpoint_disabled": "The endpoint was disabled while the event waited.",
    "sender_died": "The service failed while it sent: a fault of ours.",
    "sender_failed": "The service failed while it sent: a fault of ours.",
}


def cents(usd: str) -> str:
    """USD with two decimals at least; none of those there are is dropped."""
    whole, _, fraction = usd.partition(".")
    return f"{whole}.{fraction:0<2}"
