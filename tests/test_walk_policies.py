"""A part of the walk in which the code forgets whose rows are whose: PostgreSQL's policies stand alone."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, models
from django.db.models import QuerySet
from django.test import Client

from tenants import scope
from tenants.owned import Owned
from tests.conftest import Person
from tests.test_walk import ROUTES, Actor, Walk, cells, everything, owned, signed_in  # noqa: F401

pytestmark = pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no policies")

OF_TENANTS = {"tenant", "tenant_id"}


@pytest.fixture
def people(outsider: Person) -> Client:
    return signed_in("of-outsider@example.com", outsider.tenant)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch, owned: dict[str, list[str]]) -> Iterator[None]:  # noqa: F811
    """Managers that give all rows, and queries that drop each condition on a tenant."""
    narrow = QuerySet._filter_or_exclude_inplace  # type: ignore[attr-defined]

    def wide(rows: Any, negate: bool, args: Any, kwargs: dict[str, Any]) -> Any:
        return narrow(rows, negate, args, {name: value for name, value in kwargs.items() if name not in OF_TENANTS})

    with monkeypatch.context() as patched:
        patched.setattr(Owned, "get_queryset", models.Manager.get_queryset)
        patched.setattr(QuerySet, "_filter_or_exclude_inplace", wide)
        yield


def walked(owned: dict[str, list[str]], outsider: Person, people: Client, *methods: str) -> Walk:  # noqa: F811
    """Every address with an id, by a foreign key or a session of another tenant."""
    walk = Walk(
        owned,
        {
            "keys": Actor(outsider.client, {"Authorization": f"Bearer {outsider.key}"}, None),
            "people": Actor(people, {}, None),
        },
    )
    for route, known in ROUTES.items():
        for cell in cells(route, known.serves) if known.serves in walk.actors else ():
            if cell.method in (methods or known.takes.split()) and cell.kind:
                walk.foreign(cell)
    return walk


def test_the_policies_alone_keep_tenants_apart(
    outsider: Person,
    people: Client,
    owned: dict[str, list[str]],  # noqa: F811
    forgetful: None,
) -> None:
    before = everything()
    walk = walked(owned, outsider, people)
    walk.report("policies alone")
    assert walk.cells.total() > 300 and set(walk.cells) <= {200, 302, 400, 404, 405, 413, 415}
    assert everything() == before


def test_without_them_it_leaks(
    outsider: Person,
    people: Client,
    owned: dict[str, list[str]],  # noqa: F811
    forgetful: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the test above would show nothing: with policies that are told `everyone`, the same walk finds a lot."""
    monkeypatch.setattr(scope, "setting", lambda: scope.EVERYONE.value)
    walk = walked(owned, outsider, people, "GET")
    assert len({fault for fault in walk.faults if fault.startswith(("leaked", "tells"))}) > 50
