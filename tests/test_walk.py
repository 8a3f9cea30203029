"""Every address, by every method, for everybody who may not: nothing of another tenant is seen or changed.

A route that is new in provocative.urls belongs into ROUTES, or the first test fails; a path variable's ids into `ids`.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from django.apps import apps
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern
from django.utils import timezone

from batches.core.states import Status
from batches.models import Batch, File, Upstream, WebhookDelivery, WebhookEndpoint
from billing.models import Invoice, LedgerEntry
from provocative.urls import urlpatterns
from tenants import keys, strangers
from tenants.models import ApiKey, Membership, Tenant, User
from tests import staff
from tests.conftest import Person, person, seal
from tests.test_invoices import invoiced
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # who may is decided before a database could make a difference

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
SAFE = ("GET", "HEAD", "OPTIONS")  # that need batch:read, every other batch:write
READ = "GET HEAD"


class Route(NamedTuple):
    """An address: the methods that it takes, whom it serves, and where else than in its path it takes ids."""

    takes: str
    serves: str = "keys"  # or people (signed in), anyone, staff, a library's own pages
    queries: tuple[tuple[str, str], ...] = ()  # a query's name, the kind of its id
    bodies: tuple[dict[str, str], ...] = ()  # JSON bodies of a POST; a value that is a kind of id stands for such ids


NAMING = {"input_file_id": "file_id", "endpoint": "/v1/chat/completions"}
ROUTES = {
    "healthz": Route(READ, "anyone"),
    "readyz": Route(READ, "anyone"),
    "v1/batch": Route("GET HEAD POST", queries=(("after", "batch_id"),)),
    "v1/batch/validate": Route("POST"),
    "v1/batch/<str:batch_id>": Route("GET HEAD DELETE"),
    "v1/batch/<str:batch_id>/output": Route(READ),
    "v1/batch/<str:batch_id>/errors": Route(READ),
    "v1/batch/<str:batch_id>/cancel": Route("POST"),
    "v1/batch/<str:batch_id>/resume": Route("POST"),
    "v1/batch/<str:batch_id>/retry": Route("POST"),
    "v1/batch/<str:batch_id>/results": Route(READ),
    "v1/batch/<str:batch_id>/receipts": Route(READ),
    "v1/batch/<str:batch_id>/manifest": Route(READ),
    "v1/files": Route("GET HEAD POST", queries=(("after", "file_id"),)),
    "v1/files/<str:file_id>": Route("GET HEAD DELETE"),
    "v1/files/<str:file_id>/content": Route(READ),
    "v1/batches": Route("GET HEAD POST", queries=(("after", "batch_id"),), bodies=(NAMING,)),
    "v1/batches/validate": Route("POST", bodies=(NAMING,)),
    "v1/batches/<str:batch_id>": Route(READ),
    "v1/batches/<str:batch_id>/cancel": Route("POST"),
    "v1/models": Route(READ),
    "v1/models/<path:model_id>": Route(READ),
    "v1/usage": Route(READ),
    "v1/ledger": Route(READ, queries=(("after", "entry_id"),)),
    "v1/manifest_keys": Route(READ, "anyone"),
    "v1/limits": Route(READ),
    "v1/billing": Route(READ),
    "v1/invoices": Route(READ, queries=(("after", "invoice_id"),)),
    "v1/invoices/<str:invoice_id>": Route(READ),
    "v1/invoices/<str:invoice_id>/entries": Route(READ),
    "v1/invoices/<str:invoice_id>/csv": Route(READ),
    "v1/invoices/<str:invoice_id>/pdf": Route(READ),
    "v1/webhook_event_types": Route(READ),
    "v1/webhook_endpoints": Route("GET HEAD POST", queries=(("after", "endpoint_id"),)),
    "v1/webhook_endpoints/<str:endpoint_id>": Route("GET HEAD POST DELETE"),
    "v1/webhook_endpoints/<str:endpoint_id>/rotate_secret": Route("POST"),
    "v1/webhook_endpoints/<str:endpoint_id>/test": Route("POST", bodies=({"event_type": "batch.completed"},)),
    "v1/webhook_endpoints/<str:endpoint_id>/deliveries": Route(READ),
    "v1/webhook_endpoints/<str:endpoint_id>/deliveries/<str:delivery_id>/replay": Route("POST"),
    "v1/billing/checkout": Route("POST", bodies=({"mode": "setup"},)),
    "v1/billing/portal": Route("POST"),
    "stripe/webhook": Route("POST", "anyone"),
    "v1/openapi.json": Route(READ, "anyone"),
    "docs/api": Route(READ, "anyone"),
    "": Route(READ, "people"),
    "t/<str:tenant_id>/batches": Route(READ, "people", queries=(("after", "batch_id"),)),
    "t/<str:tenant_id>/team": Route(READ, "people", queries=(("after", "email"),)),
    "t/<str:tenant_id>/team/invite": Route("POST", "people"),
    "t/<str:tenant_id>/team/resend": Route("POST", "people"),
    "t/<str:tenant_id>/team/take-back": Route("POST", "people"),
    "t/<str:tenant_id>/team/role": Route("POST", "people"),
    "t/<str:tenant_id>/team/remove": Route("POST", "people"),
    "t/<str:tenant_id>/team/leave": Route("POST", "people"),
    "invitation": Route("GET HEAD POST", "anyone"),
    "invitations/<str:secret>": Route(READ, "anyone"),
    "account/email/": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/digest": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/digest/retry": Route("POST", "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/lines": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/lines/<int:line>": Route(READ, "people"),
    "t/<str:tenant_id>/keys": Route(READ, "people", queries=(("after", "prefix"),)),
    "t/<str:tenant_id>/keys/new": Route("GET HEAD POST", "people"),
    "t/<str:tenant_id>/keys/<str:prefix>/rotate": Route("GET HEAD POST", "people"),
    "t/<str:tenant_id>/keys/<str:prefix>/revoke": Route("POST", "people"),
    "t/<str:tenant_id>/webhooks": Route(READ, "people"),
    "t/<str:tenant_id>/webhooks/new": Route("GET HEAD POST", "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>": Route("GET HEAD POST", "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>/enabled": Route("POST", "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>/rotate": Route("GET HEAD POST", "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>/test": Route("POST", "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>/delete": Route("POST", "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>/deliveries": Route(READ, "people"),
    "t/<str:tenant_id>/webhooks/<str:endpoint_id>/deliveries/<str:delivery_id>/replay": Route("POST", "people"),
    "t/<str:tenant_id>/data": Route(READ, "people"),
    "t/<str:tenant_id>/data/export": Route("POST", "people"),
    "t/<str:tenant_id>/trail": Route(READ, "people"),
    "t/<str:tenant_id>/trail/csv": Route(READ, "people"),
    "t/<str:tenant_id>/usage": Route(READ, "people"),
    "t/<str:tenant_id>/usage.csv": Route(READ, "people"),
    "t/<str:tenant_id>/billing": Route(READ, "people", queries=(("after", "invoice_id"),)),
    "t/<str:tenant_id>/billing/prices": Route(READ, "people"),
    "t/<str:tenant_id>/billing/ledger": Route(READ, "people", queries=(("after", "entry_id"),)),
    "t/<str:tenant_id>/billing/invoices/<str:invoice_id>": Route(READ, "people", queries=(("after", "entry_id"),)),
    "t/<str:tenant_id>/billing/invoices/<str:invoice_id>/csv": Route(READ, "people"),
    "t/<str:tenant_id>/billing/invoices/<str:invoice_id>/pdf": Route(READ, "people"),
    "t/<str:tenant_id>/billing/payment_method": Route("POST", "people"),
    "t/<str:tenant_id>/billing/credits": Route("POST", "people"),
    "t/<str:tenant_id>/billing/portal": Route("POST", "people"),
    "t/<str:tenant_id>/batches/rows": Route(READ, "people", queries=(("after", "batch_id"),)),
    "t/<str:tenant_id>/batches/<str:batch_id>": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/head": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/charts": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/output": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/errors": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/receipts": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/manifest": Route(READ, "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/cancel": Route("POST", "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/resume": Route("POST", "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/retry": Route("POST", "people"),
    "t/<str:tenant_id>/batches/<str:batch_id>/erase": Route("POST", "people"),
    "account/confirm-email/": Route(READ, "people"),
    "account/confirm-email/<path:rest>": Route(READ, "people"),
    "t/<str:tenant_id>/upload": Route("GET HEAD POST", "people", queries=(("file", "file_id"),)),
    "t/<str:tenant_id>/upload/preflight": Route("POST", "people"),
    "t/<str:tenant_id>/upload/example": Route(READ, "people", queries=(("model", "model_id"),)),
    "t/<str:tenant_id>/uploads": Route("PUT", "people"),
    "t/<str:tenant_id>/uploads/<str:file_id>/remove": Route("POST", "people"),
    "account/": Route("", "library"),
    "account/2fa/": Route("", "library"),
    "admin/": Route("", "staff"),
}
UNKNOWN = {
    "batch_id": "batch_" + "0" * 24,
    "file_id": "file-" + "0" * 24,
    "model_id": "nobody",
    "endpoint_id": "we_" + "0" * 24,
    "invoice_id": "inv_" + "0" * 24,
    "entry_id": "batch_charge:batch_" + "0" * 24,
    "tenant_id": "ten_" + "0" * 24,
    "secret": "0" * 43,
    "email": "nobody@example.com",
    "prefix": "pk-prov-00000000",
    "rest": "MQ:1",
}
OWNER = ("owner", "secret-name")  # its name before and after it became a secret


def ids_of_owner() -> dict[str, list[str]]:
    """What the owner has, by kind: foreign ids for everybody else."""
    named = {
        "batch_id": (Batch, "public_id"),
        "file_id": (File, "public_id"),
        "model_id": (Upstream, "model"),
        "endpoint_id": (WebhookEndpoint, "public_id"),
        "delivery_id": (WebhookDelivery, "event_id"),
        "invoice_id": (Invoice, "public_id"),
        "prefix": (ApiKey, "prefix"),
    }
    entries = LedgerEntry.objects.filter(tenant__name__in=OWNER).values_list("kind", "reference")
    tenants = Tenant.objects.filter(name__in=OWNER).values_list("public_id", flat=True)
    return {"entry_id": [":".join(entry) for entry in entries], "tenant_id": list(tenants)} | {
        kind: list(rows._default_manager.filter(tenant__name__in=OWNER).values_list(column, flat=True))
        for kind, (rows, column) in named.items()
    }


def routes(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    """Every address below `patterns`; of the admin and of libraries where they begin."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern) or (route in ROUTES and ROUTES[route].serves in ("staff", "library")):
            yield route
        else:
            yield from routes(pattern.url_patterns, route)


