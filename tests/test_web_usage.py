"""The page of usage: its figures are those of GET /v1/usage, to the last digit."""

import csv
import io
import json
import re
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from batches import metering
from batches.models import Usage
from batches.web import charting, usage
from batches.web.charting import Part
from tenants import keys, transfers
from tenants.models import ApiKey, Tenant
from tests.conftest import Person
from tests.test_web import NAUGHTY, member, shown

pytestmark = pytest.mark.sqlite_only  # the sums themselves are tested in tests/test_usage.py
FIRST, LAST = date(2026, 10, 30), date(2026, 11, 2)
SPAN = f"from={FIRST}&to={LAST}"
FORMULA = '=HYPERLINK("http://a.example")'


def used(tenant: Tenant, key: ApiKey | None, model: str, day: date, **taken: int) -> None:
    sums = {"completed": 3, "failed": 1, "input_tokens": 1_000, "cached_tokens": 250, "output_tokens": 10, "cost": 7}
    Usage.objects.create(tenant=tenant, api_key=key, model=model, day=day, **(sums | taken))


@pytest.fixture
def page(owner: Person, outsider: Person) -> str:
    """The address of the owner's usage: two models on three days, by two keys and by none."""
    first, second = owner.tenant.keys.get(), keys.create(owner.tenant, name=FORMULA)[0]
    used(owner.tenant, first, "org/a", FIRST, cost=10**18 + 1)
    used(owner.tenant, second, "org/a", FIRST, cost=1, failed=0)
    used(owner.tenant, second, NAUGHTY, date(2026, 10, 31), completed=12_345)
    used(owner.tenant, None, "org/a", LAST, cost=1_500_000_000_000)
    used(owner.tenant, None, "org/a", LAST + timedelta(days=1), cost=5)
    used(outsider.tenant, outsider.tenant.keys.get(), "secret-model", FIRST, cost=3 * 10**12)
    return f"/t/{owner.tenant.public_id}/usage"


def cells(html: str) -> list[list[str]]:
    """The rows of the table, as text."""
    body = html.partition('id="usage"')[2].partition("<tbody")[2].partition("</tbody>")[0]
    rows = (re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in body.split("<tr ")[1:])
    return [[re.sub("<[^>]*>", "", cell).strip() for cell in row] for row in rows]


def figures(html: str) -> dict[str, Decimal]:
    found = re.findall(r'data-figure="([\w.]+)">([^<]*)<', html)
    return {name: Decimal(text.replace(",", "")) for name, text in found}


def measured(taken: dict[str, Any]) -> list[Decimal]:
    """What the API says of a group, in the order of the table."""
    counts = (*taken["requests"].values(), *(taken[f"{name}_tokens"] for name in ("input", "cached", "output")))
    return [*map(Decimal, counts), Decimal(taken["cost"]["usd"])]


def numbers(row: list[str]) -> list[Decimal]:
    return [Decimal(cell.replace(",", "")) for cell in row[-6:]]


def test_every_figure_is_the_apis(owner: Person, page: str) -> None:
    client = member(owner.tenant)
    for by in ("model", "key"):
        said = owner.get(f"/v1/usage?{SPAN}&group_by={by}").json()
        html = shown(client, f"{page}?{SPAN}&by={by}")
        assert [numbers(row) for row in cells(html)] == [measured(group) for group in said["data"]]
        assert list(figures(html).values()) == [measured(said["totals"])[place] for place in (5, 0, 1, 2, 3, 4)]
    days = {group["day"]: measured(group) for group in owner.get(f"/v1/usage?{SPAN}").json()["data"]}
    rows = cells(shown(client, f"{page}?{SPAN}"))
    assert [row[0] for row in rows] == ["2026-11-02", "2026-10-31", "2026-10-30"]
    assert {row[0]: numbers(row) for row in rows} == days
    assert "1,000,000.000000000002" in rows[-1][-1] and "secret" not in str(rows)


def test_the_chart_has_the_same_figures(owner: Person, page: str) -> None:
    html = shown(member(owner.tenant), f"{page}?{SPAN}")
    data = json.loads(re.findall(r'<script id="chart-data" type="application/json">(.*?)</script>', html)[0])
    assert data["labels"] == ["2026-10-30", "2026-10-31", "2026-11-01", "2026-11-02"] and data["unit"] == "day"
    assert data["models"] == ["org/a", NAUGHTY]
    assert data["figures"]["cost"] == [["1000000.000000000002", "0", "0", "1.5"], ["0", "0.000000000007", "0", "0"]]
    assert data["figures"]["completed"] == [["6", "0", "0", "3"], ["0", "12345", "0", "0"]]


