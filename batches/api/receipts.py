"""What proves a batch's charge: the receipts of its lines, its signed manifest, the keys of such signatures."""

from django.http import HttpResponseBase
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import fields, finding, outputs
from batches.api.serializers import unix
from batches.models import SigningKey


@api_view(["GET", "HEAD"])
def receipts(request: Request, batch_id: str) -> HttpResponseBase:
    """A receipt for each line that was run or skipped, in the order of the input."""
    fields.query(request)
    return outputs.receipts(request, finding.batch(request, batch_id))


@api_view(["GET", "HEAD"])
def manifest(request: Request, batch_id: str) -> Response:
    """The batch's files, sums and charge as one signed text."""
    fields.query(request)
    return Response(outputs.manifest(finding.batch(request, batch_id)))


@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def keys(request: Request) -> Response:
    """Every key that has signed a manifest here, newest first. Needs no API key."""
    fields.query(request)
    data = [
        {
            "id": key.key_id,
            "object": "manifest_key",
            "algorithm": outputs.ALGORITHM,
            "public_key": key.public_key,
            "created_at": unix(key.created_at),
        }
        for key in SigningKey.objects.order_by("-pk")
    ]
    return Response({"object": "list", "data": data})