def test_every_route_is_in_the_matrix() -> None:
    assert set(routes(urlpatterns)) == set(ROUTES)


# --- the world -------------------------------------------------------------------------------------------------------


@pytest.fixture
def owned(owner: Person, outsider: Person, witness: Witness, work: Any) -> dict[str, list[str]]:
    """An ended batch with outputs, an open one, and a model that is the owner's alone."""
    Upstream.objects.create(tenant=owner.tenant, model="secret-model", base_url=witness.base_url)
    for row in (owner.tenant, outsider.tenant):
        Tenant.objects.filter(pk=row.pk).update(requests_per_minute=10**6)
    WebhookEndpoint.objects.create(
        tenant=owner.tenant, url="https://secret.example/", event_types="batch.completed", secret="secret-secret",
        created_at=timezone.now(), updated_at=timezone.now(),
    )  # fmt: skip
    lines = [request_line("secret-line"), request_line("x", custom_id="secret-custom", faults=["400"])]
    assert owner.submit(lines, metadata='{"secret-metadata": "1"}').status_code == 200
    work()
    assert Batch.objects.get().status == Status.COMPLETED
    seal()
    invoiced(owner)
    assert owner.submit(lines).status_code == 200
    Tenant.objects.filter(pk=owner.tenant.pk).update(name="secret-name")
    File.objects.update(filename="secret-filename")
    return ids_of_owner()


