"""`manage.py customer set | show`: how a tenant pays, and how far it may spend."""

from argparse import ArgumentTypeError
from typing import Any

from django.core.management.base import CommandParser
from django.db import transaction

from billing import customers, ledger, money, prices
from billing.models import TenantDiscount
from tenants import clock, trail
from tenants.management.console import VerbCommand, shown_time, tenant_named, whole_number
from tenants.models import Tenant

NONE = "none"


class Command(VerbCommand):
    help = "Customers: how a tenant pays, and how far it may spend."

    def add_verbs(self) -> None:
        change = self.verb("set", self.change, "Change how a tenant pays; what is not named stays.")
        change.add_argument("name", metavar="NAME")
        _add_prepaid(change)
        change.add_argument("--monthly-limit", type=_usd, metavar="USD|none", help="Of charges in a month (UTC).")
        change.add_argument(
            "--discount", type=_percent, metavar="PERCENT|none", help="In place of each model's, for new batches."
        )
        show = self.verb("show", self.show, "Print how a tenant pays, and what it has spent.")
        show.add_argument("name", metavar="NAME")

    def change(
        self, name: str, prepaid: bool | None, monthly_limit: int | str | None, discount: int | str | None
    ) -> None:
        tenant = tenant_named(name)
        columns: dict[str, Any] = {} if prepaid is None else {"prepaid": prepaid}
        if monthly_limit is not None:
            columns["monthly_limit"] = None if monthly_limit == NONE else monthly_limit
        with transaction.atomic():
            if columns:
                customers.change(tenant.pk, trail.OPERATOR, **columns)
            if discount is not None:
                percent = discount if isinstance(discount, int) else None
                customers.discount(TenantDiscount(tenant=tenant, discount=percent), trail.OPERATOR)
        self.say(_shown(tenant))

    def show(self, name: str) -> None:
        self.say(_shown(tenant_named(name)))


def _add_prepaid(parser: CommandParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--prepaid", action="store_true", default=None, help="Batches start only as far as its credits cover them."
    )
    either.add_argument("--postpaid", dest="prepaid", action="store_false", default=None)


def _usd(text: str) -> int | str:
    try:
        return text if text == NONE else money.amount(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _percent(text: str) -> int | str:
    return text if text == NONE else whole_number(money.LEAST_DISCOUNT, 101)(text)


def _shown(tenant: Tenant) -> dict[str, Any]:
    customer, own = customers.of(tenant.pk), prices.own_discount(tenant.pk, clock.now())
    limit = customer.monthly_limit
    return {
        "tenant": tenant.name,
        "prepaid": customer.prepaid,
        "monthly_limit_usd": None if limit is None else money.usd(limit),
        "discount": None if own is None else money.share([own]),
        "credits_usd": money.usd(ledger.balance(tenant.pk, ledger.Account.CREDITS)),
        "owed_usd": money.usd(ledger.balance(tenant.pk, ledger.Account.RECEIVABLE)),
        "charged_this_month_usd": money.usd(ledger.charged_since(tenant.pk, clock.month())),
        "can_pay": customer.can_pay,
        "past_due_since": shown_time(customer.past_due_since),
    }
