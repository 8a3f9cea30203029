"""The console's home: the figures of `batches.console.home` and of the queue, for whoever looks."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from batches.console import home
from provocative import queue_health


def context(request: HttpRequest) -> dict[str, Any]:
    """What templates/admin/home/cards.html shows: what they may see, and no more."""
    user: Any = request.user
    sees = frozenset(name for name in home.PERMISSIONS if user.has_perm(name))
    queue = queue_health.figures() if home.NEEDS["queue"] <= sees else None
    return {"home": home.home(sees, queue)}


def cards(request: HttpRequest) -> HttpResponse:
    """The cards by themselves: the page asks for them again and again."""
    return render(request, "admin/home/cards.html", context(request))