class Actor(NamedTuple):
    """Somebody, and what an address that serves keys answers them: None where it depends on more than who they are."""

    client: Client
    headers: dict[str, str]
    answer: tuple[int, str] | None
    may: str = "read write"


def actors(owner: Person, outsider: Person) -> dict[str, Actor]:
    past = timezone.now() - timedelta(seconds=1)
    revoked, expired = keys.create(outsider.tenant)[1], keys.create(outsider.tenant, expires_at=past)[1]
    assert ApiKey.objects.filter(digest=keys.digest(revoked)).update(revoked_at=past)
    suspended = person("suspended", suspended=True, requests_per_minute=10**6).key
    unknown, missing = (401, "invalid_api_key"), (401, "missing_api_key")

    def keyed(key: str, answer: tuple[int, str] | None = None, may: str = "read write") -> Actor:
        client = Client(raise_request_exception=False)
        return Actor(client, {"Authorization": f"Bearer {key}"} if key else {}, answer, may)

    def scoped(*scopes: str) -> str:
        return keys.create(outsider.tenant, scopes=scopes)[1]

    return {
        "no key": keyed("", missing),
        "malformed key": keyed(outsider.key[:-1], unknown),
        "unknown key": keyed(keys.generate(), unknown),
        "revoked key": keyed(revoked, unknown),
        "expired key": keyed(expired, unknown),
        "suspended": keyed(suspended, (403, "tenant_suspended")),
        "session of the owner's": keyed("", missing)._replace(client=signed_in("of-owner@example.com", owner.tenant)),
        "session of staff": keyed("", missing)._replace(client=signed_in("staff@example.com", is_superuser=True)),
        "foreign key": keyed(outsider.key),
        "foreign key that reads": keyed(scoped("batch:read"), may="read"),
        "foreign key that writes": keyed(scoped("batch:write"), may="write"),
        "foreign key without scopes": keyed(scoped(), may=""),
    }


