"""The people of a tenant: who they are, who is invited, and what owners decide about them."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from tenants import invitations, team
from tenants.errors import Refused
from tenants.models import Invitation, Membership
from tenants.web import signing_in
from tenants.web.access import Role, Seat, seat

PAGE = 100
ROLES = {
    Role.READER: "sees everything, changes nothing",
    Role.MEMBER: "sends batches, manages keys and webhooks",
    Role.OWNER: "also decides on people and payments",
}


class Invite(forms.Form):
    """Whom to invite, and as what."""

    email = forms.EmailField(
        label="E-mail address", max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    role = forms.ChoiceField(choices=[(role.value, role.label) for role in ROLES], initial=Role.MEMBER)

    def clean_email(self) -> str:
        return str(self.cleaned_data["email"]).lower()


@require_safe
@seat()
def people(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The members, PAGE at a time by address, and for owners the open invitations."""
    return _page(request, seat, Invite())


@require_POST
@seat(Role.OWNER, active=True)
def invite(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Invite somebody."""
    form = Invite(request.POST)
    if not form.is_valid():
        return _page(request, seat, form, status=400)
    email, role = form.cleaned_data["email"], form.cleaned_data["role"]
    try:
        _few_mails(request)
        made, secret = invitations.invite(seat.tenant, seat.user, email, role)
    except Refused as refused:
        form.add_error("email", refused.message)
        return _page(request, seat, form, status=refused.status)
    return _mail(request, seat, made, secret)


@require_POST
@seat(Role.OWNER, active=True)
def resend(request: HttpRequest, seat: Seat) -> HttpResponse:
    """A new link for somebody who is invited."""
    try:
        _few_mails(request)
        found, secret = invitations.renew(seat.tenant, seat.user, _email(request))
    except Refused as refused:
        return _said(request, seat, refused)
    return _mail(request, seat, found, secret)


@require_POST
@seat(Role.OWNER)
def take_back(request: HttpRequest, seat: Seat) -> HttpResponse:
    """End an open invitation."""
    done = f"The invitation of {_email(request)} is taken back: its link does not work any more."
    return _decide(request, seat, lambda: invitations.take_back(seat.tenant, seat.user, _email(request)), done)


@require_POST
@seat(Role.OWNER)
def role(request: HttpRequest, seat: Seat) -> HttpResponse:
    """Give a member another role."""
    wanted = request.POST.get("role", "")
    if wanted not in Role.values:
        raise Refused(400, "invalid_role", "A role is owner, member or reader.", param="role")
    done = f"{_email(request)} is {wanted} now."
    return _decide(request, seat, lambda: team.change_role(seat.tenant, seat.user, _email(request), wanted), done)


@require_POST
@seat(Role.OWNER)
def remove(request: HttpRequest, seat: Seat) -> HttpResponse:
    """End a membership."""
    done = f"{_email(request)} does not belong to {seat.tenant.name} any more. API keys that they know still work."
    return _decide(request, seat, lambda: team.remove(seat.tenant, seat.user, _email(request)), done)


@require_POST
@seat()
def leave(request: HttpRequest, seat: Seat) -> HttpResponse:
    """End one's own membership."""
    try:
        team.leave(seat.tenant, seat.user)
    except Refused as refused:
        return _said(request, seat, refused)
    messages.success(request, f"You do not belong to {seat.tenant.name} any more.")
    return redirect("home")


def _email(request: HttpRequest) -> str:
    return request.POST.get("email", "").replace("\x00", "")


def _few_mails(request: HttpRequest) -> None:
    if signing_in.mailed_too_often(request):
        raise Refused(429, "too_many_mails", "You sent 30 invitations within an hour. Wait, then go on.")


def _mail(request: HttpRequest, seat: Seat, made: Invitation, secret: str) -> HttpResponse:
    link = request.build_absolute_uri(reverse("invitation_link", args=[secret]))
    try:
        signing_in.send("invitation", made.email, {"invitation": made, "link": link})
    except Refused as refused:
        messages.error(request, f"{made.email} is invited, but: {refused.message} Then send the invitation again.")
    else:
        messages.success(request, f"{made.email} is invited: the link in the mail works for seven days.")
    return _back(seat)


def _decide(request: HttpRequest, seat: Seat, act: Callable[[], Any], done: str) -> HttpResponse:
    try:
        act()
    except Refused as refused:
        return _said(request, seat, refused)
    messages.success(request, done)
    return _back(seat)


def _said(request: HttpRequest, seat: Seat, refused: Refused) -> HttpResponse:
    """Who is no owner any more gets the refusal itself; what others did meanwhile is said on the page."""
    if refused.status == 403:
        raise refused
    messages.error(request, refused.message)
    return _back(seat)


def _back(seat: Seat) -> HttpResponse:
    return redirect("team", seat.tenant.public_id)


def _page(request: HttpRequest, seat: Seat, form: Invite, status: int = 200) -> HttpResponse:
    after = request.GET.get("after", "").replace("\x00", "")[:254]
    rows = Membership.objects.filter(tenant=seat.tenant, user__email__gt=after).select_related("user")
    members = list(rows.order_by("user__email")[: PAGE + 1])
    context = {
        "members": members[:PAGE],
        "after": after,
        "next": members[PAGE - 1].user.email if len(members) > PAGE else "",
        "roles": [(role.value, role.label) for role in Role],
        "explained": [(role.label, does) for role, does in ROLES.items()],
        "invitations": invitations.waiting(seat.tenant).order_by("email") if seat.owns else [],
        "now": timezone.now(),
        "form": form,
    }
    return render(request, "people/team.html", context, status=status)
