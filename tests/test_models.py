"""GET /v1/models: what this tenant can reach, at which prices."""

from typing import Any
from urllib.parse import quote

import pytest

from batches.models import Upstream
from billing import prices
from tests.conftest import Person
from tests.test_api import error

pytestmark = pytest.mark.sqlite_only  # what is shown is the same on any database

ADDRESS = "http://127.0.0.1:9/v1"


@pytest.fixture
def reachable(owner: Person, outsider: Person) -> None:
    for number, (model, tenant) in enumerate(
        [
            ("shared", None),
            ("shared", None),
            ("org/both", None),
            ("org/both", owner.tenant),
            ("theirs", outsider.tenant),
        ]
    ):
        Upstream.objects.create(model=model, base_url=f"{ADDRESS}{number}", tenant=tenant, api_key="sk-secret")
    prices.set_price("org/both", "9", "9", "9")
    prices.set_price("org/both", "0.075", "0.3", "0.000001")


def test_a_tenant_sees_what_it_can_reach(owner: Person, outsider: Person, reachable: None) -> None:
    found = owner.get("/v1/models")
    assert b"sk-secret" not in found.content and ADDRESS.encode() not in found.content
    assert found.json()["object"] == "list"
    models = {model["id"]: model for model in found.json()["data"]}
    assert list(models) == ["org/both", "shared"]
    assert {name: model["owned_by"] for name, model in models.items()} == {"org/both": "owner", "shared": "system"}
    assert [model["id"] for model in outsider.get("/v1/models").json()["data"]] == ["org/both", "shared", "theirs"]


def test_a_model_says_what_it_costs(owner: Person, reachable: None) -> None:
    priced = owner.get("/v1/models/org/both").json()
    created = Upstream.objects.get(model="org/both", tenant=owner.tenant).created_at
    assert priced == {
        "id": "org/both",
        "object": "model",
        "created": int(created.timestamp()),
        "owned_by": "owner",
        "prices": {
            "unit": "usd_per_million_tokens",
            "standard": {"input": "0.075", "cached_input": "0.000001", "output": "0.3"},
            "batch": {"input": "0.0375", "cached_input": "0.0000005", "output": "0.15"},
            "discount": "0.5",
        },
        "endpoints": ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"],
    }
    assert owner.get("/v1/models/shared").json()["prices"] is None


def test_a_foreign_model_answers_as_an_unknown_one(owner: Person, reachable: None) -> None:
    unknown = owner.get("/v1/models/unknown")
    for name in ("theirs", "org", "nobody", "a\x00b", "shared/", "/", "é", "shared "):
        answer = owner.get(f"/v1/models/{quote(name)}")
        assert error(answer, 404) == error(unknown, 404) == "model_not_found"
        assert answer.content == unknown.content, name


def test_no_query_is_taken(owner: Person, reachable: None) -> None:
    for path in ("/v1/models", "/v1/models/shared"):
        assert error(owner.get(f"{path}?limit=1"), 400) == "unsupported_parameter"
        assert error(owner.post(path), 405) == "method_not_allowed"
        assert owner.client.head(path, headers={"Authorization": f"Bearer {owner.key}"}).status_code == 200


def test_a_list_is_few_queries(owner: Person, reachable: None, django_assert_max_num_queries: Any) -> None:
    owner.get("/v1/models")
    with django_assert_max_num_queries(6):
        owner.get("/v1/models")
