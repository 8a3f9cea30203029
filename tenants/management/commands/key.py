"""`manage.py key create | revoke | list`."""

from datetime import timedelta

from django.core.management.base import CommandError
from django.utils import timezone

from tenants import keys
from tenants.management.console import VerbCommand, shown_time, tenant_named, whole_number
from tenants.models import ApiKey

LABEL_LENGTH = 100
LONGEST_DAYS = 36_500


class Command(VerbCommand):
    help = "API keys: make one, revoke one, list a tenant's. A key is shown once, when it is made."

    def add_verbs(self) -> None:
        create = self.verb("create", self.create, "Make a key for a tenant; it is shown only here.")
        create.add_argument("tenant", metavar="NAME")
        create.add_argument("--name", dest="label", default="default", help="What the key is for.")
        create.add_argument("--scopes", nargs="+", choices=keys.SCOPES, default=list(keys.SCOPES))
        create.add_argument("--expires-in-days", dest="days", type=whole_number(1))
        revoke = self.verb("revoke", self.revoke, "Revoke a key from the next request on.")
        revoke.add_argument("prefix", metavar="PREFIX", help="The key's first characters, as `key list` shows them.")
        show = self.verb("list", self.show, "Print a tenant's keys, without what makes them work.")
        show.add_argument("tenant", metavar="NAME")

    def create(self, tenant: str, label: str, scopes: list[str], days: int | None) -> None:
        if not label.strip() or len(label) > LABEL_LENGTH:
            raise CommandError(f"A key's name has 1 to {LABEL_LENGTH} characters.")
        if days and days > LONGEST_DAYS:
            raise CommandError(f"A key lives at most {LONGEST_DAYS} days; without --expires-in-days it never expires.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        row, key = keys.create(tenant_named(tenant), label, tuple(dict.fromkeys(scopes)), expires_at)
        self.say({"tenant": tenant, "api_key": key, **_shown(row)})

    def revoke(self, prefix: str) -> None:
        wanted = prefix.strip()[: len(keys.PREFIX) + keys.SHOWN_LENGTH]  # a whole key names itself too
        if not keys.revoke(wanted):
            raise CommandError(f"No live key begins with {wanted!r}: `key list NAME` shows the prefixes.")
        self.say({"prefix": wanted, "revoked": True})

    def show(self, tenant: str) -> None:
        for row in tenant_named(tenant).keys.order_by("pk"):
            self.say(
                {"tenant": tenant, **_shown(row), "revoked": shown_time(row.revoked_at)}
                | {"last_used": shown_time(row.last_used_at)}
            )


def _shown(row: ApiKey) -> dict[str, object]:
    return {
        "prefix": row.prefix,
        "name": row.name,
        "scopes": row.scopes.split(),
        "expires": shown_time(row.expires_at),
    }
