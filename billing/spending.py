"""What a tenant may still spend: its prepaid credits, its limit of the month, and whether it has paid its invoices.

Batches are known here by numbers that are passed in, as tenants.admission is told how many there are. What races is
checked under the tenant's lock, the caller's. Amounts are pico-USD.
"""

from datetime import date
from typing import Any, NamedTuple

from django.db.models import QuerySet

from billing import ledger, money
from billing.models import Customer
from tenants import clock
from tenants.errors import Refused

PERCENTS = (50, 80, 100)  # of the limit of a month, that a tenant is told of
WAIT = "Wait until others have ended"
LOWER = "Give its lines lower limits of output, or a long batch a max_cost_usd; or wait until others have ended"
SHORTER = "If it is long, resume it with a max_cost_usd; or wait until others have ended"  # what runs can't be changed


class Terms(NamedTuple):
    """How a tenant pays, as its customer row says."""

    prepaid: bool = False
    limit: int | None = None  # of a month
    past_due: bool = False

    @property
    def limited(self) -> bool:
        return self.prepaid or self.limit is not None


class Alerts(NamedTuple):
    """How far the limit of a tenant's month was told to be used up."""

    tenant: int
    limit: int
    month: date
    told_month: date | None
    told: int  # percent, in that month

    def due(self, spent: int) -> list[int]:
        """The shares of the limit that `spent` has come to, and nobody was told of."""
        told = self.told if self.told_month == self.month else 0
        return [percent for percent in PERCENTS if percent > told and spent * 100 >= self.limit * percent]

    def mark(self, percent: int) -> bool:
        """Note that it is told of; False when somebody else did so, or the limit is another one now."""
        rows = Customer.objects.filter(pk=self.tenant, monthly_limit=self.limit)
        unchanged = rows.filter(alerted_month=self.told_month, alerted_percent=self.told)
        return unchanged.update(alerted_month=self.month, alerted_percent=percent) == 1


class Funds(NamedTuple):
    """What a tenant can spend, and what is spent of it."""

    balance: int | None  # of its credits; None: it may owe
    limit: int | None  # of the month
    charged: int  # in the month
    held: int  # by batches that run: what they may cost


def terms(tenant: int) -> Terms:
    """One query, whatever they are."""
    row = Customer.objects.filter(pk=tenant).values_list("prepaid", "monthly_limit", "past_due_since").first()
    return Terms(row[0], row[1], row[2] is not None) if row else Terms()


def funds(tenant: int, terms: Terms, held: int) -> Funds:
    """A query or two for each limit that there is."""
    balance = ledger.balance(tenant, ledger.Account.CREDITS) if terms.prepaid else None
    charged = 0 if terms.limit is None else ledger.charged_since(tenant, clock.month())
    return Funds(balance, terms.limit, charged, held)


def alerts(tenant: int) -> Alerts | None:
    """None: the tenant has no limit."""
    rows = Customer.objects.filter(pk=tenant, monthly_limit__isnull=False)
    row = rows.values_list("monthly_limit", "alerted_month", "alerted_percent").first()
    return Alerts(tenant, row[0] or 0, clock.month(), row[1], row[2]) if row else None


def to_alert(tenants: QuerySet[Any, Any]) -> list[int]:
    """Those of the tenants that have a limit, and were not told yet that it is used up."""
    rows = Customer.objects.filter(tenant__in=tenants, monthly_limit__isnull=False)
    return list(rows.exclude(alerted_month=clock.month(), alerted_percent=PERCENTS[-1]).values_list("pk", flat=True))


def check_paid(terms: Terms) -> None:
    """Raises Refused 402 while an invoice is past due."""
    if terms.past_due:
        message = "An invoice is past due: pay it at its payment_url (GET /v1/invoices), or ask the operator."
        raise Refused(402, "payment_required", message)


def check(funds: Funds, wanted: int | None = None, cure: str = LOWER) -> None:
    """Raises Refused 402 when a batch that may cost `wanted` does not fit; without it, when nothing at all would.

    What costs nothing always fits.
    """
    cure = WAIT if wanted is None else cure
    if funds.balance is not None and not _fits(funds.balance - funds.held, wanted):
        short = _short_of_credits(funds, funds.balance)
        raise Refused(402, "insufficient_credits", f"{_asked(wanted)}{short}. {cure}; or get more credits.")
    if funds.limit is not None and not _fits(funds.limit - funds.charged - funds.held, wanted):
        short = _short_of_limit(funds, funds.limit)
        message = f"{_asked(wanted)}{short}. {cure}; or ask the operator for a higher limit."
        raise Refused(402, "spending_limit_exceeded", message)


def _fits(left: int, wanted: int | None) -> bool:
    return left > 0 if wanted is None else wanted <= left or not wanted


def _short_of_credits(funds: Funds, balance: int) -> str:
    left = f"{_usd(balance - funds.held)} USD of your credits are available ({money.usd(balance)}, "
    return left + f"less {money.usd(funds.held)} reserved for batches that run)"


def _short_of_limit(funds: Funds, limit: int) -> str:
    left = f"{_usd(limit - funds.charged - funds.held)} USD are left of your limit of {money.usd(limit)} this month "
    return left + f"({money.usd(funds.charged)} charged, {money.usd(funds.held)} reserved for batches that run)"


def _asked(wanted: int | None) -> str:
    return "" if wanted is None else f"The batch may cost up to {money.usd(wanted)} USD, and "


def _usd(left: int) -> str:
    return money.usd(max(left, 0))
