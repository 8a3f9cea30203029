"""What the console shows where Django's admin would show its own: groups, words, short times, questions."""

import json
import re
import subprocess
import sys
from html import unescape
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib import admin
from django.test import Client, RequestFactory
from django.utils.html import strip_tags

from batches.models import Batch, Slice
from provocative.site import GROUPS
from tenants import keys
from tenants.models import ApiKey, Tenant, User
from tenants.templatetags.console import cased, cased_html, pill, pilled
from tests import rows, staff
from tests.conftest import Person
from tests.test_web import make_batches

pytestmark = pytest.mark.sqlite_only


@pytest.fixture
def root(owner: Person) -> Client:
    return staff.signed_in(User.objects.create_superuser("grace@example.com"))


LOADED = """
import django, json, sys
django.setup()
before = [name for name in sys.modules if ".console." in name or name in ("billing.admin", "batches.console")]
from django.contrib import admin
from django.core.checks import run_checks
run_checks(tags=["admin"])
print(json.dumps([before, [model.__name__ for model in admin.site._registry]]))
"""


def test_who_serves_no_pages_loads_none_and_djangos_checks_see_all() -> None:
    environ = {"DJANGO_SETTINGS_MODULE": "provocative.settings", "PROVOCATIVE_HOME": str(configured.HOME)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], env=environ, cwd=configured.BASE_DIR, capture_output=True, text=True
    )
    before, checked = json.loads(done.stdout)
    assert before == []
    assert sorted(checked) == sorted(model.__name__ for model in admin.site._registry)


def test_every_list_stands_in_one_group(root: Client) -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.get()
    groups = admin.site.get_app_list(request)
    assert [group["name"] for group in groups] == list(GROUPS)
    listed = [model["object_name"] for group in groups for model in group["models"]]
    assert sorted(listed) == sorted(model.__name__ for model in admin.site._registry)
    assert listed[:3] == ["Batch", "Result", "Slice"]


def test_who_may_see_little_is_shown_little(owner: Person) -> None:
    user = User.objects.create_user("new@example.com", is_staff=True)
    assert "ask a superuser" in staff.signed_in(user).get("/admin/").content.decode()


def test_lists_of_djangos_apps_are_none(root: Client) -> None:
    assert root.get("/admin/tenants/")["Location"] == "/admin/"
    assert root.get("/admin/password_change/")["Location"] == "/account/password/change/"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("api key", "API key"),
        ("public id", "Public ID"),
        ("sla met", "SLA met"),
        ("cost, USD", "Cost, USD"),
        ("latency ms", "Latency ms"),
        ("identity", "Identity"),
        ("", ""),
    ],
)
def test_names_are_cased(text: str, shown: str) -> None:
    assert cased(text) == shown


def test_casing_and_states_let_no_html_in() -> None:
    assert (
        cased_html('<label for="id_api">Api key:</label>')
        == "&lt;label for=&quot;id_api&quot;&gt;API key:&lt;/label&gt;"
    )
    assert pill("<b>failed</b>") == "&lt;b&gt;failed&lt;/b&gt;"
    assert pilled("<td class='x'>") == "&lt;td class=&#x27;x&#x27;&gt;"


def test_states_are_words_with_a_look(root: Client, owner: Person) -> None:
    rows.hung(owner)
    make_batches(owner.tenant, status="failed")
    html = root.get(rows.url(Batch, "changelist")).content.decode()
    assert '<span class="pill busy">In progress</span>' in html and '<span class="pill bad">Failed</span>' in html
    assert 'class="pill' in root.get(rows.url(Slice, "changelist")).content.decode()


def test_times_are_short_and_the_host_is_named(root: Client, owner: Person) -> None:
    html = root.get(rows.url(ApiKey, "changelist"), headers={"Host": "localhost"}).content.decode()
    assert re.search(r">\d{4}-\d\d-\d\d \d\d:\d\d:\d\d<", html)
    assert '<span class="host"' in html and ">localhost</span>" in html
    assert "API keys | Provocative Batch, localhost" in html


def asked(client: Client, model: Any, action: str) -> str:
    """The page that asks before the action is done to every row."""
    pks = [str(pk) for pk in model.objects.values_list("pk", flat=True)]
    answer = client.post(rows.url(model, "changelist"), {"action": action, "_selected_action": pks})
    return answer.content.decode()


def test_a_question_names_what_is_done_and_lists_all_of_it(root: Client, owner: Person) -> None:
    for number in range(12):
        keys.create(owner.tenant, f"key {number}")
    html = asked(root, ApiKey, "revoke")
    words = unescape(strip_tags(html))
    assert 'class="danger" value="Revoke 13 API keys"' in html and "and 3 more" in words
    assert all(key.prefix in words for key in ApiKey.objects.all())
    assert html.index("No, go back") < html.index('class="danger"') and "<textarea" in html
    assert 'class="danger"' not in asked(root, Tenant, "resume")
