"""The log of requests, and the trace of one: each with its route, never with its address, which others make."""

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse

from provocative.bodies import Body
from tenants import observed

log = logging.getLogger("provocative.requests")

QUIET = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds, by machines
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Visit:
    """One request: what is told of it when it is over."""

    def __init__(self, request: HttpRequest) -> None:
        self._request, self._began = request, time.perf_counter()

    @property
    def method(self) -> str:
        return self._request.method if self._request.method in METHODS else "other"  # any other word is the client's

    @property
    def route(self) -> str:
        """The pattern of its address; "" where nothing is at it, or it was refused before that was looked at."""
        match = self._request.resolver_match
        return match.route if match else ""

    def over(self, status: int, sent: int | None) -> None:
        """It was answered, and so many bytes were sent."""
        body = self._request.META.get("wsgi.input")
        observed.tell(
            log,
            "request",
            method=self.method,
            route=self.route or None,
            status=status,
            seconds=round(time.perf_counter() - self._began, 6),
            bytes_in=body.taken if isinstance(body, Body) else None,
            bytes_out=sent,
        )


class Told:
    """Tells of each request, also of one that failed; of what is streamed once it is sent. Not of health checks and
    static files."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        tracing = importlib.import_module("provocative.tracing") if settings.OTEL_ENDPOINT else None
        self._visit: Callable[[HttpRequest], Visit] = tracing.TracedVisit if tracing else Visit

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path in QUIET or request.path.startswith(settings.STATIC_URL):
            return self._get_response(request)
        visit = self._visit(request)
        response = self._get_response(request)
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            response.streaming_content = Sent(response, visit)
        else:
            visit.over(response.status_code, len(getattr(response, "content", b"")))
        return response


class Sent(Iterator[bytes]):
    """What is streamed, counted; the server closes it, also when the client has left."""

    def __init__(self, response: StreamingHttpResponse, visit: Visit) -> None:
        self._pieces, self._status, self._visit = iter(response), response.status_code, visit
        self._sent, self._run = 0, copy_context().run

    def __next__(self) -> bytes:
        piece: bytes = next(self._pieces)
        self._sent += len(piece)
        return piece

    def close(self) -> None:
        self._run(self._visit.over, self._status, self._sent)
