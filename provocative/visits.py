"""What is told of requests, to the log, to traces and to metrics: each by its route, never by its address.

Others make addresses: they would be names of series, and in a log whatever somebody wanted there.
"""

import importlib
import logging
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponseBase, StreamingHttpResponse

from batches import measures
from provocative.bodies import Body
from tenants import observed

log = logging.getLogger("provocative.requests")

QUIET = {"/healthz", "/readyz", "/metrics"}  # asked every few seconds, by machines
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
STATIC, UNKNOWN = "static/", "unknown"  # what metrics have in place of a route


def method_of(request: HttpRequest) -> str:
    return request.method if request.method in METHODS else "other"  # any other word is the client's


def route_of(request: HttpRequest) -> str:
    """The pattern of its address; "" where nothing is at it, or it was refused before that was looked at."""
    return request.resolver_match.route if request.resolver_match else ""


def _is_static(request: HttpRequest) -> bool:
    return request.path.startswith(settings.STATIC_URL)


class Visit:
    """One request: what is told of it when it is over."""

    def __init__(self, request: HttpRequest) -> None:
        self.request, self._began = request, time.perf_counter()

    def over(self, status: int, sent: int | None) -> None:
        """It was answered, and so many bytes were sent."""
        body = self.request.META.get("wsgi.input")
        observed.tell(
            log,
            "request",
            method=method_of(self.request),
            route=route_of(self.request) or None,
            status=status,
            seconds=round(time.perf_counter() - self._began, 6),
            bytes_in=body.taken if isinstance(body, Body) else None,
            bytes_out=sent,
        )


class Told:
    """Counts each request, and how long it took until its answer began. Tells of each, also of one that failed; of what
    is streamed once it is sent; not of health checks and static files."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response
        tracing = importlib.import_module("provocative.tracing") if settings.OTEL_ENDPOINT else None
        self._visit: Callable[[HttpRequest], Visit] = tracing.TracedVisit if tracing else Visit

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        began = time.perf_counter()
        quiet = request.path in QUIET or _is_static(request)
        response = self._get_response(request) if quiet else self._visited(request)
        route, method = route_of(request) or (STATIC if _is_static(request) else UNKNOWN), method_of(request)
        measures.REQUESTS.labels(route, method, response.status_code).inc()
        measures.DURATIONS.labels(route, method).observe(time.perf_counter() - began)
        return response

    def _visited(self, request: HttpRequest) -> HttpResponseBase:
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
