"""The second step of signing in: what somebody has set up, and whether a session has taken it."""

import time
from collections.abc import Callable
from typing import Any

from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY, get_authentication_records
from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from tenants import sessions
from tenants.models import User

TAKEN = "mfa"  # allauth's word for it
COUNTS, IDLE = 12 * 3600, 3600  # seconds: in the console
SEALED = "second step"  # the purpose of what is sealed in an Authenticator's data


def reset(user: User) -> tuple[list[str], int]:
    """Take it away from somebody who lost a device, with every session: which kinds there were, how many sessions."""
    removed = Authenticator.objects.filter(user=user)
    kinds = sorted(removed.values_list("type", flat=True))
    removed.delete()
    return kinds, sessions.end(user)


def is_taken(request: HttpRequest) -> bool:
    """Whether whoever is signed in here has shown more than a password: a code, a security key, a passkey."""
    return _taken_at(request) > 0


def is_fresh(request: HttpRequest) -> bool:
    """Whether they did so lately enough for the console, and were there since."""
    now, taken = time.time(), _taken_at(request)
    return now - taken < COUNTS and now - max(taken, sessions.seen(request)) < IDLE


def _taken_at(request: HttpRequest) -> float:
    records = get_authentication_records(request, request.user)
    return max((float(row["at"]) for row in records if row.get("method") == TAKEN), default=0)


def is_set_up(user: User) -> bool:
    """Whether there is one. Recovery codes are not: they go with the last of the others."""
    return bool(_all(user).exists())


def with_secrets(data: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """An Authenticator's data with each secret in it changed: an app's, the seed of recovery codes, codes of before."""
    changed: dict[str, Any] = {name: change(data[name]) for name in ("secret", "seed") if name in data}
    if (codes := data.get("migrated_codes")) is not None:
        changed["migrated_codes"] = [change(code) for code in codes]
    return data | changed


def _all(user: User) -> Any:
    return Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.RECOVERY_CODES)


def added(request: HttpRequest, user: User, authenticator: Authenticator, **_: Any) -> None:
    """Who sets one up has just shown it. Other sessions were opened without it: they end."""
    if authenticator.type != Authenticator.Type.RECOVERY_CODES:
        record_authentication(request, user, TAKEN, id=authenticator.pk, type=authenticator.type)
        end_others(request, user)


def removed(request: HttpRequest, user: User, **_: Any) -> None:
    """What was shown with the last one counts no more here; what was opened elsewhere, perhaps with this one, ends."""
    if not is_set_up(user):
        records = get_authentication_records(request, user)
        request.session[AUTHENTICATION_METHODS_SESSION_KEY] = [row for row in records if row.get("method") != TAKEN]
    end_others(request, user)


def end_others(request: HttpRequest, user: User, **_: Any) -> None:
    """Sign `user` out of every other browser; also when recovery codes are replaced."""
    sessions.end(user, but=request.session.session_key)
