"""What proves a batch's charge: the receipts of its lines, its signed manifest, the keys of such signatures."""

from django.http import HttpResponseBase
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response

from batches.api import downloads, fields, finding
from batches.api.serializers import unix
from batches.core.states import RUN, Status
from batches.models import Batch, Manifest, SigningKey
from tenants.errors import Refused

ALGORITHM = "ed25519"
SOON = "2"  # seconds


@api_view(["GET", "HEAD"])
def receipts(request: Request, batch_id: str) -> HttpResponseBase:
    """A receipt for each line that was run or skipped, in the order of the input."""
    fields.query(request)
    found = _ended(request, batch_id)
    if found.receipts_file is None:
        raise _not_ready()
    return downloads.send(request, found.receipts_file)


@api_view(["GET", "HEAD"])
def manifest(request: Request, batch_id: str) -> Response:
    """The batch's files, sums and charge as one signed text."""
    fields.query(request)
    found = Manifest.objects.select_related("key").filter(batch=_ended(request, batch_id)).first()
    if found is None:
        raise _not_ready()
    return Response(
        {
            "object": "batch.manifest",
            "signed": found.signed,
            "algorithm": ALGORITHM,
            "signature": found.signature,
            "key_id": found.key.key_id,
            "public_key": found.key.public_key,
        }
    )


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
            "algorithm": ALGORITHM,
            "public_key": key.public_key,
            "created_at": unix(key.created_at),
        }
        for key in SigningKey.objects.order_by("-pk")
    ]
    return Response({"object": "list", "data": data})


def _ended(request: Request, batch_id: str) -> Batch:
    """The tenant's batch. Raises Refused 404, and 409 where there is nothing to be sealed, or not yet."""
    found = finding.batch(request, batch_id)
    if found.status == Status.FAILED:
        raise Refused(409, "batch_failed", "The batch never ran: see its errors. Nothing is charged.")
    if found.status not in RUN:
        raise finding.not_complete(found)
    return found


def _not_ready() -> Refused:
    message = "The batch has ended, and its receipts are being written: ask again in a moment."
    return Refused(409, "receipts_not_ready", message, headers={"Retry-After": SOON})
