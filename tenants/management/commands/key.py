"""`manage.py key create | rotate | revoke | list`."""

from datetime import timedelta

from django.core.management.base import CommandError
from django.utils import timezone

from tenants import keys, trail
from tenants.management.console import VerbCommand, shown_time, tenant_named, whole_number
from tenants.models import ApiKey

OVERLAP = 24  # hours


class Command(VerbCommand):
    help = "API keys: make one, replace one, revoke one, list a tenant's. A key is shown once, when it is made."

    def add_verbs(self) -> None:
        create = self.verb("create", self.create, "Make a key for a tenant; it is shown only here.")
        create.add_argument("tenant", metavar="NAME")
        create.add_argument("--name", dest="label", default="default", help="What the key is for.")
        create.add_argument("--scopes", nargs="+", choices=keys.SCOPES, default=list(keys.SCOPES))
        create.add_argument("--expires-in-days", dest="days", type=whole_number(1))
        rotate = self.verb("rotate", self.rotate, "Make a key that takes another's place; it is shown only here.")
        rotate.add_argument("prefix", metavar="PREFIX", help="Of the key that is to end, as `key list` shows it.")
        most = keys.LONGEST_OVERLAP // timedelta(hours=1)
        rotate.add_argument(
            "--overlap-hours", dest="hours", type=whole_number(0, most + 1), default=OVERLAP, help="Both work so long."
        )
        revoke = self.verb("revoke", self.revoke, "Revoke a key from the next request on.")
        revoke.add_argument("prefix", metavar="PREFIX", help="The key's first characters, as `key list` shows them.")
        show = self.verb("list", self.show, "Print a tenant's keys, without what makes them work.")
        show.add_argument("tenant", metavar="NAME")

    def create(self, tenant: str, label: str, scopes: list[str], days: int | None) -> None:
        if days and timedelta(days=days) > keys.LONGEST:
            most = keys.LONGEST.days
            raise CommandError(f"A key lives at most {most} days; without --expires-in-days it never expires.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        chosen = tuple(dict.fromkeys(scopes))
        row, key = keys.issue(tenant_named(tenant), trail.OPERATOR, label, chosen, expires_at)
        self.say({"tenant": tenant, "api_key": key, **_shown(row)})

    def rotate(self, prefix: str, hours: int) -> None:
        wanted = _prefix(prefix)
        former = ApiKey.objects.filter(prefix=wanted, revoked_at=None).select_related("tenant").order_by("-pk").first()
        if former is None:
            raise _unknown(wanted)
        row, key = keys.rotate(former, trail.OPERATOR, timedelta(hours=hours))
        ends = {"replaces": wanted, "replaced_key_expires": shown_time(former.expires_at)}
        self.say({"tenant": former.tenant.name, "api_key": key, **_shown(row), **ends})

    def revoke(self, prefix: str) -> None:
        wanted = _prefix(prefix)
        if not keys.revoke(wanted, trail.OPERATOR):
            raise _unknown(wanted)
        self.say({"prefix": wanted, "revoked": True})

    def show(self, tenant: str) -> None:
        for row in tenant_named(tenant).keys.order_by("pk"):
            self.say(
                {"tenant": tenant, **_shown(row), "revoked": shown_time(row.revoked_at)}
                | {"last_used": shown_time(row.last_used_at)}
            )


def _prefix(text: str) -> str:
    return text.strip()[: len(keys.PREFIX) + keys.SHOWN_LENGTH]  # a whole key names itself too


def _unknown(prefix: str) -> CommandError:
    return CommandError(f"No live key begins with {prefix!r}: `key list NAME` shows the prefixes.")


def _shown(row: ApiKey) -> dict[str, object]:
    return {
        "prefix": row.prefix,
        "name": row.name,
        "scopes": row.scopes.split(),
        "expires": shown_time(row.expires_at),
    }
