"""`manage.py tenant create | set | list`."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError, transaction

from tenants import admission, keys, trail
from tenants.management.console import VerbCommand, tenant_named, whole_number
from tenants.models import LONGEST_RETENTION, Tenant

NAME_LENGTH = 200
LIMITS = (
    "batch_limit",
    "enqueued_token_limit",
    "requests_per_minute",
    "retention_days",
    "storage_limit",
)  # of which `none` is none of its own
MOST = 2**63  # what the columns of tokens and bytes hold


class Command(VerbCommand):
    help = "Tenants: create one with its first API key, change one, list all."

    def add_verbs(self) -> None:
        create = self.verb("create", self.create, "Make a tenant; prints its API key, which is shown only here.")
        create.add_argument("name")
        create.add_argument("--plan", choices=Tenant.Plan.values, default=Tenant.Plan.SHARED)
        create.add_argument("--batch-limit", type=whole_number(0), help="Active batches; absent: the plan's limit.")
        create.add_argument("--retention-days", type=_some_days, help="That its files are kept; absent: 30.")
        create.add_argument("--storage-limit", type=whole_number(0, MOST), help="Bytes of its files; absent: 100 GiB.")
        change = self.verb("set", self.change, "Change a tenant; what is not named stays.")
        change.add_argument("name")
        change.add_argument("--plan", choices=Tenant.Plan.values)
        change.add_argument("--batch-limit", type=_limit, help="Active batches, or none for the plan's limit.")
        change.add_argument(
            "--enqueued-token-limit", type=_big, metavar="N|none", help="Estimated tokens that may wait."
        )
        change.add_argument(
            "--requests-per-minute", type=_rate, metavar="N|none", help="Of each key; none for the default."
        )
        change.add_argument("--retention-days", type=_days, metavar="N|none", help="That its files are kept.")
        change.add_argument("--storage-limit", type=_big, metavar="N|none", help="Bytes of its files.")
        change.add_argument("--weight", type=whole_number(1), help="Share of the service beside other tenants.")
        change.add_argument("--reserved-slots", type=whole_number(0), help="In-flight requests kept for it.")
        _add_suspension(change)
        self.verb("list", self.show, "Print every tenant.")

    def create(self, name: str, **columns: Any) -> None:
        if not name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
            raise CommandError(f"A tenant's name has 1 to {NAME_LENGTH} printable characters.")
        try:
            with transaction.atomic():
                tenant = Tenant.objects.create(name=name, **columns)
                trail.record(tenant, trail.OPERATOR, "tenant.created", name, **columns)
                _, key = keys.issue(tenant, trail.OPERATOR)
        except IntegrityError:
            raise CommandError(f"There is a tenant {name!r} already: `key create` makes it another key.") from None
        self.say({"tenant": name, "api_key": key, "plan": tenant.plan, "batch_limit": tenant.active_batch_limit})

    def change(self, name: str, **wanted: Any) -> None:
        changes = {field: value for field, value in wanted.items() if value is not None}
        changes |= {field: None for field in LIMITS if changes.get(field) == "none"}
        with transaction.atomic():
            tenant = admission.lock(tenant_named(name).pk)
            before = {field: getattr(tenant, field) for field in changes}
            if differences := trail.differences(before, changes):
                Tenant.objects.filter(pk=tenant.pk).update(**changes)
                self.follow(Tenant.objects.get(pk=tenant.pk), changes)
                trail.record(tenant, trail.OPERATOR, "tenant.changed", name, **differences)
        self.say(_shown(tenant_named(name)))

    def follow(self, tenant: Tenant, changes: dict[str, Any]) -> None:
        """What a change brings with it, in its transaction: rooms further up know."""

    def show(self) -> None:
        for tenant in Tenant.objects.order_by("name"):
            self.say(_shown(tenant))


def _add_suspension(parser: CommandParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--suspend", dest="suspended", action="store_true", default=None, help="Keys answer 403, batches wait."
    )
    either.add_argument("--resume", dest="suspended", action="store_false", default=None)


def _limit(text: str) -> int | str:
    return text if text == "none" else whole_number(0)(text)


def _big(text: str) -> int | str:
    return text if text == "none" else whole_number(0, MOST)(text)


def _days(text: str) -> int | str:
    return text if text == "none" else _some_days(text)


def _some_days(text: str) -> int:
    return whole_number(1, LONGEST_RETENTION + 1)(text)


def _rate(text: str) -> int | str:
    return text if text == "none" else whole_number(1)(text)


def _shown(tenant: Tenant) -> dict[str, Any]:
    return {
        "tenant": tenant.name,
        "plan": tenant.plan,
        "batch_limit": tenant.active_batch_limit,
        "enqueued_token_limit": tenant.enqueued_token_limit,
        "requests_per_minute": tenant.request_limit,
        "retention_days": tenant.retention.days,
        "storage_limit": tenant.stored_limit,
        "weight": tenant.weight,
        "reserved_slots": tenant.reserved_slots,
        "suspended": tenant.suspended,
    }
