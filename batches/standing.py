"""How a tenant stands: what it has in credits, what its month has come to, and what is left of both. Pico-USD."""

from datetime import date
from typing import NamedTuple

from batches import reserving
from batches.reserving import Running
from billing import ledger
from billing.models import Customer
from tenants import clock


class Standing(NamedTuple):
    """The figures of GET /v1/billing, and of the page."""

    customer: Customer  # one that is not stored, where there was no need of it yet
    balance: int  # of its credits
    running: Running
    month: date
    charged: int  # in the month

    @property
    def credits_left(self) -> int:
        """Of its credits, less what is reserved."""
        return max(self.balance - self.running.held, 0)

    @property
    def limit_left(self) -> int | None:
        """Of the month's limit, less what is charged and what is reserved; None without a limit."""
        limit = self.customer.monthly_limit
        return None if limit is None else max(limit - self.charged - self.running.held, 0)

    @property
    def alerted(self) -> int:
        """The share of the month's limit, in percent, that the tenant was told of last."""
        return self.customer.alerted_percent if self.customer.alerted_month == self.month else 0


def of(tenant: int) -> Standing:
    """Five queries, and one for the time."""
    customer = Customer.objects.filter(pk=tenant).first() or Customer()
    month = clock.month()
    balance = ledger.balance(tenant, ledger.Account.CREDITS)
    return Standing(customer, balance, reserving.running(tenant), month, ledger.charged_since(tenant, month))
