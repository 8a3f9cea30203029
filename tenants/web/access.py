"""How a page comes to a tenant: by a person's seat in it, and by this alone. A tenant without one is unknown."""

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from tenants import observed, scope, sessions
from tenants.errors import Refused
from tenants.models import Membership, Tenant, User

Role = Membership.Role
RANKS = {Role.READER: 0, Role.MEMBER: 1, Role.OWNER: 2}
NEEDED = {Role.MEMBER: "a member or an owner", Role.OWNER: "an owner"}


class Seat(NamedTuple):
    """A person's place in a tenant; `places` are all that the person has, by the tenants' names."""

    user: User
    tenant: Tenant
    role: Role
    places: list[Membership]

    @property
    def writes(self) -> bool:
        """Whether the person may do something, not only look."""
        return RANKS[self.role] >= RANKS[Role.MEMBER]

    @property
    def owns(self) -> bool:
        """Whether the person decides on people, keys and payments."""
        return self.role == Role.OWNER

    def check_active(self) -> None:
        """Raises Refused 403 for a suspended tenant: what its keys may not do, its people may not do either."""
        if self.tenant.suspended:
            raise Refused(403, "tenant_suspended", "This tenant is suspended. Ask the operator of this service.")


def seat(
    needs: Role = Role.READER, active: bool = False
) -> Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """A view of a tenant's page: called as `view(request, seat, …)`, for people whose role is `needs` or more, of a
    tenant that is not suspended where it must be `active`.

    Raises Refused 404 for a tenant the person has no place in, 403 for too small a role and a suspended tenant.
    """

    def decorate(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @never_cache
        @_signed_in
        @wraps(view)
        def seated_view(request: HttpRequest, tenant_id: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            found = _seat(request, tenant_id)
            sessions.touch(request)
            scope.settle(found.tenant.pk)
            observed.note(tenant=found.tenant.public_id)
            request.seat = found  # type: ignore[attr-defined]  # for the templates: `seated`
            if RANKS[found.role] < RANKS[needs]:
                raise Refused(403, "role_insufficient", f"This takes {NEEDED[needs]} of {found.tenant.name}. Ask one.")
            if active:
                found.check_active()
            if request.session.get("tenant") != tenant_id:
                request.session["tenant"] = tenant_id
            return view(request, found, *args, **kwargs)

        return seated_view

    return decorate


def _signed_in(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """`login_required`, but a part of a page that is asked for by script has the whole page loaded again."""
    whole = login_required(view)

    @wraps(view)
    def check(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if "HX-Request" in request.headers and not request.user.is_authenticated:
            return HttpResponse(headers={"HX-Refresh": "true"})
        return whole(request, *args, **kwargs)

    return check


def _seat(request: HttpRequest, tenant_id: str) -> Seat:
    found = places(request)
    for place in found:
        if place.tenant.public_id == tenant_id:
            return Seat(place.user, place.tenant, Role(place.role), found)
    raise Refused(404, "not_found", "There is nothing at this address.")


def places(request: HttpRequest) -> list[Membership]:
    """Where the person who is signed in belongs, by the tenants' names."""
    user: Any = request.user  # a User behind login_required
    with scope.every():
        rows = Membership.objects.filter(user=user).select_related("tenant").order_by("tenant__name")
        found = list(rows)
    for place in found:
        place.user = user
    return found


def seated(request: HttpRequest) -> dict[str, Any]:
    """For every template: the seat, where there is one."""
    return {"seat": getattr(request, "seat", None)}


@never_cache
@require_safe
@login_required
def home(request: HttpRequest) -> HttpResponse:
    """To the batches of the tenant that was seen last, or of the first; without one, whom to ask."""
    ids = [place.tenant.public_id for place in places(request)]
    if not ids:
        return render(request, "no_tenant.html")
    last = request.session.get("tenant")
    return redirect("batches", last if last in ids else ids[0])
