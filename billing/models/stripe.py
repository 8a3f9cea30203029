"""What Stripe told us."""

from django.db import models

from tenants import clock


class StripeEvent(models.Model):
    """An event that was acted upon: one that comes again does nothing."""

    event_id = models.CharField(max_length=100, unique=True, help_text="evt_…")
    type = models.CharField(max_length=100)
    created_at = models.DateTimeField(help_text="By Stripe's clock.")
    received_at = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"
