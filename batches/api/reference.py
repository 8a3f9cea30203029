"""The description of the API itself, for programs: /v1/openapi.json. People read it at /docs/api."""

from django.http import HttpResponse, HttpResponseNotModified
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request

from batches.api import fields
from batches.api.openapi import generator
from tenants import transfers


@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def openapi(request: Request) -> HttpResponse:
    """The API as OpenAPI 3.1. Needs no key."""
    fields.query(request)
    document = generator.document()
    known = transfers.is_held(request, document.etag)
    response = HttpResponseNotModified() if known else HttpResponse(document.body, content_type="application/json")
    response["ETag"] = document.etag
    response["Cache-Control"] = "max-age=300"
    return response
