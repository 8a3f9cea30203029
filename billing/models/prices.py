"""Price versions in time. None is ever edited and none is back-dated: a change is a new row.

Money is whole pico-USD (10^-12). Rates are pico-USD a token at the standard price: a price of at most 6 decimals
per million tokens is a whole number of them.
"""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from billing.money import LEAST_DISCOUNT
from tenants import clock
from tenants.owned import Owned

_SHARE = [MinValueValidator(LEAST_DISCOUNT), MaxValueValidator(100)]


class Price(models.Model):
    """One version of a model's standard price, and of what a batch is spared of it."""

    model = models.CharField(max_length=200)
    input = models.BigIntegerField(help_text="Pico-USD per input token, standard rate.")
    cached_input = models.BigIntegerField(help_text="Pico-USD per cached input token.")
    output = models.BigIntegerField(help_text="Pico-USD per output token.")
    discount = models.PositiveSmallIntegerField(
        default=LEAST_DISCOUNT, validators=_SHARE, help_text="Percent that a batch is spared of the standard price."
    )
    effective_at = models.DateTimeField(default=clock.now)

    class Meta:
        indexes = [models.Index(fields=["model", "-effective_at"], name="price_in_force")]

    def __str__(self) -> str:
        return f"{self.model} from {self.effective_at:%Y-%m-%d %H:%M}"


class TenantDiscount(models.Model):
    """One version of a tenant's own discount, which takes the place of each model's."""

    tenant = models.ForeignKey("tenants.Tenant", on_delete=models.PROTECT, related_name="discounts", db_index=False)
    discount = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=_SHARE, help_text="Percent; blank: none of its own from now on."
    )
    effective_at = models.DateTimeField(default=clock.now)

    objects = Owned()

    class Meta:
        indexes = [models.Index(fields=["tenant", "-effective_at"], name="discount_in_force")]

    def __str__(self) -> str:
        return f"{self.tenant}: {self.discount} from {self.effective_at:%Y-%m-%d %H:%M}"
