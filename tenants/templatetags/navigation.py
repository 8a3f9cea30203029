"""The pages of a tenant, as the navigation lists them."""

from django import template
from django.http import HttpRequest
from django.urls import reverse

from tenants.web.access import Seat

register = template.Library()

PAGES = (
    ("batches", "Batches"),
    ("upload", "New batch"),
    ("usage", "Usage"),
    ("billing", "Billing"),
    ("keys", "API keys"),
    ("webhooks", "Webhooks"),
    ("team", "Team"),
    ("trail", "Audit trail"),
    ("data", "Data"),
)
WRITERS = {"upload"}  # pages for who may do something


@register.filter
def entries(request: HttpRequest, seat: Seat) -> list[tuple[str, str, bool]]:
    """Each page's address and name, and whether it is the one that is shown, or above it."""
    pages = [(name, label) for name, label in PAGES if seat.writes or name not in WRITERS]
    addresses = [(reverse(name, args=[seat.tenant.public_id]), label) for name, label in pages]
    here = max((address for address, _ in addresses if request.path.startswith(address)), key=len, default="")
    return [(address, label, address == here) for address, label in addresses]
