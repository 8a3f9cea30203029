"""Who is signed in, in the database."""

from django.contrib.sessions.models import Session
from django.utils import timezone

from tenants.models import User
from tenants.session_store import digest


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
