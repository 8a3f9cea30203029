"""The second step of signing in: what somebody has set up, and whether a session has taken it."""

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from tenants import sessions
from tenants.models import User


def reset(user: User) -> tuple[list[str], int]:
    """Take it away from somebody who lost a device, with every session: which kinds there were, how many sessions."""
    removed = Authenticator.objects.filter(user=user)
    kinds = sorted(removed.values_list("type", flat=True))
    removed.delete()
    return kinds, sessions.end(user)


def is_taken(request: HttpRequest) -> bool:
    """Whether whoever is signed in here has shown more than a password: a code, a security key, a passkey."""
    return any(record.get("method") == "mfa" for record in get_authentication_records(request, request.user))


def is_set_up(user: User) -> bool:
    """Whether there is one."""
    return bool(Authenticator.objects.filter(user=user).exists())
