"""`manage.py sla`: how each tenant's batches kept their 24 hours."""

from datetime import date

from django.core.management.base import CommandParser

from batches import attainment
from tenants import clock
from tenants.management.console import DocumentCommand, month
from tenants.models import Tenant


class Command(DocumentCommand):
    help = "Print for each tenant how many of its batches that ended in a month were there within 24 hours."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--month", type=month, metavar="YYYY-MM", help="Absent: this month so far (UTC).")

    def handle(self, month: date | None, **_: object) -> None:
        month = month or clock.month()
        found = attainment.of_month(month)
        names = dict(Tenant.objects.filter(pk__in=found).values_list("pk", "name"))
        for tenant, kept in found.items():
            counts = {"batches": kept.batches, "met": kept.met, "attainment": kept.share}
            self.say({"tenant": names[tenant], "month": f"{month:%Y-%m}", **counts})
