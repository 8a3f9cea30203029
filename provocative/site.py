"""The console's site: its name, its door."""

from typing import Any

from allauth.account.decorators import secure_admin_login
from django.contrib import admin, messages
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache

from tenants import factors

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
        return super().has_permission(request) and factors.is_taken(request)

    @method_decorator(never_cache)
    @method_decorator(secure_admin_login)
    def login(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Django's own page asks for no second step and counts no attempts: who is not signed in goes to ours, and
        staff who are in by a password alone go on to their second step."""
        user: Any = request.user  # staff: the decorator has looked
        back = request.GET.get(REDIRECT_FIELD_NAME, "")
        if not url_has_allowed_host_and_scheme(back, None):
            back = reverse("admin:index")
        if factors.is_taken(request):
            return redirect(back)
        if factors.is_set_up(user):
            return redirect(f"{reverse('mfa_reauthenticate')}?{urlencode({REDIRECT_FIELD_NAME: back})}")
        messages.warning(request, SET_UP)
        return redirect("account")