def test_a_long_time_is_drawn_by_month_and_many_models_as_one() -> None:
    taken = dict.fromkeys(metering.MEASURES, 1)
    parts = [Part(date(2026, 1, 31), f"m{number}", taken | {"cost": number}) for number in range(9)]
    drawn = charting.chart([*parts, Part(date(2026, 3, 1), "m8", taken)], date(1, 1, 1), date(9999, 12, 31))
    assert drawn["labels"] == ["2026-01", "2026-02", "2026-03"] and drawn["unit"] == "month"
    assert drawn["models"] == ["m8", "m7", "m6", "m5", "m4", "m3", "m2", charting.OTHERS]
    assert [row[0] for row in drawn["figures"]["completed"]] == ["1"] * 7 + ["2"]
    assert charting.chart([], date(1, 1, 1), date(9999, 12, 31))["labels"] == []
    assert len(charting.chart(parts[:8], date(2026, 1, 1), date(2026, 4, 10))["labels"]) == charting.MOST_DAYS


def test_all_of_it_as_csv(owner: Person, page: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(usage, "SPOOL", 10)
    monkeypatch.setattr(usage, "PIECE", 7)
    places = transfers.Transfer._places._value
    answer: Any = member(owner.tenant).get(f"{page}.csv?{SPAN}")
    text = b"".join(answer.streaming_content).decode()
    assert answer["Content-Disposition"] == 'attachment; filename="usage_2026-10-30_2026-11-02.csv"'
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == list(usage.COLUMNS) and len(rows) == 4
    assert {row["key_name"] for row in rows} == {"default", f"'{FORMULA}", ""}
    said = owner.get(f"/v1/usage?{SPAN}").json()["totals"]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(said["cost"]["usd"])
    assert sum(int(row["completed"]) for row in rows) == said["requests"]["completed"]
    assert next(row for row in rows if row["completed"] == "12345")["model"] == NAUGHTY
    assert transfers.Transfer._places._value == places


def test_this_month_is_shown_and_spans_are_offered(owner: Person, page: str) -> None:
    today = metering.today()
    html = shown(member(owner.tenant), page)
    assert f'name="from" value="{today.replace(day=1)}"' in html and f'name="to" value="{today}"' in html
    assert html.count('aria-current="true"') >= 1
    for name, query, here in usage._presets(today, None):
        assert f">{name}</a>" in html and not here
        assert member_again(owner).get(f"{page}?{query}").status_code == 200


def member_again(person: Person) -> Client:
    client = Client()
    client.force_login(person.tenant.memberships.get().user)
    return client


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from=2026-13-01", "from must be a day"),
        ("from=2026-11-02&to=2026-11-01", "from is a day after to."),
        ("to=%00", "to must be a day"),
        ("from=2026-1-1", "from must be a day"),
        ("to=" + "9" * 5_000, "to must be a day"),
        ("from=%ED%A0%80", "from must be a day"),
    ],
)
def test_what_is_no_day_is_said_beside_it(owner: Person, page: str, query: str, message: str) -> None:
    client = member(owner.tenant)
    answer = client.get(f"{page}?{query}")
    html = answer.content.decode()
    assert answer.status_code == 400 and message in html and 'aria-invalid="true"' in html and "Download" not in html
    assert client.get(f"{page}.csv?{query}").status_code == 400
    assert owner.get(f"/v1/usage?{query}").status_code == 400


def test_nothing_used_teaches(owner: Person) -> None:
    html = shown(member(owner.tenant), f"/t/{owner.tenant.public_id}/usage?from=0001-01-01&to=9999-12-31&by=nonsense")
    assert "Nothing was used" in html and "GET /v1/usage" in html and 'id="chart"' not in html


def test_many_rows_cost_no_more_queries(owner: Person, page: str) -> None:
    key = owner.tenant.keys.all()[0]
    Usage.objects.bulk_create(
        Usage(
            tenant=owner.tenant, api_key=key, model=f"m{number % 40}", day=FIRST - timedelta(days=number % 90), cost=1
        )
        for number in range(1_000)
    )
    client = member(owner.tenant)
    client.get(page)
    for by in usage.BY:
        with CaptureQueriesContext(connection) as asked:
            html = shown(client, f"{page}?from=2026-01-01&to=2026-12-31&by={by}")
        assert len(asked) <= 6 + (connection.vendor == "postgresql"), asked.captured_queries  # its clock
        assert len(cells(html)) <= usage.MOST_ROWS
    assert "the CSV has all" in shown(client, f"{page}?from=2026-01-01&to=2026-12-31")


@pytest.mark.sqlite_only
def test_what_the_files_take_is_told(owner: Person, page: str) -> None:
    Tenant.objects.update(storage_limit=5 * 2**30, retention_days=7)
    html = shown(member(owner.tenant), page)
    assert "Files: 0\xa0bytes of 5.0\xa0GB. They are kept for 7 days." in html
