"""A request id on every answer, the client's own when it is a harmless one."""

import re
import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

_HARMLESS = re.compile(r"[A-Za-z0-9_.-]{8,64}")


class RequestId:
    """Sets request.id and the x-request-id header."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("x-request-id", "")
        request_id = sent if _HARMLESS.fullmatch(sent) else f"req_{secrets.token_hex(12)}"
        request.id = request_id  # type: ignore[attr-defined]
        response = self._get_response(request)
        response["x-request-id"] = request_id
        return response
