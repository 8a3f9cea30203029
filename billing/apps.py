"""The app, and what its settings should be."""

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        checks.register(check_stripe)


def check_stripe(**_: Any) -> list[checks.CheckMessage]:
    """Stripe without its webhooks: what is paid there comes home an hour late."""
    if not settings.STRIPE_API_KEY or settings.STRIPE_WEBHOOK_SECRET:
        return []
    hint = "Make the webhook endpoint at Stripe (docs/billing.md) and set STRIPE_WEBHOOK_SECRET to its whsec_… secret."
    return [checks.Warning("STRIPE_API_KEY is set, and STRIPE_WEBHOOK_SECRET is not.", hint=hint, id="billing.W001")]
