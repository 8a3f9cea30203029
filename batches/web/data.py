"""What a tenant has stored, for how long, and how to take it along or have it deleted."""

from allauth.account.internal.flows import reauthentication
from django.contrib import messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from batches import exporting, keeping
from tenants import trail, transfers
from tenants.web.access import Role, Seat, seat

AGAIN = "That it is you, is known for 15 minutes now: ask for the archive again."


@require_safe
@seat()
def data_page(request: HttpRequest, seat: Seat) -> HttpResponse:
    """What is kept, and for how long."""
    return render(request, "data.html", {"stored": keeping.stored(seat.tenant.pk)})


@require_POST
@seat(Role.OWNER)
def take_along(request: HttpRequest, seat: Seat) -> HttpResponseBase:
    """Everything, as a ZIP; after a password or a second step that was shown lately."""
    if not reauthentication.did_recently_reauthenticate(request):
        messages.info(request, AGAIN)
        back = reverse("data", args=[seat.tenant.public_id])
        return redirect(f"{reverse('account_reauthenticate')}?{urlencode({REDIRECT_FIELD_NAME: back})}")
    pieces = transfers.Transfer(exporting.archive(seat.tenant))
    try:
        trail.record(seat.tenant, seat.user.email, "tenant.exported", seat.tenant.name)
    except BaseException:
        pieces.close()
        raise
    answer = StreamingHttpResponse(pieces, content_type="application/zip")
    answer["Content-Disposition"] = transfers.disposition(f"{seat.tenant.public_id}.zip")
    return answer
