"""Signing in and out, in the log: who by number, how, what failed. Never an address or a password that was typed."""

import logging
from typing import Any

from allauth.account import signals as accounts
from allauth.account.authentication import get_authentication_records
from allauth.mfa import signals as factors
from django.contrib.auth.signals import user_logged_out, user_login_failed

from tenants.models import User

log = logging.getLogger(__name__)


def listen() -> None:
    """Hang on the signals; once, when the app is ready."""
    accounts.user_logged_in.connect(_came)
    user_logged_out.connect(_went)
    user_login_failed.connect(_failed)
    accounts.password_changed.connect(_changed)
    accounts.password_reset.connect(_changed)
    factors.authentication_failed.connect(_factor_failed)
    factors.authenticator_added.connect(_factor_added)
    factors.authenticator_removed.connect(_factor_removed)


def _came(request: Any, user: User, **_: Any) -> None:
    how = "+".join(str(each.get("method")) for each in get_authentication_records(request, user)) or "session"
    log.info("signed in: person %s by %s", user.pk, how)


def _went(user: User | None, **_: Any) -> None:
    if user is not None:
        log.info("signed out: person %s", user.pk)


def _failed(credentials: dict[str, Any], **_: Any) -> None:
    """Somebody's password was wrong, or there is no such account: that is known by the number alone."""
    person = User.objects.filter(email__iexact=str(credentials.get("email", ""))).values_list("pk", flat=True).first()
    log.warning("not signed in: password of person %s", person)


def _factor_failed(user: User, **_: Any) -> None:
    log.warning("not signed in: second step of person %s", user.pk)


def _changed(user: User, **_: Any) -> None:
    log.info("password changed: person %s", user.pk)


def _factor_added(user: User, authenticator: Any, **_: Any) -> None:
    log.info("second step added: person %s, %s", user.pk, authenticator.type)


def _factor_removed(user: User, authenticator: Any, **_: Any) -> None:
    log.info("second step removed: person %s, %s", user.pk, authenticator.type)
