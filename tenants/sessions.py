"""Who is signed in, in the database, and for how long: docs/decisions/0038-hardened.md"""

import time
from typing import Any

from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone

from tenants.models import User
from tenants.session_store import BEGUN, SEEN, digest

NOTED = 60  # seconds: more often nobody is noted as seen


def begin(request: HttpRequest, **_: Any) -> None:
    """Somebody has signed in."""
    request.session[BEGUN] = request.session[SEEN] = int(time.time())


def ended(request: Any, **_: Any) -> None:
    """Somebody has signed out: their browser is told so, by provocative/middleware.py."""
    if request is not None:
        request.signed_out = True


def touch(request: HttpRequest) -> None:
    """Somebody did something; a page that asks by itself is nobody."""
    if "HX-Request" not in request.headers and time.time() - seen(request) > NOTED:
        request.session[SEEN] = int(time.time())


def seen(request: HttpRequest) -> int:
    """When somebody did something: unix seconds."""
    return int(request.session.get(SEEN, 0))


def prune() -> None:
    """Drop sessions that have ended by themselves: nobody signs out of those."""
    ended = Session.objects.filter(expire_date__lt=timezone.now())
    if ended.exists():
        ended.delete()


def end(user: User, but: str | None = None) -> int:
    """Sign `user` out of every browser, but for the session of that key; how many there were. Reads every session: they
    do not say whose they are."""
    others = Session.objects.exclude(pk=digest(but) if but else "").iterator()
    theirs = [row.pk for row in others if row.get_decoded().get("_auth_user_id") == str(user.pk)]
    return Session.objects.filter(pk__in=theirs).delete()[0]
