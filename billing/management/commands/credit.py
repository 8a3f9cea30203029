"""`manage.py credit grant`: credits for a tenant."""

from django.core.management.base import CommandError

from billing import customers, ledger, money
from tenants.management.console import VerbCommand, tenant_named


class Command(VerbCommand):
    help = "Credits: give a tenant some; its charges take from them first."

    def add_verbs(self) -> None:
        grant = self.verb("grant", self.grant, "Give a tenant credits, once a reference.")
        grant.add_argument("name", metavar="NAME")
        grant.add_argument("usd", metavar="USD")
        grant.add_argument("--reference", metavar="R", required=True, help="What it is for: posted once.")
        grant.add_argument("--note", metavar="N", default="", help="Shown beside it: tenants read it.")
        grant.add_argument("--paid", action="store_true", help="They were paid for; absent: they are a gift.")

    def grant(self, name: str, usd: str, reference: str, note: str, paid: bool) -> None:
        tenant = tenant_named(name)
        try:
            posted = customers.give(tenant.pk, money.amount(usd), reference, note, paid)
        except ValueError as error:
            raise CommandError(str(error)) from None
        balance = ledger.balance(tenant.pk, ledger.Account.CREDITS)
        self.say(
            {"tenant": name, "reference": reference, "posted": posted is not None, "credits_usd": money.usd(balance)}
        )
