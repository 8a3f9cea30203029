"""`manage.py user create|reset-factors`."""

import secrets

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction

from tenants import factors, trail
from tenants.management.console import VerbCommand, tenant_named
from tenants.models import Membership, User


class Command(VerbCommand):
    help = "People who sign in."

    def add_verbs(self) -> None:
        create = self.verb("create", self.create, "Make a person; prints the password, which is shown only here.")
        create.add_argument("email", metavar="EMAIL")
        create.add_argument("--tenant", metavar="NAME")
        create.add_argument("--role", choices=Membership.Role.values, default=Membership.Role.MEMBER)
        create.add_argument("--staff", action="store_true", help="Of the console at /admin/: may do everything there.")
        create.add_argument(
            "--groups", nargs="+", metavar="GROUP", help="With --staff: what these groups may do, no more."
        )
        reset = self.verb(
            "reset-factors",
            self.reset_factors,
            "Take the second step of somebody away who lost a device (app, passkeys, keys, recovery codes), and"
            " end every session of theirs. The password stays.",
        )
        reset.add_argument("email", metavar="EMAIL")

    def create(self, email: str, tenant: str | None, role: str, staff: bool, groups: list[str] | None) -> None:
        try:
            validate_email(email)
        except ValidationError:
            raise CommandError(f"{email!r} is no e-mail address.") from None
        joined = _groups(groups or [], staff)
        password = secrets.token_urlsafe(15)
        try:
            with transaction.atomic():
                user = User.objects.create_user(email, password, is_staff=staff, is_superuser=staff and not joined)
                user.groups.set(joined)
                names = [group.name for group in joined]
                trail.record(None, trail.OPERATOR, "person.created", user.email, staff=staff, groups=names)
                if tenant is not None:
                    place = Membership.objects.create(tenant=tenant_named(tenant), user=user, role=role)
                    trail.record(place.tenant, trail.OPERATOR, "member.added", user.email, role=role)
        except IntegrityError:
            cure = "choose another address, or have an owner of the tenant invite them."
            raise CommandError(f"There is a user {email} already: {cure}") from None
        said = {"email": user.email, "password": password, "tenant": tenant, "staff": staff}
        self.say(said | ({"groups": names} if names else {}))

    def reset_factors(self, email: str) -> None:
        user = User.objects.filter(email=email.lower()).first()
        if user is None:
            raise CommandError(f"There is no user {email}: `user create` makes one.")
        with transaction.atomic():
            kinds, ended = factors.reset(user)
            trail.record(None, trail.OPERATOR, "person.factors_reset", user.email, removed=kinds)
        self.say({"email": user.email, "removed": kinds, "sessions_ended": ended})


def _groups(names: list[str], staff: bool) -> list[Group]:
    if names and not staff:
        raise CommandError("--groups are of staff: say --staff as well.")
    found = list(Group.objects.filter(name__in=names).order_by("name"))
    if unknown := sorted(set(names) - {group.name for group in found}):
        known = ", ".join(Group.objects.order_by("name").values_list("name", flat=True))
        raise CommandError(f"There is no group {unknown[0]}: {known}.")
    return found
