"""What a POST came to, so that the same one sent again is answered and not done again. The rules: idempotency.py."""

from django.db import models
from django.db.models import Q

from tenants.owned import Owned


class Submission(models.Model):
    """One POST: with an Idempotency-Key from its beginning, without one from the moment that it made something."""

    class State(models.TextChoices):
        RESERVED = "reserved"  # a request with this key is being worked on
        KEPT = "kept"  # it made `object_id`, or did something to it

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.CASCADE, related_name="+", db_index=False)
    api_key = models.ForeignKey(
        "tenants.ApiKey",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="Empty: a person.",
    )
    key = models.CharField(max_length=255, default="", blank=True, help_text="The Idempotency-Key; empty without one.")
    fingerprint = models.CharField(max_length=64, default="", blank=True, help_text="SHA-256 of what was asked for.")
    outline = models.CharField(
        max_length=64, default="", blank=True, help_text="SHA-256 of what is known of it before its body is read."
    )
    state = models.CharField(max_length=8, choices=State)
    retry = models.BooleanField(default=False, help_text="The request called itself a retry.")
    object_id = models.CharField(max_length=40, default="", blank=True, help_text="Public id of what came of it.")
    created_at = models.DateTimeField()

    objects = Owned()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["tenant", "key"], condition=~Q(key=""), name="one_submission_a_key")
        ]
        indexes = [
            models.Index(fields=["tenant", "fingerprint"], name="submission_matched"),
            models.Index(fields=["key", "created_at"], name="submission_unkeyed_age"),
            models.Index(fields=["created_at"], name="submission_age"),
        ]

    def __str__(self) -> str:
        return f"{self.state} {self.object_id}"
