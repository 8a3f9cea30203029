"""Who is signed in, in the database."""

from django.contrib.sessions.models import Session
from django.utils import timezone


def prune() -> None:
    """Drop sessions that have ended by themselves: nobody signs out of those."""
    ended = Session.objects.filter(expire_date__lt=timezone.now())
    if ended.exists():
        ended.delete()
