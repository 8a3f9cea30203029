"""Invitations: a place in a tenant for whoever reads the mail at an address.

The link's secret is mailed and stored nowhere: a digest of it is. Accepting closes the row by a conditional UPDATE, so
that of any number at once one comes in.
"""

import hashlib
import secrets
from datetime import timedelta

from allauth.account.models import EmailAddress
from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from tenants import team, trail
from tenants.errors import Refused
from tenants.models import Invitation, Membership, Tenant, User

LIFE = timedelta(days=7)
MOST_OPEN = 100  # in a tenant


def digest(secret: str) -> str:
    """What is stored of a link's secret: SHA-256, hex. (256 random bits need no slow hash.)"""
    return hashlib.sha256(secret.encode()).hexdigest()


def waiting(tenant: Tenant) -> QuerySet[Invitation]:
    """Those that were neither accepted nor taken back; some may have expired."""
    return Invitation.objects.filter(tenant=tenant, closed_at=None).defer("digest")


def invite(tenant: Tenant, owner: User, email: str, role: str) -> tuple[Invitation, str]:
    """Invite `email` (lower case); the invitation and its link's secret. One that has expired is made anew.

    Raises Refused 403, and 409 for a member, for an address that is invited, for too many.
    """
    with transaction.atomic():
        team.owned(tenant, owner)
        if Membership.objects.filter(tenant=tenant, user__email=email).exists():
            raise Refused(409, "already_member", f"{email} belongs to {tenant.name} already.", param="email")
        stale = waiting(tenant).filter(expires_at__lte=timezone.now())
        stale.filter(email=email).update(closed_at=timezone.now())
        if waiting(tenant).filter(email=email).exists():
            message = f"{email} is invited already: send that invitation again, or take it back."
            raise Refused(409, "already_invited", message, param="email")
        if waiting(tenant).count() >= MOST_OPEN:
            message = f"There are {MOST_OPEN} open invitations, as many as there may be: take some back."
            raise Refused(409, "too_many_invitations", message, param="email")
        secret = secrets.token_urlsafe(32)
        made = Invitation.objects.create(
            tenant=tenant, email=email, role=role, digest=digest(secret), invited_by=owner.email,
            expires_at=timezone.now() + LIFE,
        )  # fmt: skip
        trail.record(tenant, owner.email, "invitation.created", email, role=role)
    return made, secret


def renew(tenant: Tenant, owner: User, email: str) -> tuple[Invitation, str]:
    """Another secret and another week for an open invitation; the link that was mailed before ends.

    Raises Refused 403, 404.
    """
    secret = secrets.token_urlsafe(32)
    with transaction.atomic():
        team.owned(tenant, owner)
        found = _waiting(tenant, email)
        found.expires_at = timezone.now() + LIFE
        waiting(tenant).filter(pk=found.pk).update(digest=digest(secret), expires_at=found.expires_at)
        trail.record(tenant, owner.email, "invitation.resent", found.email, role=found.role)
    return found, secret


def take_back(tenant: Tenant, owner: User, email: str) -> None:
    """Close an open invitation: its link ends. Raises Refused 403, 404 (also when it was accepted just now)."""
    with transaction.atomic():
        team.owned(tenant, owner)
        found = _waiting(tenant, email)
        if not waiting(tenant).filter(pk=found.pk).update(closed_at=timezone.now()):
            raise _gone()
        trail.record(tenant, owner.email, "invitation.taken_back", found.email, role=found.role)


def found(kept: str) -> Invitation | None:
    """The open invitation whose secret has this digest."""
    rows = Invitation.objects.filter(digest=kept, closed_at=None, expires_at__gt=timezone.now())
    return rows.select_related("tenant").first()


def accept(invitation: Invitation, user: User) -> None:
    """Make `user`, whose address it is, a member. Raises Refused 404 when it does not stand any more."""
    with transaction.atomic():
        _come_in(invitation, user)


def accept_anew(invitation: Invitation, password: str) -> User:
    """The same with an account that is made now: the address is verified by the link.

    Raises Refused 404, and 409 when there is an account of that address by now.
    """
    user = User(email=invitation.email, password=make_password(password))
    try:
        with transaction.atomic():
            if not close(invitation):
                raise _gone()
            user.save()
            EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
            _join(invitation, user)
    except IntegrityError:
        raise Refused(409, "account_exists", "There is an account of this address by now: sign in.") from None
    return user


def close(invitation: Invitation) -> bool:
    """Take the invitation: whether it was this call that did."""
    now = timezone.now()
    rows = Invitation.objects.filter(pk=invitation.pk, digest=invitation.digest, closed_at=None, expires_at__gt=now)
    return rows.update(closed_at=now, accepted=True) == 1


def _come_in(invitation: Invitation, user: User) -> None:
    if user.email.lower() != invitation.email or not close(invitation):
        raise _gone()
    _join(invitation, user)


def _join(invitation: Invitation, user: User) -> None:
    """A role that the person has by now, from the operator, stays."""
    tenant = invitation.tenant
    Membership.objects.get_or_create(tenant=tenant, user=user, defaults={"role": invitation.role})
    trail.record(tenant, user.email, "member.joined", user.email, role=invitation.role, by=invitation.invited_by)


def _waiting(tenant: Tenant, email: str) -> Invitation:
    row = waiting(tenant).filter(email=email).first()
    if row is None:
        raise _gone()
    row.tenant = tenant
    return row


def _gone() -> Refused:
    message = "This invitation does not stand any more: it was accepted, taken back or renewed, or it is too old."
    return Refused(404, "invitation_not_found", message)
