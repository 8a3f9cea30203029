"""A request id on every answer, the client's own when it is a harmless one."""

import logging
import re
import secrets
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse

_current: ContextVar[str] = ContextVar("request_id", default="")
_HARMLESS = re.compile(r"[A-Za-z0-9_.-]{8,64}")


class NameRequest(logging.Filter):
    """Gives every log line the id of the request it was written in."""

    def filter(self, record: logging.LogRecord) -> bool:
        current = _current.get()
        record.request = f"[{current}] " if current else ""
        return True


class RequestId:
    """Sets request.id and the x-request-id header."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("x-request-id", "")
        request_id = sent if _HARMLESS.fullmatch(sent) else f"req_{secrets.token_hex(12)}"
        request.id = request_id  # type: ignore[attr-defined]
        token = _current.set(request_id)
        try:
            response = self._get_response(request)
        finally:
            _current.reset(token)
        response["x-request-id"] = request_id
        return response
