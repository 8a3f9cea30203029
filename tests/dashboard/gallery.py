"""A tenant's world with something of everything, and the address of every page that there is to see in it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from django.test import Client
from django.urls import URLPattern
from django.utils import timezone

from batches.models import Batch, Upstream, WebhookDelivery, WebhookEndpoint
from batches.web import urls
from billing import ledger, prices
from billing.models import Customer
from tenants import keys, trail
from tenants.models import Invitation, Membership, User
from tests import browser
from tests.conftest import Person, person, seal
from tests.stripes import USD, month
from tests.test_web import make_batches
from tests.witness import Witness, request_line

MODELS = {"qwen3-8b-instruct": ("0.20", "0.60"), "llama-3.3-70b": ("0.80", "1.20")}
SIGNING_IN = ("/account/login/", "/account/password/reset/", "/account/password/reset/done/")
MINE = (
    "/account/", "/account/password/change/", "/account/2fa/", "/account/2fa/totp/activate/", "/account/2fa/webauthn/add/",
    "/account/2fa/webauthn/", "/account/logout/", "/account/inactive/",
)  # fmt: skip


class World(NamedTuple):
    """A tenant, its owner, and the ids that addresses name."""

    acme: Person
    ada: User
    ids: dict[str, str]


def world(witness: Witness, working: Any) -> World:
    """Acme Evals: batches in every state, keys, webhooks, people, a closed month, a trail."""
    acme = person("Acme Evals")
    other = person("Acme Research")
    ada = browser.person_of(acme.tenant, "ada@acme.example")
    Membership.objects.create(tenant=other.tenant, user=ada, role="reader")
    for email, role in (("grace@acme.example", "member"), ("alan@acme.example", "reader")):
        browser.person_of(acme.tenant, email, role)
    for model, (price_in, price_out) in MODELS.items():
        Upstream.objects.create(model=model, base_url=witness.base_url, max_in_flight=32)
        prices.set_price(model, price_in, price_out)
    Customer.objects.create(tenant=acme.tenant, monthly_limit=500 * USD)
    invoice = month(acme, ("qwen3-8b-instruct", 41 * USD), ("llama-3.3-70b", 12 * USD))
    ledger.post(acme.tenant.pk, ledger.Kind.CREDIT_GRANT, "welcome", 25 * USD, "Welcome")
    ran = _ran(acme, working)
    _batches(acme)
    endpoint = _webhooks(acme, ran)
    _people(acme, ada)
    ids = {
        "tenant_id": acme.tenant.public_id,
        "batch_id": ran.public_id,
        "invoice_id": invoice.public_id,
        "endpoint_id": endpoint.public_id,
        "line": "1",
        "file_id": ran.input_file.public_id,
        "prefix": acme.tenant.keys.get(name="nightly evals").prefix,
        "delivery_id": "evt_1",
    }
    return World(acme, ada, ids)


def _ran(acme: Person, working: Any) -> Batch:
    """A batch that has run, some of whose lines failed."""
    lines = [
        request_line(
            f"question-{number}",
            custom_id=f"mmlu-pro-{number:04}",
            model=list(MODELS)[number % 2],
            faults=["400"] if number % 9 == 0 else (),
        )
        for number in range(1, 13)
    ]
    assert acme.submit(lines, metadata='{"suite": "mmlu-pro", "commit": "4f1c2d9"}').status_code == 200
    working().result(60)
    seal()
    return Batch.objects.get(tenant=acme.tenant)


def _batches(acme: Person) -> None:
    now, key = timezone.now(), acme.tenant.keys.first()
    running: dict[str, Any] = {
        "api_key": key,
        "in_progress_at": now - timedelta(minutes=9),
        "total": 48_000,
        "model": "llama-3.3-70b",
    }
    soon = now + timedelta(minutes=34)
    make_batches(
        acme.tenant, filename="gsm8k-train.jsonl", status="in_progress", completed=17_204, failed=31,
        expected_at=soon, cost=4_120_000_000_000, **running,
    )  # fmt: skip
    make_batches(
        acme.tenant, filename="support-tickets-november.jsonl", status="in_progress", paused_reason="max_cost_usd",
        waiting_reason="paused_max_cost", max_cost=5 * USD, cost=5 * USD, completed=6_100, **running,
    )  # fmt: skip
    make_batches(acme.tenant, filename="nightly-eval.jsonl", status="validating", total=12_000, model=None)
    make_batches(acme.tenant, filename="wrong.jsonl", status="failed", ended_at=now, model=None)
    make_batches(
        acme.tenant, filename="translations-fr.jsonl", status="cancelled", cancelling_at=now, ended_at=now,
        completed=310, total=900,
    )  # fmt: skip


def _webhooks(acme: Person, ran: Batch) -> WebhookEndpoint:
    now = timezone.now()
    endpoint = WebhookEndpoint.objects.create(
        tenant=acme.tenant, url="https://hooks.acme.example/batches", name="Evals", secret="whsec_" + "x" * 43,
        event_types="batch.completed batch.failed", created_at=now, updated_at=now,
    )  # fmt: skip
    for number, (state, status) in enumerate((("delivered", 200), ("failed", 500), ("pending", None))):
        WebhookDelivery.objects.create(
            tenant=acme.tenant, endpoint=endpoint, event_id=f"evt_{number}", event_type="batch.completed",
            subject=ran.public_id, created_at=now, state=state, attempts=number + 1, last_status=status,
            next_at=now if state == "pending" else None, last_at=now,
        )  # fmt: skip
    return endpoint


def _people(acme: Person, ada: User) -> None:
    now = timezone.now()
    Invitation.objects.create(
        tenant=acme.tenant, email="barbara@acme.example", digest="0" * 64, invited_by=ada.email,
        expires_at=now + timedelta(days=7),
    )  # fmt: skip
    row, _ = keys.create(acme.tenant, "nightly evals", ("batch:read", "batch:write"), now + timedelta(days=90))
    keys.create(acme.tenant, "dashboards", ("batch:read",))
    trail.record(acme.tenant, ada.email, "key.created", row.prefix, name="nightly evals")


def addresses(ids: dict[str, str]) -> Iterator[str]:
    """Every address below the tenant's, with these ids in the place of its variables."""
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern)
        path = f"/t/<str:tenant_id>/{pattern.pattern}"
        for kind, value in ids.items():
            path = path.replace(f"<str:{kind}>", value).replace(f"<int:{kind}>", value)
        assert "<" not in path, f"the gallery has no id for {path}"
        yield path


def pages(world: World) -> list[str]:
    """The addresses that answer a GET with a whole page: not the parts, the downloads and what is only posted."""
    client = Client()
    client.force_login(world.ada)
    states = [f"/t/{world.acme.tenant.public_id}/batches/{batch}" for batch in _others(world)]
    found = [*addresses(world.ids), *states]
    return [*(path for path in found if _is_page(client.get(path))), *MINE]


def _others(world: World) -> list[str]:
    rows = Batch.objects.filter(tenant=world.acme.tenant).exclude(public_id=world.ids["batch_id"])
    return list(rows.order_by("pk").values_list("public_id", flat=True))


def _is_page(answer: Any) -> bool:
    html = answer.status_code == 200 and answer["Content-Type"].startswith("text/html")
    return html and not answer.streaming and b"<!doctype html>" in answer.content[:200]
