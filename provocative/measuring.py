"""Requests as Prometheus sees them: by route, never by address, so that nobody can make new series."""

import time
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from batches import measures

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STATIC, UNKNOWN = "static/", "unknown"


class Measured:
    """Counts each request and how long it took until its answer began."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began = time.perf_counter()
        response = self._get_response(request)
        route, method = _route(request), request.method if request.method in METHODS else "other"
        measures.REQUESTS.labels(route, method, response.status_code).inc()
        measures.DURATIONS.labels(route, method).observe(time.perf_counter() - began)
        return response


def _route(request: HttpRequest) -> str:
    if request.resolver_match is not None:
        return request.resolver_match.route
    return STATIC if request.path_info.startswith("/static/") else UNKNOWN
