"""What every answer carries: a request id, the rate of its key; for whom a request works; what none may hold."""

import re
import secrets
import threading
from collections.abc import Callable
from typing import ClassVar

from django.conf import settings
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    StreamingHttpResponse,
    UnreadablePostError,
)

from provocative import errors
from provocative.bodies import Body
from tenants import holding, observed, scope, throttling
from tenants.errors import Refused, busy, too_slow

BODIES = 48  # requests with a body at once
CHUNKED = "This address takes no body whose size is not known: send it with a Content-Length, not in chunks."
IN_THE_CLEAR = "This came unencrypted: use https, and take a new key, since this one may have been read on the way."
MAX_FORM = 1024 * 1024  # bytes of a body anywhere but at UPLOADS
UPLOADS = {"/v1/batch", "/v1/batch/validate", "/v1/files"}
SAFE = {"GET", "HEAD", "OPTIONS"}
CHANGING = ("/v1/", "/t/", "/stripe/")  # where tenants, and Stripe, change what is theirs
_UPLOADED = re.compile(r"/t/[^/]+/uploads")  # by PUT: the body is the file
_LENGTH = re.compile("[0-9]{1,100}")  # Python reads no number of thousands of digits
_HARMLESS = re.compile(r"[A-Za-z0-9_.-]{8,64}")


class Headers:
    """What browsers and caches are told of every answer, unless it says otherwise itself."""

    POLICY: ClassVar = {
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        for name, value in self.POLICY.items():
            response.setdefault(name, value)
        if getattr(request, "signed_out", False):
            response["Clear-Site-Data"] = '"storage"'  # nothing else is kept in a browser
        return response


class Encrypted:
    """With HTTPS=1 the API refuses what came in the clear, before its key is looked at."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.HTTPS and request.path.startswith("/v1/") and not request.is_secure():
            return errors.refuse(request, Refused(403, "https_required", IN_THE_CLEAR))
        return self._get_response(request)


class BoundedBodies:
    """Requests with a body hold a thread for as long as the client takes to send it: they may not hold all.

    A body that no page takes is refused before it is read.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._places = threading.BoundedSemaphore(BODIES)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        length = request.META.get("CONTENT_LENGTH") or "0"
        chunked = "HTTP_TRANSFER_ENCODING" in request.META
        if length == "0" and not chunked:
            return self._get_response(request)
        if not _takes_files(request) and (chunked or not _LENGTH.fullmatch(length) or int(length) > MAX_FORM):
            message = CHUNKED if chunked else "This address takes no body of this size."
            return errors.refuse(request, Refused(413, "request_too_large", message))
        if not self._places.acquire(blocking=False):
            return errors.refuse(request, busy())
        body = request.META.get("wsgi.input")
        try:
            response = self._get_response(request)
        finally:
            self._places.release()
        if isinstance(body, Body) and body.slow:  # whatever was made of it: Django's CSRF check takes it for no token
            return errors.refuse(request, too_slow())
        return response


class Holding:
    """While the service holds, tenants read, and nothing of theirs is changed, nor is taken what Stripe tells. Staff go
    on, and people sign in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method not in SAFE and request.path.startswith(CHANGING) and holding.held():
            return errors.refuse(request, holding.refusal())
        return self._get_response(request)


def _takes_files(request: HttpRequest) -> bool:
    return request.path in UPLOADS or (request.method == "PUT" and _UPLOADED.fullmatch(request.path) is not None)


class RateHeaders:
    """How much of its rate the key has left, on every answer to one that was recognised."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self._get_response(request)
        allowance = getattr(request, "allowance", None)
        if allowance is not None:
            for name, value in throttling.headers(allowance).items():
                response[name] = value
        return response


class RefusedPages:
    """A page that a view refuses is answered as every refusal is."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Django's own hook: None lets it go on to the next one."""
        if isinstance(error, UnreadablePostError):
            error = too_slow()
        if not isinstance(error, Refused):
            return None
        errors.note(request, error)
        return errors.refuse(request, error)


class Scoped:
    """A request works for nobody until it is settled for whom; and what it streams, for the same."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with scope.nobody():
            response = self._get_response(request)
            if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
                response.streaming_content = scope.carried_each(iter(response))
            return response


class RequestId:
    """Sets request.id and the x-request-id header: the client's own when it is a harmless one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("x-request-id", "")
        request_id = sent if _HARMLESS.fullmatch(sent) else f"req_{secrets.token_hex(12)}"
        request.id = request_id  # type: ignore[attr-defined]
        with observed.within(request=request_id):
            response = self._get_response(request)
        response["x-request-id"] = request_id
        return response
