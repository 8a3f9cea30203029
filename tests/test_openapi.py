"""The description of the API: complete, valid, and true of what the real server answers to whatever is sent."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from drf_spectacular.validation import validate_schema

from batches.api import serializers
from batches.api.openapi import errors, generator
from provocative.urls import urlpatterns
from tenants import keys
from tenants.models import ApiKey
from tests import documented, hooks
from tests.conftest import Person, person, seal
from tests.receiver import Receiver
from tests.test_invoices import invoiced
from tests.witness import Witness, request_line

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

ADDRESS = "/v1/openapi.json"
HERE = "https://localhost:9/"  # where nothing is sent, since it is no public address: no webhook leaves this machine
UNNAMED = {"invalid_request", "permission_denied"}  # by no operation: the framework's last resorts


@pytest.fixture(scope="module")
def described() -> Any:
    return json.loads(generator.document().body)


# --- whole and valid --------------------------------------------------------------------------------------------------


def test_it_is_served_to_anybody_and_valid() -> None:
    answer = documented.checked("GET", ADDRESS, Client().get(ADDRESS))
    assert answer["Content-Type"] == "application/json"
    described = answer.json()
    validate_schema(described)
    assert described["openapi"].startswith("3.1.")
    again = Client().get(ADDRESS, headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", answer["ETag"])
    assert Client().head(ADDRESS)["ETag"] == answer["ETag"]
    assert Client().get(f"{ADDRESS}?x=1").json()["error"]["code"] == "unsupported_parameter"


def routes() -> Iterator[tuple[str, str]]:
    """Every method at every path under /v1/, as urls.py has them."""
    patterns: list[Any] = urlpatterns
    for pattern in patterns:
        if str(pattern.pattern).startswith("v1/"):
            path = "/" + re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(pattern.pattern))
            for method in set(pattern.callback.cls().allowed_methods) - {"OPTIONS", "HEAD"}:
                yield method, path


def test_every_route_is_described_and_no_other(described: Any) -> None:
    found = {f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods}
    assert {f"{method} {path}" for method, path in routes()} == found == set(generator.OPERATIONS)
    names = [operation.id for operation in generator.OPERATIONS.values()]
    assert len(set(names)) == len(names) > 15
    assert {operation.tag for operation in generator.OPERATIONS.values()} == set(generator.TAGS)


def inside(value: Any) -> Iterator[Any]:
    """The value and everything in it."""
    yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from inside(each)


def test_every_error_code_is_the_answer_of_an_operation(described: Any) -> None:
    """tests/test_docs.py holds docs/errors.md to the code; here the description is held to docs/errors.md."""
    page = set(errors.documented(errors.REQUESTS))
    assert set(described["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]) == page
    shared, paths = described["components"]["responses"], described["paths"]
    named = {name for answer in inside([shared, paths]) if isinstance(answer, dict) for name in _codes(answer)}
    assert named == page - UNNAMED
    assert {"empty_file", "batch_expired"} <= set(errors.documented(errors.BATCHES))
    assert {"request_timeout", "batch_expired"} <= set(errors.documented(errors.LINES))


def _codes(schema: dict[str, Any]) -> list[str]:
    """Of the narrowed error object."""
    match schema:
        case {"allOf": [{"$ref": "#/components/schemas/Error"}, narrow]}:
            codes: list[str] = narrow["properties"]["error"]["properties"]["code"]["enum"]
            return codes
    return []


def test_every_example_is_as_described(described: Any) -> None:
    count = 0
    for media in inside(described):
        if not (isinstance(media, dict) and {"schema", "examples"} <= set(media)):
            continue
        for example in media["examples"].values():
            documented.valid_by(example["value"], media["schema"])
            count += 1
    assert count > 100


def test_what_is_named_is_there(described: Any) -> None:
    named = {each["$ref"] for each in inside(described) if isinstance(each, dict) and "$ref" in each}
    for name in named:
        kind, component = name.removeprefix("#/components/").split("/")
        assert component in described["components"][kind]
    unused = {f"#/components/schemas/{name}" for name in described["components"]["schemas"]} - named
    lines = ("OutputLine", "Receipt", "ManifestContent")
    assert unused == {f"#/components/schemas/{name}" for name in lines}, "they are text to OpenAPI"


def test_a_field_that_is_not_described_fails(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = serializers.native
    assert owner.submit([request_line("a")]).status_code == 200
    for change in ({"surprise": 1}, {"total_requests": "3"}, {"status": "lost"}):
        monkeypatch.setattr(serializers, "native", lambda batch, change=change: {**whole(batch), **change})
        with pytest.raises(AssertionError, match=next(iter(change))):
            owner.get("/v1/batch")
    monkeypatch.setattr(
        serializers, "native", lambda batch: {key: v for key, v in whole(batch).items() if key != "cost"}
    )
    with pytest.raises(AssertionError, match="cost"):
        owner.get("/v1/batch")


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_is_for_anybody_and_loads_nothing_from_elsewhere() -> None:
    answer = Client().get("/docs/api")
    html, policy = answer.content.decode(), answer["Content-Security-Policy"]
    assert answer.status_code == 200 and f'data-description="{ADDRESS}"' in html
    assert "http:" not in html + policy and "https:" not in html + policy and "//" not in html.replace("</", "")
    assert "default-src 'none'" in policy and "script-src 'self';" in policy and "connect-src 'self';" in policy
    loaded = re.findall(r'(?:src|href)="/static/([^"]+)"', html)
    assert len(loaded) == 3 and all(finders.find(name) for name in loaded)
    assert Client().post("/docs/api").status_code == 405


# --- true of every route ----------------------------------------------------------------------------------------------


def test_no_route_answers_without_a_key_or_by_another_method(owner: Person) -> None:
    client = owner.client
    for name, operation in generator.OPERATIONS.items():
        method, template = name.split()
        path = re.sub("{.*?}", "x", template)
        if not operation.public:
            answer = documented.checked(method, path, client.generic(method, path))
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key"), name
    for path, methods in documented.description()["paths"].items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"} - {each.upper() for each in methods}:
            path = re.sub("{.*?}", "x", path)
            answer = client.generic(method, path, headers={"Authorization": f"Bearer {owner.key}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed"), (method, path)


# --- true -------------------------------------------------------------------------------------------------------------


class Known:
    """Ids that are there, to be drawn beside invented ones."""

    def __init__(self, owner: Person, receiver: Receiver, work: Callable[..., None]) -> None:
        self.urls = [HERE]
        self.endpoints = [hooks.endpoint(owner, receiver.url)["id"] for _ in range(2)]
        good, bad = request_line("a"), request_line("b", faults=["400"])
        ended = [owner.submit([good, bad]).json() for _ in range(3)]
        broken = owner.submit([b"{}"]).json()
        work()
        seal()
        ended = [owner.batch(batch["id"]) for batch in (*ended, broken)]
        waiting = [owner.submit([good]).json() for _ in range(2)]
        upload = {"file": SimpleUploadedFile("a", json.dumps(good).encode()), "purpose": "batch"}
        self.batches = [batch["id"] for batch in (*ended, *waiting)]
        files = [batch[name] for batch in ended for name in ("output_file_id", "error_file_id") if batch[name]]
        self.inputs = [owner.post("/v1/files", upload).json()["id"], waiting[0]["input_file_id"]]
        self.files = [*self.inputs, *files]
        self.models = ["witness"]
        self.invoices = [invoiced(owner).public_id]
        self.deliveries = [each["id"] for each in hooks.deliveries(owner, {"id": self.endpoints[0]})]
        assert self.deliveries

    def drawn(self) -> dict[str, Any]:
        """schemathesis's configuration of them."""
        where = {
            "path.batch_id": "batches",
            "path.file_id": "files",
            "body.input_file_id": "inputs",
            "path.model_id": "models",
            "path.endpoint_id": "endpoints",
            "path.delivery_id": "deliveries",
            "path.invoice_id": "invoices",
            "query.reference": "batches",
            "body.url": "urls",
        }
        return {
            "dictionaries": {kind: {"values": getattr(self, kind)} for kind in set(where.values())},
            "parameters": {name: {"dictionary": kind, "probability": 0.6} for name, kind in where.items()},
        }


