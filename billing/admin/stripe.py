"""What Stripe told us."""

from django.contrib import admin

from billing.models import StripeEvent
from tenants.console.pages import ReadOnly


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly):
    list_display = fields = readonly_fields = ("event_id", "type", "created_at", "received_at")
    search_fields = ("event_id__startswith",)