def signed_in(email: str, *tenants: Tenant, **fields: Any) -> Client:
    user = User.objects.create_user(email, is_staff="is_superuser" in fields, **fields)
    for tenant in tenants:
        Membership.objects.create(tenant=tenant, user=user)
    return staff.signed_in(user, raise_request_exception=False)


def hasty() -> Client:
    """A superuser's, in by a password alone: no second step."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_user("hasty@example.com", is_staff=True, is_superuser=True))
    return client


class Cell(NamedTuple):
    """One request of the walk, as its answer depends on the id in it."""

    route: str
    method: str
    actor: str
    kind: str  # of the id; "" without one
    address: str
    body: dict[str, str] | None = None

    def sent(self, actor: Actor, an_id: str) -> Any:
        content = {name: an_id if value == self.kind else value for name, value in (self.body or {}).items()}
        data: dict[str, Any] = (
            {} if self.body is None else {"data": json.dumps(content), "content_type": "application/json"}
        )
        address = self.address.replace("{id}", an_id)
        return actor.client.generic(self.method, address, headers=actor.headers, **data)


def cells(route: str, actor: str) -> Iterator[Cell]:
    """Every method, with the id in the path, in each query, and in each body."""
    known = ROUTES[route]
    variable, *others = [*re.findall(r"<\w+:(\w+)>", route), ""]
    address = "/" + re.sub(rf"<\w+:{variable}>", "{id}", route) if variable else f"/{route}"
    within = {**ids_of_owner(), "line": ["1"]} if others[:-1] else {}
    for other in others[:-1]:  # within what the id names
        address = re.sub(rf"<\w+:{other}>", within[other][0], address)
    for method in METHODS:
        yield Cell(route, method, actor, variable, address)
        for name, kind in known.queries:
            yield Cell(route, method, actor, kind, f"{address}?{name}={{id}}")
    for body in known.bodies:
        kind = next((value for value in body.values() if value in UNKNOWN), variable)
        yield Cell(route, "POST", actor, kind, address, body)


CHANCE = ("x-request-id", "expires", "x-ratelimit-", "retry-after")  # headers that differ from answer to answer
TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="\w+"')


def told(answer: Any, an_id: str) -> str:
    """All that an answer says, but for chance, and where it says what it was asked (an address to go on to)."""
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    headers = {name: value for name, value in answer.items() if not name.lower().startswith(CHANCE)}
    said = f"{answer.status_code} {headers} {TOKEN.sub(b'', body)!r}"
    return said.replace(an_id, "{id}").replace(quote(an_id), "{id}") if an_id else said


def code(answer: Any) -> str | None:
    if answer.streaming or not answer.content or "json" not in answer.get("Content-Type", ""):
        return None
    found: str = answer.json().get("error", {}).get("code", "")
    return found


def everything() -> list[Any]:
    """Every row of every table of ours, but for the use of keys, and sessions' ends."""
    models = [model for app in ("tenants", "billing", "batches") for model in apps.get_app_config(app).get_models()]
    hidden = {"last_used_at", "last_login"}
    return [
        [{k: v for k, v in row.items() if k not in hidden} for row in model._default_manager.order_by("pk").values()]
        for model in models
    ]


