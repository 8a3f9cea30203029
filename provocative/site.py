"""The console's site: its name, its door."""

from functools import wraps
from operator import itemgetter
from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.utils.text import slugify
from django.views.decorators.cache import never_cache

from provocative import home
from tenants import factors, scope, sessions

# What staff look for, in the order in which a shift needs it.
GROUPS = {
    "Batches": ("Batch", "Result", "Slice", "Segment", "File", "Submission", "Manifest", "SigningKey"),
    "Capacity": ("Upstream", "Permit", "Runner"),
    "Tenants and people": ("Tenant", "ApiKey", "Membership", "Invitation", "User", "Group"),
    "Money": (
        "LedgerEntry", "Invoice", "InvoicedEntry", "Customer", "StripeEvent", "Price", "TenantDiscount", "Usage",
    ),
    "Queue and webhooks": ("OrmQ", "Task", "Schedule", "WebhookEndpoint", "WebhookDelivery"),
    "Audit": ("AuditEvent",),
}  # fmt: skip
PLACES = {name: (group, place) for group, names in GROUPS.items() for place, name in enumerate(names)}
SET_UP = "Staff need a second step: set up an authenticator app, a passkey or a security key here. Then come back."


class ConsoleSite(admin.AdminSite):
    """For staff who took their second step in this session. Nothing is deleted in bulk."""

    site_header = site_title = "Provocative Batch"
    index_title = "Console"
    site_url = "/"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.disable_action("delete_selected")

    def has_permission(self, request: HttpRequest) -> bool:
        return super().has_permission(request) and factors.is_fresh(request)

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        """Whom `has_permission` let in works for all tenants, and nobody before that."""

        @wraps(view)
        def settled(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            scope.settle_every()
            sessions.touch(request)
            return view(request, *args, **kwargs)

        return super().admin_view(settled, cacheable)

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[dict[str, Any]]:
        """The lists that the person may see, in groups whose order is always the same."""
        found: list[dict[str, Any]] = super().get_app_list(request, app_label)
        groups: dict[str, list[tuple[int, dict[str, Any]]]] = {name: [] for name in GROUPS}
        for app in found:
            for model in app["models"]:
                group, place = PLACES[model["object_name"]]
                groups[group].append((place, model))
        return [
            {
                "name": name,
                "app_label": slugify(name),
                "app_url": reverse("admin:index"),
                "has_module_perms": True,
                "models": [model for _, model in sorted(models, key=itemgetter(0))],
            }
            for name, models in groups.items()
            if models
        ]

    def app_index(self, request: HttpRequest, app_label: str, extra_context: Any = None) -> Any:
        """Staff know no apps: all lists are on the first page."""
        return redirect("admin:index")

    def password_change_done(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return redirect("account")

    def password_change(self, request: HttpRequest, extra_context: Any = None) -> Any:
        """Where everybody changes it, and is mailed that it was."""
        return redirect("account_change_password")

    @method_decorator(never_cache)
    @method_decorator(secure_admin_login)
    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Django's own page asks for no second step and counts no attempts: who is not signed in goes to ours, and
        staff who are in by a password alone go on to their second step."""
        user: Any = request.user  # staff: the decorator has looked
        back = request.GET.get(REDIRECT_FIELD_NAME, "")
        if not (back.startswith("/") and url_has_allowed_host_and_scheme(back, None)):
            back = reverse("admin:index")
        if factors.is_fresh(request):
            return HttpResponseRedirect(back)  # an address, whatever it says: `redirect` takes names of views, too
        if factors.is_set_up(user):
            return redirect(f"{reverse('mfa_reauthenticate')}?{urlencode({REDIRECT_FIELD_NAME: back})}")
        messages.warning(request, SET_UP)
        return redirect("account")

    def get_urls(self) -> list[Any]:
        elsewhere = path("r/<path:kind>/<path:row>/", self.admin_view(self.elsewhere), name="view_on_site")
        return [path("home/", self.cards, name="home"), elsewhere, *super().get_urls()]

    def elsewhere(self, request: HttpRequest, kind: str, row: str) -> HttpResponse:
        """No row has a page outside the console. Django's own would say which rows there are, to all of the staff."""
        raise Http404

    def index(self, request: HttpRequest, extra_context: Any = None) -> Any:
        return super().index(request, home.context(request) | (extra_context or {}))

    def cards(self, request: HttpRequest) -> HttpResponse:
        """The home's, by themselves; a page that asks for them after its session has ended is led to the door."""
        if "HX-Request" in request.headers and not self.has_permission(request):
            return HttpResponse(status=401, headers={"HX-Refresh": "true"})
        answer: HttpResponse = self.admin_view(home.cards)(request)
        return answer
