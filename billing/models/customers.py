"""How a tenant pays."""

from django.db import models

from billing.fields import PicoField
from tenants.owned import Owned


class Customer(models.Model):
    """The money side of a tenant: its limits, and who it is at Stripe. Made when it is first needed."""

    tenant = models.OneToOneField("tenants.Tenant", on_delete=models.PROTECT, related_name="customer", primary_key=True)
    prepaid = models.BooleanField(default=False, help_text="Batches start only as far as its credits cover them.")
    monthly_limit = PicoField(null=True, blank=True, help_text="Pico-USD of charges in a month (UTC); blank: no limit.")
    alerted_month = models.DateField(null=True, blank=True, help_text="First day of the month of the last alert.")
    alerted_percent = models.PositiveSmallIntegerField(default=0, help_text="Of the limit, in that month.")
    stripe_id = models.CharField(max_length=64, null=True, blank=True, unique=True, help_text="cus_…")
    stripe_reference = models.CharField(max_length=40, default="", blank=True, help_text="Its name for us at Stripe.")
    stripe_asked_at = models.DateTimeField(null=True, blank=True, help_text="When Stripe was first asked to make it.")
    stripe_read_at = models.DateTimeField(null=True, blank=True, help_text="When the two below were last asked for.")
    can_pay = models.BooleanField(default=False, help_text="Stripe has a payment method for it.")
    past_due_since = models.DateTimeField(null=True, blank=True, help_text="Its new batches are refused.")

    objects = Owned()

    def __str__(self) -> str:
        return f"customer {self.tenant}"
