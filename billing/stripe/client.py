"""Calls of Stripe, and its signatures. Nothing else imports its library, which is loaded at the first call: it is
large, and most processes of the service never need it."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard

from django.conf import settings

CONNECT, ANSWER = 5.0, 20.0  # seconds
THEIR_FAULT = 500  # statuses from here on
TOLERANCE = 300  # seconds between a webhook's timestamp and our clock, either way
Ask = Callable[[Any], Any]
Object = dict[str, Any]  # of Stripe's, as JSON has it
_ID = re.compile("[A-Za-z0-9_-]{1,100}")
_of_thread = threading.local()


class Failed(Exception):
    """Stripe refused, or did not answer. Says what is needed to find it in Stripe's own log, and nothing secret."""

    def __init__(self, kind: str, status: int | None, code: str | None, request: str | None) -> None:
        parts = (kind, str(status or ""), code or "", request or "")
        super().__init__(" ".join(part for part in parts if part))
        self.status = status
        self.param: str | None = None
        self.replayed = False
        self.reused = kind == "IdempotencyError" and status == 400  # with other parameters; 409: it is in use

    @property
    def missing(self) -> bool:
        """There is no such object."""
        return self.status == 404


class BadSignature(ValueError):
    """A webhook that is not Stripe's, or not of now."""


def configured() -> bool:
    """Whether there is a Stripe to call."""
    return bool(settings.STRIPE_API_KEY)


def is_live() -> bool | None:
    """Whether the key is one of live mode; None where it does not say."""
    words = str(settings.STRIPE_API_KEY).split("_")
    return {"live": True, "test": False}.get(words[1] if len(words) > 1 else "")


def is_id(value: object) -> TypeGuard[str]:
    """Whether it can be an id, of Stripe's or of ours there."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def call(ask: Ask) -> Object:
    """What Stripe answers to `ask`, a function of the library's v1 services. Raises Failed."""
    with _translated():
        found: Object = ask(_services()).to_dict()
    return found


def every(ask: Ask) -> Iterator[Object]:
    """The objects of a list, whatever pages it has. Raises Failed."""
    with _translated():
        for each in ask(_services()).auto_paging_iter():
            yield each.to_dict()


def create(ask: Callable[[Any, Object], Any], key: str, attempt: int) -> Object:
    """What `ask` makes, given options with the permanent idempotency key `key`. Raises Failed.

    Stripe repeats a failure to whoever sends its key again, for 24 hours. At a second or later `attempt` the caller has
    looked and found nothing, so that what failed made nothing: it is asked for anew.
    """
    try:
        return call(lambda v1: ask(v1, {"idempotency_key": key}))
    except Failed as failed:
        if attempt == 1 or not (failed.replayed or failed.reused):
            raise
    return call(lambda v1: ask(v1, {"idempotency_key": f"{key}-{attempt}"}))


def verified(payload: bytes, header: str) -> Object:
    """The event of a webhook's raw body and Stripe-Signature. Raises BadSignature, also for one of long ago or of the
    future, which the library would take."""
    import stripe

    try:
        stripe.WebhookSignature.verify_header(payload, header, settings.STRIPE_WEBHOOK_SECRET, TOLERANCE)
        stamp = next(int(part[2:]) for part in header.split(",") if part.startswith("t="))
        event = json.loads(payload)
    except (stripe.StripeError, ValueError, TypeError, StopIteration, RecursionError):
        raise BadSignature from None
    if abs(time.time() - stamp) > TOLERANCE or not isinstance(event, dict):
        raise BadSignature
    return event


def _services() -> Any:
    """Of this thread: a session of the HTTP library is not to be shared."""
    wanted = (settings.STRIPE_API_KEY, settings.STRIPE_API_BASE, CONNECT, ANSWER)
    if getattr(_of_thread, "made_for", None) != wanted:
        _of_thread.services, _of_thread.made_for = _made(*wanted), wanted
    return _of_thread.services


def _made(key: str, base: str, connect: float, answer: float) -> Any:
    import requests
    import stripe

    stripe.enable_telemetry = False
    session = requests.Session()
    session.trust_env = False  # no proxy and no .netrc that happen to be around
    http = stripe.RequestsClient(timeout=(connect, answer), session=session)
    client = stripe.StripeClient(key, base_addresses={"api": base}, max_network_retries=0, http_client=http)
    return client.v1


@contextmanager
def _translated() -> Iterator[None]:
    import stripe

    try:
        yield
    except stripe.StripeError as error:
        failed = Failed(type(error).__name__, error.http_status, error.code, error.request_id)
        failed.param = getattr(error, "param", None)
        headers = {name.lower(): value for name, value in (error.headers or {}).items()}
        failed.replayed = headers.get("idempotent-replayed") == "true"
        raise failed from None  # its own text says more than is to be kept