WALKED: Counter[str] = Counter()


@pytest.fixture(scope="module", autouse=True)
def total(request: pytest.FixtureRequest) -> Iterator[None]:
    """One line for all of the walk, whatever is captured."""
    WALKED.clear()
    yield
    if WALKED:
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\nURL walk: {WALKED['cells']:,} cells, {WALKED['leaks']} leaks")


EVERY_METHOD = ("no key", "foreign key")  # who try what an address does not take
# Who might be let in, and so asks everything in the short walk too; the others ask each address once there, by a method
# (a query, a body) that chance has picked.
ALWAYS = {"no key", "foreign key", "session of another tenant", "session of staff"}
SHORT_AND_WHOLE = (False, pytest.param(True, marks=pytest.mark.soak))


def picked(asked: Iterable[Cell], whole: bool) -> Iterator[Cell]:
    """The cells of a walk, short or whole, of those that could be asked: address by address, one actor after the other."""
    dice = random.Random(1)
    for (_, actor), group in groupby(asked, lambda cell: (cell.route, cell.actor)):
        strangers.failures.clear()  # or most of them would be too many from one address
        found = list(group)
        yield from found if whole or actor in ALWAYS else [dice.choice(found)]


# --- keys ------------------------------------------------------------------------------------------------------------


class Walk:
    """Counts cells, and notes each that answers otherwise than documented, or tells of the owner."""

    def __init__(self, owned: dict[str, list[str]], actors: dict[str, Actor]) -> None:
        self.owned, self.actors = owned, actors
        self.secrets = ["secret-", *(value for values in owned.values() for value in values)]
        self.cells: Counter[int] = Counter()
        self.faults: list[str] = []

    def ask(self, cell: Cell, an_id: str) -> Any:
        answer = cell.sent(self.actors[cell.actor], an_id)
        self.cells[answer.status_code] += 1
        answer.said = told(answer, an_id).replace(cell.address.partition("?")[0], "{address}")  # where to go on to
        if "x-request-id" not in answer or answer.status_code >= 500:
            self.note(cell, answer, "broke")
        said = answer.said.replace(cell.address.partition("?")[0], "")  # which names what the id is of, too
        if any(secret in said for secret in self.secrets):
            self.note(cell, answer, "leaked")
        return answer

    def foreign(self, cell: Cell) -> Any:
        """The answer to an unknown id (or none), to which every foreign one must be equal."""
        unknown = self.ask(cell, UNKNOWN.get(cell.kind, ""))
        foreign = self.owned.get(cell.kind, [])
        for an_id in foreign[:1] if self.actors[cell.actor].answer else foreign:
            if self.ask(cell, an_id).said != unknown.said:
                self.note(cell, unknown, f"tells {an_id} from an unknown id")
        return unknown

    def note(self, cell: Cell, answer: Any, what: str) -> None:
        self.faults.append(f"{what}: {cell} {answer.status_code} {code(answer)}")

    def report(self, what: str) -> None:
        print(f"{what}: {self.cells.total()} cells {dict(sorted(self.cells.items()))}, leaks {len(self.faults)}")
        WALKED.update(cells=self.cells.total(), leaks=len(self.faults))
        assert not self.faults, "\n".join(self.faults[:20])


