"""Who belongs to a tenant, and as what: decided under the tenant's lock, so that an owner always remains."""

from django.db import transaction
from django.utils import timezone

from tenants import admission, trail
from tenants.errors import Refused
from tenants.models import Invitation, Membership, Tenant, User

Role = Membership.Role


def owned(tenant: Tenant, owner: User) -> None:
    """Lock the tenant for a decision of `owner`, who may have ceased to be one since the page was seen.

    Raises Refused 403.
    """
    admission.lock(tenant.pk)
    if not Membership.objects.filter(tenant=tenant, user=owner, role=Role.OWNER).exists():
        raise Refused(403, "role_insufficient", f"This takes an owner of {tenant.name}. Ask one.")


def change_role(tenant: Tenant, owner: User, email: str, role: str) -> bool:
    """Give a member another role; whether it is another. Raises Refused 403, 404, 409 for the last owner."""
    with transaction.atomic():
        owned(tenant, owner)
        member = _member(tenant, email)
        if member.role == role:
            return False
        keep_an_owner(member)
        Membership.objects.filter(pk=member.pk).update(role=role)
        _take_back(tenant, member)
        trail.record(tenant, owner.email, "member.role_changed", member.user.email, before=member.role, after=role)
    return True


def remove(tenant: Tenant, owner: User, email: str) -> None:
    """End a membership; the person's next request sees it. Raises Refused 403, 404, 409 for the last owner."""
    with transaction.atomic():
        owned(tenant, owner)
        member = _member(tenant, email)
        keep_an_owner(member)
        member.delete()
        _take_back(tenant, member)
        trail.record(tenant, owner.email, "member.removed", member.user.email, role=member.role)


def leave(tenant: Tenant, user: User) -> None:
    """End one's own membership. Raises Refused 404, 409 for the last owner."""
    with transaction.atomic():
        admission.lock(tenant.pk)
        member = _member(tenant, user.email)
        keep_an_owner(member)
        member.delete()
        trail.record(tenant, user.email, "member.left", user.email, role=member.role)


def keep_an_owner(member: Membership) -> None:
    """Refuse (409) to lose the last owner who can sign in."""
    if member.role != Role.OWNER:
        return
    owners = Membership.objects.filter(tenant_id=member.tenant_id, role=Role.OWNER, user__is_active=True)
    if not owners.exclude(pk=member.pk).exists():
        message = f"{member.user.email} is the only owner. Make somebody else an owner first."
        raise Refused(409, "last_owner", message, param="email")


def _take_back(tenant: Tenant, member: Membership) -> None:
    """Who is no owner any more has no way back in: what they invited, maybe themselves elsewhere, ends with it."""
    if member.role == Role.OWNER:
        rows = Invitation.objects.filter(tenant=tenant, invited_by=member.user.email, closed_at=None)
        rows.update(closed_at=timezone.now())


def _member(tenant: Tenant, email: str) -> Membership:
    member = Membership.objects.filter(tenant=tenant, user__email=email).select_related("user").first()
    if member is None:
        raise Refused(404, "member_not_found", "This person does not belong to the tenant (any more).", param="email")
    return member
