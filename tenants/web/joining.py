"""From the link in an invitation's mail to a seat in the tenant.

The link's secret is taken out of the address at once: the session keeps its digest, and everything after happens at
an address that tells nobody anything.
"""

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.password_validation import validate_password
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from tenants import invitations, scope
from tenants.errors import Refused
from tenants.models import Invitation, Membership, User
from tenants.web.signing_in import HELP

KEPT = "invitation"  # in the session: the digest of the link's secret
BACKEND = "allauth.account.auth_backends.AuthenticationBackend"


class Password(forms.Form):
    """The password of a new account."""

    password = forms.CharField(
        strip=False,
        max_length=4096,
        help_text=HELP["password1"],
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def __init__(self, *args: Any, email: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._user = User(email=email)

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        validate_password(password, self._user)
        return password


@require_safe
@never_cache
def opened(request: HttpRequest, secret: str) -> HttpResponse:
    """The link of the mail."""
    request.path = request.path_info = "/invitations/-"  # what fails from here on is logged without the secret
    kept = invitations.digest(secret)
    if _found(kept) is None:
        answer = _page(request, "gone", status=404)
    else:
        request.session[KEPT] = kept
        answer = redirect("invitation")
    answer["Referrer-Policy"] = "no-referrer"
    return answer


@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def invitation(request: HttpRequest) -> HttpResponse:
    """What the person who opened the link can do with it; a POST does it."""
    kept = request.session.get(KEPT, "")
    found = _found(kept) if kept else None
    if found is None:
        return _page(request, "gone", status=404)
    scope.settle(found.tenant_id)
    state = _state(request, found)
    if state == "member":
        messages.info(request, f"You belong to {found.tenant.name} already.")
        return _to(request, found)
    if request.method != "POST":
        form = Password(email=found.email) if state == "unknown" else None
        return _page(request, state, invitation=found, form=form)
    if "sign_out" in request.POST:
        logout(request)
        request.session[KEPT] = kept
        return redirect("invitation")
    try:
        return {"ready": _accept, "unknown": _make_account}.get(state, _again)(request, found)
    except Refused as refused:
        messages.error(request, refused.message)
        return redirect("invitation")


def _found(kept: str) -> Invitation | None:
    with scope.every():  # whoever has the secret is not told of which tenant it is before
        return invitations.found(kept)


def _state(request: HttpRequest, found: Invitation) -> str:
    if not request.user.is_authenticated:
        return "known" if User.objects.filter(email=found.email).exists() else "unknown"
    if request.user.email.lower() != found.email:
        return "another"
    there = Membership.objects.filter(tenant=found.tenant, user=request.user).exists()
    return "member" if there else "ready"


def _again(request: HttpRequest, found: Invitation) -> HttpResponse:
    return redirect("invitation")


def _accept(request: HttpRequest, found: Invitation) -> HttpResponse:
    user: Any = request.user  # signed in: _state looked
    invitations.accept(found, user)
    messages.success(request, f"Welcome to {found.tenant.name}.")
    return _to(request, found)


def _make_account(request: HttpRequest, found: Invitation) -> HttpResponse:
    form = Password(request.POST, email=found.email)
    if not form.is_valid():
        return _page(request, "unknown", invitation=found, form=form)
    user = invitations.accept_anew(found, form.cleaned_data["password"])
    login(request, user, backend=BACKEND)
    messages.success(request, f"Welcome to {found.tenant.name}.")
    return _to(request, found)


def _to(request: HttpRequest, found: Invitation) -> HttpResponse:
    request.session.pop(KEPT, None)
    return redirect("batches", found.tenant.public_id)


def _page(request: HttpRequest, state: str, status: int = 200, **context: Any) -> HttpResponse:
    return render(request, "people/invitation.html", {"state": state, **context}, status=status)