def expected(cell: Cell, actor: Actor) -> tuple[int, str] | None:
    """What an address that serves keys answers; None where the request is one's own."""
    if actor.answer:
        return actor.answer
    if ("read" if cell.method in SAFE else "write") not in actor.may:
        return 403, "insufficient_scope"
    if cell.method not in ROUTES[cell.route].takes.split():
        return 405, "method_not_allowed"
    return (404, "") if "{id}" in cell.address and not (cell.method == "POST" and "?" in cell.address) else None


def of_keys(everybody: dict[str, Actor]) -> Iterator[Cell]:
    """What everybody may ask of the addresses that serve keys."""
    for route in (name for name, known in ROUTES.items() if known.serves == "keys"):
        for name in everybody:
            for cell in cells(route, name):
                if cell.method in (*ROUTES[route].takes.split(), "POST") or name in EVERY_METHOD:
                    yield cell


@pytest.mark.parametrize("whole", SHORT_AND_WHOLE)
def test_keys(owner: Person, outsider: Person, owned: dict[str, list[str]], whole: bool) -> None:
    walk = Walk(owned, actors(owner, outsider))
    before = everything()
    for cell in picked(of_keys(walk.actors), whole):
        answer = walk.foreign(cell)
        wanted = expected(cell, walk.actors[cell.actor])
        right = wanted is None or answer.status_code == wanted[0]
        if right and wanted and wanted[1] and cell.method != "HEAD":
            right = code(answer) == wanted[1]
        if not right or code(answer) == "not_found":  # that of an address that is no route
            walk.note(cell, answer, f"is not {wanted}")
    walk.report("keys")
    assert walk.cells.total() > (3_000 if whole else 1_000)
    assert everything() == before


def test_the_owner_is_served_at_each_of_them(owner: Person, owned: dict[str, list[str]]) -> None:
    """Or the walk would show nothing."""
    for route, known in ROUTES.items():
        for cell in cells(route, "owner") if known.serves == "keys" else ():
            if cell.method in known.takes.split() and cell.method in SAFE:
                answers = [
                    cell.sent(Actor(owner.client, {"Authorization": f"Bearer {owner.key}"}, None), an_id)
                    for an_id in owned.get(cell.kind, [""])
                ]
                assert 200 in {answer.status_code for answer in answers}, cell


def malformed(key: str, count: int) -> Iterator[str]:
    """Texts that are no keys, most of them one with a typing error."""
    dice = random.Random(1)
    for _ in range(count):
        at, letter = dice.randrange(len(key)), dice.choice(keys.ALPHABET + "-_ .=/é\t")
        changed = dice.choice([
            key[:at] + letter + key[at + 1 :], key[:at] + letter + key[at:], key[:at] + key[at + 1 :], key[:at], key[at:],
            key.swapcase(), keys.PREFIX + "".join(dice.choices(keys.ALPHABET, k=34)), f"sk-{at}", "", letter * at,
        ])  # fmt: skip
        if changed.strip() != key:
            yield changed


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.soak)])
def test_malformed_keys_cost_no_query(owner: Person, count: int) -> None:
    refused = 0
    with CaptureQueriesContext(connection) as captured:
        for number, key in enumerate(malformed(owner.key, count)):
            near: Any = {"REMOTE_ADDR": f"10.0.{number // 50}.1"}  # 60 a minute from one address
            answer = owner.client.get("/v1/batch", headers={"Authorization": f"Bearer {key}"}, **near)
            assert (answer.status_code, code(answer)) == (401, "invalid_api_key"), key
            refused += 1
    print(f"{refused} malformed keys: queries {len(captured)}")
    assert len(captured) == 0 and refused > count * 9 // 10