def roles_of(owner: Person, outsider: Person) -> dict[str, dict[str, Any]]:
    """Everybody who should not hear of what the owner has: their key, how each is refused, and what each may do."""
    past = timezone.now() - timedelta(seconds=1)
    revoked, expired = keys.create(outsider.tenant)[1], keys.create(outsider.tenant, expires_at=past)[1]
    ApiKey.objects.filter(digest=keys.digest(revoked)).update(revoked_at=past)
    refused = {
        "no key": "",
        "malformed": owner.key[:-1],
        "unknown": keys.generate(),
        "revoked": revoked,
        "expired": expired,
    }
    found: dict[str, dict[str, Any]] = {name: {"key": key, "refused": 401, "may": ""} for name, key in refused.items()}
    for scopes in (["batch:read"], ["batch:write"], ["batch:read", "batch:write"], []):
        may = " ".join(scopes).replace("batch:", "")
        key = keys.create(outsider.tenant, scopes=tuple(scopes))[1]
        found[f"foreign, {may or 'no'} scope"] = {"key": key, "refused": None, "may": may}
    suspended = person("suspended", suspended=True, requests_per_minute=10**6).key
    return found | {"suspended": {"key": suspended, "refused": 403, "may": ""}}


@pytest.mark.parametrize("examples", [1, pytest.param(150, marks=pytest.mark.soak)])
def test_nobody_else_hears_of_what_the_owner_has(
    owner: Person, outsider: Person, web_server: str, witness: Witness, receiver: Receiver, work: Callable[..., None],
    examples: int,
) -> None:  # fmt: skip
    type(owner.tenant).objects.update(plan="reserved", requests_per_minute=1_000_000)
    known = Known(owner, receiver, work)
    ids = [*known.endpoints, *known.batches, *known.files, *known.invoices, *known.deliveries, owner.tenant.public_id]
    roles = roles_of(owner, outsider)
    asked = {"roles": roles, "secrets": ids, "key": "", "examples": examples, "here": HERE}
    seen = asked_by_schemathesis({"address": f"{web_server}{ADDRESS}", **asked, **known.drawn()})
    print(f"\nschemathesis by {len(roles)} roles: {seen['cases']} cases, answered {seen['statuses']}")
    assert not seen["faults"], "\n\n".join(seen["faults"])
    assert {"401", "403", "404"} <= set(seen["statuses"])


