"""How every error leaves the API: `{"error": {"message", "type", "param", "code"}}`. Nothing else makes one."""

import logging
from typing import Any

from django.core.exceptions import (
    DisallowedHost,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFilesSent,
)
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.template.loader import render_to_string
from rest_framework import exceptions as drf
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from batches.core.requests import ENDPOINTS
from tenants.errors import Refused, too_slow

log = logging.getLogger(__name__)


class IgnoreAccept(BaseContentNegotiation):
    """JSON whatever the Accept header says: real clients send `application/binary` and mean nothing by it."""

    def select_parser(self, request: Request, parsers: Any) -> BaseParser | None:
        media = request.content_type.partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        return renderers[0], renderers[0].media_type


def body(refused: Refused) -> dict[str, Any]:
    """The error body, the shape that OpenAI's SDK reads."""
    return {
        "error": {
            "message": refused.message,
            "type": refused.type,
            "param": refused.param,
            "code": refused.code,
        }
    }


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: everything known becomes the error body, the rest goes on to `server_error`."""
    refused = too_slow() if isinstance(error, UnreadablePostError) else _translate(error)
    if refused is None:
        return None
    note(context["request"], refused)
    return Response(body(refused), status=refused.status, headers=refused.headers)


def note(request: HttpRequest | Request, refused: Refused) -> None:
    """Tell the log who was known and might not: by the prefix of the key, or the number of the person."""
    if refused.status == 403:
        key, person = getattr(request, "auth", None), getattr(getattr(request, "user", None), "pk", None)
        who = f"key {key.prefix}" if key else f"person {person}"
        log.warning("refused: %s to %s, %s", refused.code, who, request.method)


def _translate(error: Exception) -> Refused | None:
    match error:
        case Refused():
            return error
        case Http404() | drf.NotFound():
            return Refused(404, "not_found", "There is nothing at this address.")
        case drf.MethodNotAllowed():
            return Refused(405, "method_not_allowed", "This address does not take this method.")
        case drf.UnsupportedMediaType():
            return Refused(415, "unsupported_media_type", "Send multipart/form-data with the file in the field file.")
        case RequestDataTooBig() | TooManyFilesSent():
            return Refused(413, "request_too_large", "The form fields beside the file are too large.")
        case drf.ParseError() | MultiPartParserError() | SuspiciousOperation():
            return Refused(400, "malformed_request", "The request's body can't be read as what its headers say.")
        case drf.PermissionDenied() | PermissionDenied():
            return Refused(403, "permission_denied", "You may not do this.")
        case drf.APIException():
            return Refused(error.status_code, "invalid_request", "The request is not valid.")
    return None


def _wants_json(request: HttpRequest) -> bool:
    return request.path.startswith("/v1/")


def refuse(request: HttpRequest, refused: Refused) -> HttpResponse:
    """The answer to a refused request outside DRF's views: JSON, a page for browsers, or a line of text."""
    if _wants_json(request):
        return JsonResponse(body(refused), status=refused.status, headers=refused.headers)
    if "text/html" in request.headers.get("Accept", ""):
        return _page(request, refused)
    text = refused.message + "\n"
    return HttpResponse(text, status=refused.status, content_type="text/plain; charset=utf-8", headers=refused.headers)


def _page(request: HttpRequest, refused: Refused) -> HttpResponse:
    """For people. When it is our fault nothing is asked of the database: it may be what is broken."""
    knows = refused.status < 500 and hasattr(request, "user")
    context = {"refused": refused, "request_id": getattr(request, "id", "")}
    html = render_to_string("refused.html", context, request if knows else None)
    return HttpResponse(html, status=refused.status, headers=refused.headers)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, DisallowedHost):
        cure = "This service does not answer for this host name: its operator can add it to ALLOWED_HOSTS."
        return refuse(request, Refused(400, "host_not_allowed", cure))
    return refuse(request, Refused(400, "malformed_request", "The request can't be read."))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return refuse(request, Refused(403, "permission_denied", "You may not do this."))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if request.path in ENDPOINTS:
        cure = "This service runs batches. Send single requests to the model server itself."
        return refuse(request, Refused(404, "not_found", cure))
    return refuse(request, Refused(404, "not_found", "There is nothing at this address."))


def server_error(request: HttpRequest) -> HttpResponse:
    return refuse(
        request, Refused(500, "server_error", "This is our fault. Quote the x-request-id when you report it.")
    )
