"""The console's world, and the address of every page that there is to see in it: of the registry and the URL table."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib import admin
from django.test import RequestFactory
from django.urls import URLPattern
from django.utils import timezone

from batches.models import Batch, Upstream, WebhookDelivery, WebhookEndpoint
from billing import ledger, prices
from tenants import keys, trail
from tenants.models import ApiKey, Tenant, User
from tests import rows, staff
from tests.conftest import Person, person
from tests.stripes import USD
from tests.test_web import make_batches

ALSO = "/admin/tenants/apikey/?q=nothing-of-this-name"
SIGNING_IN = ("/admin/login/", "/admin/login/?next=/admin/tenants/apikey/")  # lead to the dashboard's own pages
NAMELESS = re.compile(r"\(\?P<(app_label|url)>")  # lists by Django's apps, and whatever else: no pages
MODELS = ("qwen3-8b-instruct", "llama-3.3-70b-instruct", "deepseek-r1-distill-qwen-32b-awq-with-a-very-long-name")
PLACES = ("Acme Research", "Globex", "Initech Laboratories for Applied Machine Learning and Evaluation, Ltd.")


class Asking(NamedTuple):
    """A page that asks: the list that its action stands in, the action, a row."""

    address: str
    action: str
    pk: str


def world(owner: Person) -> User:
    """A row of everything, enough of some to fill a list; who looks at it."""
    root = User.objects.create_superuser("grace.hopper@example.com", first_name="Grace", last_name="Hopper")
    batch = rows.hung(owner)
    Tenant.objects.filter(pk=owner.tenant.pk).update(name="Acme Evals", plan="growth")
    for name in PLACES:
        _tenant(person(name))
    _upstreams()
    _deliveries(batch)
    for number in range(14):
        keys.create(owner.tenant, f"nightly evals {number}", ("batch:read", "batch:write"))
    row = ApiKey.objects.order_by("pk")[3]
    keys.revoke_one(row, root.email, reason="It was in a public repository.")
    details = {
        "before": {"suspended": False},
        "after": {"suspended": True},
        "reason": "Unpaid since October: " + "x" * 90,
    }
    trail.record(owner.tenant, root.email, "tenant.changed", "Acme Evals", **details)
    return root


def _tenant(place: Person) -> None:
    now, tenant = timezone.now(), place.tenant
    ledger.post(tenant.pk, ledger.Kind.CREDIT_GRANT, "welcome", 25 * USD, "Welcome")
    key = ApiKey.objects.get(tenant=tenant)
    running: dict[str, Any] = {
        "api_key": key,
        "total": 48_000,
        "completed": 17_204,
        "failed": 31,
        "in_progress_at": now,
    }
    make_batches(tenant, 2, "gsm8k.jsonl", status="in_progress", cost=4_120_000_000_000, model=MODELS[1], **running)
    make_batches(
        tenant, 1, "tickets.jsonl", status="in_progress", paused_reason="max_cost_usd", waiting_reason="paused_max_cost",
        deadline=now + timedelta(hours=3), expected_at=now + timedelta(hours=4), model=MODELS[2], **running,
    )  # fmt: skip
    ended: dict[str, Any] = {"ended_at": now, "total": 900, "completed": 310, "api_key": key}
    for status in ("completed", "failed", "cancelled", "expired"):
        make_batches(
            tenant, 1, "translations.jsonl", status=status, model=MODELS[0], sla_met=status != "expired", **ended
        )


def _upstreams() -> None:
    for number, model in enumerate(MODELS):
        cooling = timezone.now() + timedelta(minutes=2) if number == 1 else None
        Upstream.objects.create(
            model=model, base_url=f"https://{model}.gpu-{number}.europe-west4.inference.internal.example.com:8443/v1",
            max_in_flight=32, enabled=number != 2, cooling_until=cooling,
        )  # fmt: skip
        prices.set_price(model, "0.80", "1.20")


def _deliveries(batch: Batch) -> None:
    now, endpoint = timezone.now(), WebhookEndpoint.objects.get()
    for number, (state, status) in enumerate((("delivered", 200), ("failed", 500), ("pending", None))):
        WebhookDelivery.objects.create(
            tenant=batch.tenant, endpoint=endpoint, event_id=f"evt_68fa{number}c2d9b7e", event_type="batch.completed",
            subject=batch.public_id, created_at=now, state=state, attempts=number + 1, last_status=status,
            next_at=now if state == "pending" else None, last_at=now,
        )  # fmt: skip


def addresses(patterns: Any, prefix: str = "/admin/", pk: str = "") -> Iterator[str]:
    """Every address of the console, with a row that there is in the place of its variables."""
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if NAMELESS.search(path):
            continue
        for variable in ("<path:object_id>", "<int:pk>", "<id>"):
            path = path.replace(variable, pk)
        if isinstance(pattern, URLPattern):
            assert "<" not in path or pattern.name == "view_on_site", f"the gallery has nothing for {path}"
            yield path
        else:
            yield from addresses(pattern.url_patterns, path, _row(path))


def _row(path: str) -> str:
    """The key of a row of the model whose pages stand below this address."""
    for model in admin.site._registry:
        if path == rows.url(model, "changelist"):
            return str(model._default_manager.order_by("-pk").values_list("pk", flat=True)[0])
    return ""


def pages(root: User) -> Iterator[tuple[str, Any]]:
    """The addresses that answer a GET with a whole page, and the answers: not what redirects, is posted or is read by
    scripts."""
    client = staff.signed_in(root)
    found = [*dict.fromkeys(addresses(admin.site.get_urls())), ALSO]
    for path in (*found, *(f"{path}?_popup=1" for path in found if path.endswith("/add/"))):
        answer = client.get(path)
        if answer.status_code == 200 and b"<!doctype html>" in answer.content[:200].lower():
            yield path, answer


def asking(root: User) -> Iterator[Asking]:
    """Every page that asks before an action is done."""
    request = RequestFactory().get("/")
    request.user = root
    for model, options in admin.site._registry.items():
        actions: dict[str, Any] = options.get_actions(request)
        for name, (action, _, _) in actions.items():
            if hasattr(action, "asked") and action.asked.says:  # what asks nothing has no page
                yield Asking(lists := rows.url(model, "changelist"), name, _row(lists))
