"""The console's lists: as many queries for many rows as for few, through indexes, and no address is a 500."""

# ruff: noqa: F811 - fixtures of another file are arguments here

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from batches.models import Batch, File, Result, Usage, WebhookDelivery
from billing.models import LedgerEntry
from tenants.console import searching
from tenants.models import ApiKey, AuditEvent, Invitation, Membership, Tenant, User
from tests.conftest import Person
from tests.rows import url
from tests.test_admin import MOST_QUERIES, batch, root  # noqa: F401  # two of them are fixtures
from tests.test_web import make_batches

pytestmark = pytest.mark.postgres_first

MANY = 60  # rows: more than a page
JUNK = (
    "p=999999999999", f"p={'9' * 5_000}", "p=-1", "p=x", "o=x", "o=-99.7.x", f"o={'9' * 400}", "q=%00", "q=%ED%A0%80",
    f"q={'x' * 10_000}", f"q={'9' * 400}", "q=%F0%9F%92%A9", "status__exact=%00", "created_at__gte=junk",
    "created_at__gte=99999-01-01", "created_at__lt=%00", "id__in=1,x", f"id__exact={'9' * 30}", "id__exact=%00",
    "id__exact=-99999999999999999999", "tenant__id__exact=x", f"tenant__id__exact={'9' * 19}", "tenant__id__exact=%00",
    "tenant__isempty=7", "all=", "_facets=True", "e=1", "_popup=1", "_to_field=%00", "nothing__at__all=1", "__=1",
    "state__exact=x", "kind__exact=%00", "action=%00", "outcome=%00", "target__exact=%00", "name__regex=(a%2B)%2B",
    "is_active__exact=maybe", "month__gte=x", "suspended__exact=%00", "q=a&q=b", "status__exact=a&status__exact=b",
)  # fmt: skip


def copies(row: Any, count: int = MANY, **changed: Any) -> None:
    """So many rows more, like this one."""
    unique = [field for field in row._meta.concrete_fields if field.unique and not field.primary_key]
    made = []
    for number in range(count):
        fields = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
        fields |= {field.attname: None if field.null else f"{number:024d}" for field in unique}
        fields |= {name: value(number) for name, value in changed.items()}
        del fields[row._meta.pk.attname]
        made.append(type(row)(**fields))
    type(row)._default_manager.bulk_create(made)


def one_more_of_each(owner: Person) -> None:
    """More than a page of those that have most rows."""
    copies(Tenant.objects.get(pk=owner.tenant.pk), name=lambda n: f"tenant {n}", public_id=lambda n: f"ten_{n}")
    tenants = list(Tenant.objects.order_by("pk").values_list("pk", flat=True))[1:]
    copies(User.objects.get(email="ada@example.com"), email=lambda n: f"u{n}@example.com")
    users = list(User.objects.order_by("-pk").values_list("pk", flat=True))
    place = Membership.objects.all()[0]
    copies(place, user_id=lambda n: users[n])
    copies(Invitation.objects.all()[0], tenant_id=lambda n: tenants[n])
    copies(AuditEvent.objects.all()[0], tenant_id=lambda n: tenants[n])
    copies(ApiKey.objects.all()[0], tenant_id=lambda n: tenants[n])
    copies(File.objects.all()[0], tenant_id=lambda n: tenants[n])
    copies(Batch.objects.all()[0], tenant_id=lambda n: tenants[n])
    batches = list(Batch.objects.order_by("-pk").values_list("pk", flat=True))
    copies(Result.objects.all()[0], batch_id=lambda n: batches[n], tenant_id=lambda n: tenants[n])
    copies(Usage.objects.all()[0], batch_id=lambda n: batches[n], tenant_id=lambda n: tenants[n])
    copies(LedgerEntry.objects.all()[0], reference=lambda n: f"batch_{n}", tenant_id=lambda n: tenants[n])
    copies(WebhookDelivery.objects.all()[0], event_id=lambda n: f"evt_x{n}", tenant_id=lambda n: tenants[n])


def lists() -> Iterator[tuple[str, str]]:
    """Each list, and a search in it; `python -m benchmarks console` visits their filters too."""
    for model, options in admin.site._registry.items():
        yield f"{model.__name__} list", url(model, "changelist")
        if options.search_fields:
            yield f"{model.__name__} search", f"{url(model, 'changelist')}?q=owner"


def counted(client: Client, address: str) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(address).status_code == 200, address
    return [query["sql"] for query in captured]


