"""The description of the API, for people to read."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

# Redoc works in a script, its search in a worker of it, its styles in the page; it would fetch a logo from elsewhere.
ONLY_OURS = (
    "default-src 'none'; script-src 'self'; worker-src blob:; style-src 'self' 'unsafe-inline'; connect-src 'self';"
    " img-src 'self' data:; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
def api(request: HttpRequest) -> HttpResponse:
    """The description of the API, to read. Needs no sign-in; nothing is loaded from another host."""
    page = render(request, "api.html")
    page["Content-Security-Policy"] = ONLY_OURS
    return page
