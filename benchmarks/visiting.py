"""Visits the console's pages on one database: `python -m benchmarks.visiting`, by lines of JSON.

The first line out is the addresses by their names; then each name in gives the queries and milliseconds of a visit. It
imports nothing of `tests`, which would give it another home.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from tenants import scope

NOTHING = "there is no such thing"
TENANT = "tenant 0"  # how the tenants' names begin
KNOWN_BY = (
    "public_id", "event_id", "reference", "prefix", "email", "name", "actor", "key_id", "stripe_id", "key", "model",
    "host", "user__email", "batch__public_id", "entry__reference", "tenant__name", "upstream__model",
)  # fmt: skip


def _client() -> Any:
    """A superuser who took their second step."""
    from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY as METHODS
    from django.test import Client

    from tenants.models import User

    user = User.objects.create_superuser("root@example.com")
    client = Client(headers={"host": "localhost"})
    client.force_login(user)
    session = client.session
    session.update({METHODS: [{"method": "mfa", "at": time.time(), "type": "totp"}], f"{METHODS}_user": str(user.pk)})
    session.save()
    return client


def pages(client: Any) -> dict[str, str]:
    """Addresses by names, which are the same whatever the database has."""
    from django.contrib import admin
    from django.urls import reverse

    found = {"home": reverse("admin:index")}
    for model, options in admin.site._registry.items():
        for name, address in _of(client, model, options):
            found[f"{model._meta.label_lower} {name}"] = address
    return found


def _of(client: Any, model: Any, options: Any) -> Iterator[tuple[str, str]]:
    from django.urls import reverse

    name = f"admin:{model._meta.label_lower.replace('.', '_')}"
    address = reverse(f"{name}_changelist")
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.status_code)
    listed = answer.context_data["cl"]
    yield from ((what, address + asked) for what, asked in _lists(listed))
    if options.search_fields:
        for what, term in (("one", _known(model)), ("a tenant's name", TENANT), ("nothing", NOTHING)):
            yield f"search of {what}", f"{address}?q={quote(term)}"
    row = model._default_manager.order_by("pk").values_list("pk", flat=True).last()
    if row is not None:
        yield "row", reverse(f"{name}_change", args=[row])
    if client.get(reverse(f"{name}_add")).status_code == 200:
        yield "add", reverse(f"{name}_add")
    for field in options.get_autocomplete_fields(answer.wsgi_request):
        app, of = model._meta.label_lower.split(".")
        choice = f"app_label={app}&model_name={of}&field_name={field}"
        for what, term in (("", ""), (" by a name", TENANT)):
            yield f"choices for {field}{what}", f"{reverse('admin:autocomplete')}?{choice}&term={quote(term)}"


def _lists(listed: Any) -> Iterator[tuple[str, str]]:
    """Pages, filters, orders: what follows the list's address."""
    yield "list", ""
    yield "page 2", "?p=2"
    yield "page 200", "?p=200"
    for spec in listed.filter_specs:
        for choice in list(spec.choices(listed))[1:]:  # the first is all
            yield f"{spec.title} = {choice['display']}", choice["query_string"]
    for column, by in enumerate(listed.list_display):
        if by in listed.sortable_by:
            yield f"sorted by {by}", f"?o={column}"


def _known(model: Any) -> str:
    """What the newest row is found by."""
    names = {field.name for field in model._meta.get_fields()}
    for name in KNOWN_BY:
        if name.split("__")[0] in names:
            found = model._default_manager.order_by("-pk").values_list(name, flat=True).first()
            return str(found or NOTHING)
    return NOTHING


def visit(client: Any, address: str) -> dict[str, float]:
    """A page that is no page (a second one, of one) is answered by the list."""
    from django.db import connection, reset_queries

    connection.force_debug_cursor = True
    reset_queries()
    started = time.perf_counter()
    answer = client.get(address)
    took = 1000 * (time.perf_counter() - started)
    assert answer.status_code in (200, 302), (address, answer.status_code)
    asked = sum(float(query["time"]) for query in connection.queries_log)
    return {"queries": len(connection.queries_log), "ms": took, "sql": 1000 * asked}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
    import django

    django.setup()
    scope.settle_every()
    from django.core.signals import request_started
    from django.db import reset_queries

    from benchmarks import seeding

    request_started.disconnect(reset_queries)
    seeding.seed(is_empty=sys.argv[1] == "empty")
    client = _client()
    addresses = pages(client)
    print(json.dumps(addresses), flush=True)
    for line in sys.stdin:
        print(json.dumps(visit(client, addresses[json.loads(line)])), flush=True)


if __name__ == "__main__":
    main()