# --- people, anyone, staff --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole", SHORT_AND_WHOLE)
def test_pages(owner: Person, outsider: Person, owned: dict[str, list[str]], whole: bool) -> None:
    """Who is not signed in, or with a key alone, is sent to sign in; who is of another tenant sees what is unknown."""
    former = signed_in("former@example.com", owner.tenant)
    methods = {
        "session of another tenant": METHODS,
        "session of staff": ("GET", "POST"),
        "session of hasty staff": ("GET",),
    }
    User.objects.filter(email="former@example.com").update(is_active=False)
    everybody = actors(owner, outsider)
    someone = {name: actor for name, actor in everybody.items() if not name.startswith("session")} | {
        "owner's key": Actor(Client(), {"Authorization": f"Bearer {owner.key}"}, None),
        "deactivated": Actor(former, {}, None),
        "session of another tenant": Actor(signed_in("of-outsider@example.com", outsider.tenant), {}, None),
        "session of nobody": Actor(signed_in("nobody@example.com"), {}, None),
        "session of staff": everybody["session of staff"]._replace(answer=None),
        "session of hasty staff": Actor(hasty(), {}, None),
    }
    walk = Walk(owned, someone)
    before = everything()
    asked = (
        cell
        for route, known in ROUTES.items()
        for name in (someone if known.serves in ("people", "anyone") else ())
        for cell in cells(route, name)
        if cell.method in methods.get(name, (*known.takes.split(), "POST"))
    )
    for cell in picked(asked, whole):
        answer = walk.foreign(cell)
        stranger = ROUTES[cell.route].serves == "people" and not cell.actor.startswith("session of")
        to_sign_in = answer.status_code == 302 and answer["Location"].startswith("/account/login/?next=")
        if stranger and not (to_sign_in or answer.status_code in (403, 405)):
            walk.note(cell, answer, "was let in")
    walk.report("pages")
    assert everything() == before


# What all of the staff see, of no group too: which pages are theirs, and the words of scripts.
OPEN = {"/admin/", "/admin/home/", "/admin/jsi18n/"}


def admin_addresses(patterns: list[Any], prefix: str = "/admin/") -> Iterator[str]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern).removesuffix("$")
        if isinstance(pattern, URLPattern):
            yield path
        else:
            yield from admin_addresses(pattern.url_patterns, path)


def row_of(path: str) -> str:
    """What stands in an address of the console for a row: one that there is, where it names its model."""
    named = re.match(r"/admin/(\w+)/(\w+)/", path)
    model = apps.all_models.get(named[1], {}).get(named[2]) if named else None
    return "1" if model is None else str(model._base_manager.order_by("pk").values_list("pk", flat=True).first() or 1)


def test_the_admin_lets_nobody_in_but_staff(owner: Person, outsider: Person, owned: dict[str, list[str]]) -> None:
    everybody = actors(owner, outsider)
    tried = ("no key", "session of the owner's", "foreign key")  # with every method
    someone = {name: everybody[name] for name in tried}
    someone["session of another tenant"] = Actor(signed_in("of-outsider@example.com", outsider.tenant), {}, None)
    someone["session of hasty staff"] = Actor(hasty(), {}, None)
    idle = User.objects.create_user("idle@example.com", is_staff=True)
    someone["session of idle staff"] = Actor(staff.signed_in(idle, raise_request_exception=False), {}, None)
    walk = Walk(owned, someone)
    before = everything()
    for path in admin_addresses(admin.site.get_urls()):
        for name in someone if path not in ("/admin/login/", "/admin/logout/") else ():
            for method in ("GET", "POST", "DELETE") if name in tried else ("GET", "POST"):
                cell = Cell("admin/", method, name, "", re.sub("<.*?>", row_of(path), path.split("^")[0]))
                answer = walk.ask(cell, "")
                to_sign_in = answer.status_code == 302 and "/admin/login/" in answer["Location"]
                elsewhere = name == "session of idle staff" and (answer.status_code == 302 or cell.address in OPEN)
                if not (to_sign_in or elsewhere or answer.status_code in (403, 404, 405)):
                    walk.note(cell, answer, "was let in")
    walk.report("admin")
    assert walk.cells.total() > 500
    assert everything() == before
