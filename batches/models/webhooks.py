"""Whom a tenant wants told of the ends of batches and of its limit, and what became of each telling."""

from django.db import models
from django.db.models import Q

from tenants.identifiers import public_id
from tenants.owned import Owned
from tenants.sealed_field import SealedField


def endpoint_id() -> str:
    return public_id("we_")


def event_id() -> str:
    return public_id("evt_")


class WebhookEndpoint(models.Model):
    """An address of a tenant's that events are posted to. Its secrets sign them; the API shows one once."""

    class Disabled(models.TextChoices):
        BY_TENANT = "by_tenant"
        GONE = "gone"  # it answered 410

    public_id = models.CharField(max_length=40, unique=True, default=endpoint_id)
    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="webhook_endpoints")
    url = models.CharField(max_length=2000)
    name = models.CharField(max_length=200, default="", blank=True)
    event_types = models.CharField(max_length=400, help_text="With spaces between.")
    secret = SealedField(purpose="webhook secret")
    previous_secret = SealedField(purpose="webhook secret", default="", blank=True)
    previous_until = models.DateTimeField(null=True, blank=True, help_text="Until then the previous one signs, too.")
    disabled_reason = models.CharField(max_length=20, choices=Disabled, default="", blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    objects = Owned()

    class Meta:
        indexes = [models.Index(fields=["tenant", "-id"], name="webhook_of_tenant")]

    def __str__(self) -> str:
        return self.public_id


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint.

    A pending row is due at `next_at`. A claim moves that to the end of its lease, so that one whose sender died is
    due again by itself.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"  # given up

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="+")
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    event_id = models.CharField(max_length=40, help_text="The same at every endpoint that the event goes to.")
    event_type = models.CharField(max_length=40)
    subject = models.CharField(max_length=40, help_text="The batch's public id; of an alert, which one.")
    created_at = models.DateTimeField(help_text="When it happened.")
    state = models.CharField(max_length=12, choices=State, default=State.PENDING)
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Counted at the claim; a replay begins anew.")
    next_at = models.DateTimeField(null=True, blank=True, help_text="When it is due, or the lease ends. Pending alone.")
    lease_token = models.CharField(max_length=32, default="", blank=True, help_text="Of who sends it now.")
    last_at = models.DateTimeField(null=True, blank=True, help_text="When the last attempt ended.")
    last_status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status, if one came.")
    last_error = models.CharField(max_length=40, default="", blank=True)

    objects = Owned()

    class Meta:
        verbose_name_plural = "webhook deliveries"
        permissions = [("replay_webhookdelivery", "Can send webhook events again")]
        constraints = [models.UniqueConstraint(fields=["endpoint", "event_id"], name="event_once_an_endpoint")]
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="delivery_of_endpoint"),
            models.Index(fields=["next_at"], name="delivery_due", condition=Q(state="pending")),
            models.Index(fields=["state", "id"], name="delivery_undone", condition=Q(state__in=("pending", "failed"))),
            models.Index(fields=["event_id"], name="delivery_of_event"),
            models.Index(fields=["subject"], name="delivery_of_subject"),
            models.Index(fields=["created_at"], name="delivery_age"),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.endpoint_id}"