def asked_by_schemathesis(asked: dict[str, Any]) -> Any:
    """What came of it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.schemas"], input=json.dumps(asked), cwd=settings.BASE_DIR, capture_output=True,
        text=True, env={**os.environ, "NO_PROXY": "127.0.0.1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return json.loads(done.stdout)


@pytest.mark.sqlite_only  # what is sent and what is answered know no database
@pytest.mark.parametrize("examples", [1, pytest.param(150, marks=pytest.mark.soak)])
def test_the_server_answers_as_described(
    owner: Person, web_server: str, witness: Witness, receiver: Receiver, work: Callable[..., None], examples: int,
    described: Any,
) -> None:  # fmt: skip
    type(owner.tenant).objects.update(plan="reserved", requests_per_minute=1_000_000)
    known = Known(owner, receiver, work).drawn()
    asked = {"address": f"{web_server}{ADDRESS}", "key": owner.key, "examples": examples, "here": HERE, **known}
    seen = asked_by_schemathesis(asked)
    print(f"\nschemathesis: {seen['cases']} cases {seen['phases']}, answered {seen['statuses']}")
    assert not seen["faults"], "\n\n".join(seen["faults"])
    assert seen["cases"] > 20 * len(described["paths"])
    assert {"200", "206", "400", "404", "409", "415"} <= set(seen["statuses"]), "what there is was reached"
