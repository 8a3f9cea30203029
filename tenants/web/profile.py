"""A person's own page, and what of django-allauth's is not offered here."""

from typing import Any

from allauth.mfa.models import Authenticator
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tenants.web import access

Kind = Authenticator.Type


@require_safe
@never_cache
@login_required
def page(request: HttpRequest) -> HttpResponse:
    """Address, password, second step, tenants: each leads to where it is changed."""
    rows = list(Authenticator.objects.filter(user=request.user))
    single: dict[str, Any] = {row.type: row.wrap() for row in rows if row.type != Kind.WEBAUTHN}
    keys = [row.wrap() for row in rows if row.type == Kind.WEBAUTHN]
    context = {"authenticators": single | {"webauthn": keys}, "places": access.places(request)}
    return render(request, "account/page.html", context)


@never_cache
@login_required
def closed(request: HttpRequest, rest: str = "") -> HttpResponse:
    """In place of allauth's pages of addresses: the operator changes one."""
    return render(request, "account/closed.html")