@pytest.mark.sqlite_only
def test_many_rows_cost_no_more_queries_than_few(root: Client, batch: Batch, owner: Person) -> None:
    few = {name: (address, len(counted(root, address))) for name, address in lists()}
    page = url(Tenant, "change", owner.tenant.pk)
    few["tenant's page"] = (page, len(counted(root, page)))
    one_more_of_each(owner)
    more = {}
    for name, (address, before) in few.items():
        queries = counted(root, address)
        assert len(queries) <= MOST_QUERIES, name
        if len(queries) > before:
            more[name] = (before, len(queries))
        for query in queries:
            assert "COUNT(*)" not in query or "LIMIT" in query, f"{name} counts all: {query}"
            assert "DISTINCT" not in query or "batches_upstream" in query, f"{name}: {query}"  # a few hundred at most
    assert not more


def test_junk_in_an_address_is_no_500(root: Client, batch: Batch) -> None:
    """The kinds of columns and filters, a list for each; what no filter knows is refused for all in one place."""
    root.raise_request_exception = False
    bad = []
    for model, junk in [(model, junk) for model in (Batch, LedgerEntry) for junk in JUNK] + [
        (model, junk) for model in admin.site._registry for junk in ("q=%00", f"q={'9' * 400}", f"id__exact={'9' * 30}")
    ]:
        status = root.get(f"{url(model, 'changelist')}?{junk}").status_code
        if status not in (200, 302, 400):
            bad.append((model.__name__, junk[:40], status))
    for term in ("%00", "x" * 10_000, "9" * 400, "%ED%A0%80"):
        asked = f"app_label=tenants&model_name=membership&field_name=user&term={term}"
        assert root.get(f"{reverse('admin:autocomplete')}?{asked}").status_code == 200, term[:40]
    assert not bad


@pytest.mark.sqlite_only
def test_only_what_has_an_index_is_filtered_by(root: Client, batch: Batch) -> None:
    def status(model: type[Model], asked: str) -> int:
        return root.get(f"{url(model, 'changelist')}?{asked}").status_code

    allowed: tuple[tuple[type[Model], str], ...] = (
        (Batch, "tenant__id__exact=1"),
        (Batch, f"public_id__exact={batch.public_id}"),
        (Batch, "status__exact=failed"),
        (Result, f"batch__id__exact={batch.pk}"),
        (AuditEvent, "target__exact=x"),
        (LedgerEntry, "created_at__gte=2026-01-01T00:00:00Z"),
    )
    refused: tuple[tuple[type[Model], str], ...] = (
        (Batch, "metadata__contains=x"),
        (Batch, "endpoint__exact=x"),
        (Batch, "tenant__name__icontains=x"),
        (Batch, "id__in=1,2"),
        (Result, "custom_id__exact=x"),
        (File, "filename__icontains=x"),
        (Result, "tenant__id__exact=1"),
    )
    for model, asked in (*allowed, *refused):
        assert status(model, asked) == (200 if (model, asked) in allowed else 400), asked


@pytest.mark.sqlite_only
def test_a_list_is_sorted_only_where_it_is_short(root: Client, batch: Batch) -> None:
    def order(model: type[Model]) -> str:
        shown = counted(root, f"{url(model, 'changelist')}?o=2.3")[-1]
        found = re.search(r"ORDER BY (.*) LIMIT|ORDER BY (.*)$", shown)
        assert found is not None
        return found[1] or found[2]

    assert order(Batch) == '"batches_batch"."id" DESC' and order(Result) == '"batches_result"."id" DESC'
    assert order(Tenant).startswith('"tenants_tenant"."plan"')


@pytest.mark.sqlite_first
def test_a_search_goes_by_the_keys_of_what_it_finds(root: Client, batch: Batch, owner: Person) -> None:
    make_batches(owner.tenant)
    for model in (File, LedgerEntry, ApiKey, Usage, WebhookDelivery):
        rows = [query for query in counted(root, f"{url(model, 'changelist')}?q=wne") if model._meta.db_table in query]
        for query in rows:
            assert "LIKE '%" not in query and "UPPER(" not in query, query  # nothing of these is searched by a part
        assert root.get(f"{url(model, 'changelist')}?q=wne").context["cl"].result_count, model
        assert not root.get(f"{url(model, 'changelist')}?q=outsider+of+all").context["cl"].result_count, model


@pytest.mark.sqlite_only
def test_a_name_with_spaces_is_one_word(root: Client, batch: Batch) -> None:
    for name in ("north wind", "wind of the north"):
        Tenant.objects.create(name=name)
    found = root.get(f"{url(Tenant, 'changelist')}?q=north+wind").context["cl"].result_count
    assert found == 1


@pytest.mark.sqlite_only
def test_a_list_says_that_it_counted_no_further(
    root: Client,
    batch: Batch,
    owner: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(searching, "COUNTED", 2)
    assert "1 batch" in root.get(url(Batch, "changelist")).content.decode()
    make_batches(owner.tenant, 3)
    assert "2 batches or more" in root.get(url(Batch, "changelist")).content.decode()
