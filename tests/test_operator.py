"""The operator's commands: one line of JSON an object, errors with a cure, and secrets shown once."""

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connection
from django.utils import timezone

from batches.models import Upstream
from billing.models import Price
from provocative import __version__
from tenants import keys
from tenants.models import Membership, Tenant, User
from tests.service import ROOT
from tests.witness import Witness

pytestmark = [pytest.mark.django_db, pytest.mark.sqlite_only]  # what is shown is the same on any database


@pytest.fixture
def manage(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command; the objects it printed, one a line."""

    def run(*arguments: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        call_command(*arguments)
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def refusal(*arguments: str) -> str:
    with pytest.raises(CommandError) as refused:
        call_command(*arguments)
    return str(refused.value)


def test_the_version_is_the_products() -> None:
    asked = [sys.executable, "manage.py"]
    printed = [subprocess.check_output([*asked, word], cwd=ROOT, text=True) for word in ("version", "--version")]
    assert printed == [f"{__version__}\n"] * 2
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PROVOCATIVE_RUNNERS", "many", "PROVOCATIVE_RUNNERS='many' is not a whole number."),
        ("DATABASE_URL", "mysql://ann:word@host/name", "DATABASE_URL must be postgres://"),
        ("DATABASE_URL", "postgres://ann:wo/rd@host/name", "percent-encoded"),
    ],
)
def test_a_wrong_variable_is_told_in_one_sentence_that_quotes_no_password(variable: str, value: str, said: str) -> None:
    command = [sys.executable, "manage.py", "tenant", "list"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, variable: value}, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr and "word" not in done.stderr.replace("PASSWORD", "") and "wo/rd" not in done.stderr


# --- tenants, keys, people -------------------------------------------------------------------------------------------


def test_a_tenant_is_made_with_a_key_that_works(manage: Any) -> None:
    [made] = manage("tenant", "create", "acme")
    assert list(made)[:2] == ["tenant", "api_key"]
    assert made["tenant"] == "acme"
    found = keys.find(made["api_key"])
    assert found
    assert (found.tenant.name, found.tenant.plan) == ("acme", "shared")


def test_a_tenant_may_have_a_plan_and_a_limit_of_its_own(manage: Any) -> None:
    [made] = manage("tenant", "create", "big", "--plan", "reserved", "--batch-limit", "3")
    assert (made["plan"], made["batch_limit"]) == ("reserved", 3)
    assert Tenant.objects.get(name="big").active_batch_limit == 3


def test_a_tenant_is_changed_field_by_field(manage: Any) -> None:
    manage("tenant", "create", "acme", "--batch-limit", "3")
    [changed] = manage("tenant", "set", "acme", "--weight", "4", "--reserved-slots", "8", "--suspend")
    assert changed == {
        "tenant": "acme",
        "plan": "shared",
        "batch_limit": 3,
        "enqueued_token_limit": None,
        "requests_per_minute": 1200,
        "retention_days": 30,
        "storage_limit": 107_374_182_400,
        "weight": 4,
        "reserved_slots": 8,
        "suspended": True,
    }
    [changed] = manage("tenant", "set", "acme", "--resume", "--batch-limit", "none", "--plan", "dedicated")
    assert (changed["suspended"], changed["batch_limit"], changed["weight"]) == (False, None, 4)
    assert manage("tenant", "list") == [changed]


def test_a_tenants_limits_are_set_and_taken_away(manage: Any) -> None:
    manage("tenant", "create", "acme")
    limits = ("--enqueued-token-limit", "--requests-per-minute")
    [changed] = manage("tenant", "set", "acme", "--retention-days", "3650", "--storage-limit", str(2**62))
    assert (changed["retention_days"], changed["storage_limit"]) == (3650, 2**62)
    manage("tenant", "set", "acme", "--retention-days", "none", "--storage-limit", "0")
    [changed] = manage("tenant", "set", "acme", limits[0], str(2**62), limits[1], "60")
    assert (changed["retention_days"], changed["storage_limit"]) == (30, 0)
    assert (changed["enqueued_token_limit"], changed["requests_per_minute"]) == (2**62, 60)
    assert manage("tenant", "set", "acme", "--weight", "1") == [changed]
    [changed] = manage("tenant", "set", "acme", limits[0], "none", limits[1], "none")
    assert (changed["enqueued_token_limit"], changed["requests_per_minute"]) == (None, 1200)


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("create", "acme"), "key create"),
        (("create", " "), "printable characters"),
        (("create", "a\nb"), "printable characters"),
        (("create", "x" * 201), "1 to 200"),
        (("create", "new", "--batch-limit", "-1"), "whole number"),
        (("create", "new", "--plan", "gold"), "invalid choice"),
        (("set", "nobody", "--weight", "2"), "tenant list"),
        (("set", "acme", "--weight", "0"), "from 1 up"),
        (("set", "acme", "--requests-per-minute", "0"), "from 1 up"),
        (("set", "acme", "--enqueued-token-limit", str(2**63)), "from 0 to 9223372036854775807"),
        (("set", "acme", "--weight", "99999999999"), "whole number"),
        (("set", "acme", "--suspend", "--resume"), "not allowed with"),
        ((), "required"),
    ],
)
def test_a_bad_word_about_tenants_is_refused_with_a_cure(arguments: tuple[str, ...], cure: str) -> None:
    keys.create(Tenant.objects.create(name="acme"))
    assert cure in refusal("tenant", *arguments)
    assert Tenant.objects.count() == 1


def test_a_key_is_shown_once_listed_without_it_and_revoked_by_its_prefix(manage: Any) -> None:
    Tenant.objects.create(name="acme")
    [made] = manage("key", "create", "acme", "--name", "ci", "--scopes", "batch:read", "--expires-in-days", "3")
    assert (made["name"], made["scopes"]) == ("ci", ["batch:read"])
    left = datetime.fromisoformat(made["expires"]) - timezone.now()
    assert timedelta(days=2.9) < left < timedelta(days=3.1)
    [listed] = manage("key", "list", "acme")
    assert made["api_key"] not in json.dumps(listed)
    assert (listed["prefix"], listed["revoked"]) == (made["prefix"], None)
    assert manage("key", "revoke", made["prefix"]) == [{"prefix": made["prefix"], "revoked": True}]
    assert keys.find(made["api_key"]) is None
    assert manage("key", "list", "acme")[0]["revoked"]


def test_a_whole_key_may_be_given_to_revoke_and_is_not_echoed(manage: Any) -> None:
    _, key = keys.create(Tenant.objects.create(name="acme"))
    [revoked] = manage("key", "revoke", key)
    assert key not in json.dumps(revoked)
    assert keys.find(key) is None
    assert "key list" in refusal("key", "revoke", key)


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("create", "nobody"), "tenant create"),
        (("list", "nobody"), "tenant create"),
        (("create", "acme", "--scopes", "batch:fly"), "invalid choice"),
        (("create", "acme", "--expires-in-days", "0"), "from 1 up"),
        (("create", "acme", "--expires-in-days", "99999999"), "36500"),
        (("create", "acme", "--name", ""), "1 to 100"),
        (("revoke", "pk-prov-zzzz"), "key list"),
    ],
)
def test_a_bad_word_about_keys_is_refused_with_a_cure(arguments: tuple[str, ...], cure: str) -> None:
    Tenant.objects.create(name="acme")
    assert cure in refusal("key", *arguments)


def test_a_person_is_made_with_a_password_and_a_role(manage: Any) -> None:
    Tenant.objects.create(name="acme")
    [made] = manage("user", "create", "Ann@Example.com", "--tenant", "acme", "--role", "owner")
    assert list(made)[:2] == ["email", "password"]
    user = User.objects.get(email="ann@example.com")
    assert user.check_password(made["password"])
    assert (user.is_staff, user.is_superuser) == (False, False)
    assert Membership.objects.get(user=user).role == "owner"


def test_staff_may_do_everything(manage: Any) -> None:
    manage("user", "create", "op@example.com", "--staff")
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser) == (True, True)


def test_staff_of_groups_may_do_what_these_may(manage: Any) -> None:
    [made] = manage("user", "create", "op@example.com", "--staff", "--groups", "billing", "support")
    user = User.objects.get()
    assert (user.is_staff, user.is_superuser) == (True, False)
    assert made["groups"] == sorted(user.groups.values_list("name", flat=True)) == ["billing", "support"]
    assert user.has_perm("tenants.change_apikey") and not user.has_perm("tenants.change_tenant")


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("nope",), "no e-mail address"),
        (("OLD@example.com",), "another address"),
        (("new@example.com", "--tenant", "nobody"), "tenant create"),
        (("new@example.com", "--role", "king"), "invalid choice"),
        (("new@example.com", "--groups", "support"), "--staff as well"),
        (("new@example.com", "--staff", "--groups", "kings"), "billing, operations, support"),
    ],
)
def test_a_bad_word_about_people_is_refused_and_makes_nobody(arguments: tuple[str, ...], cure: str) -> None:
    User.objects.create_user("old@example.com")
    assert cure in refusal("user", "create", *arguments)
    assert User.objects.count() == 1


@pytest.mark.parametrize(
    ("said", "cure"),
    [("no such table: tenants_mark", "manage.py migrate"), ("connection refused", "DATABASE_URL")],
)
@pytest.mark.parametrize("command", ["tenant list", "reconcile", "backup {}"])
def test_a_database_that_fails_a_command_is_told_with_a_cure(
    command: str, said: str, cure: str, tmp_path: Path
) -> None:
    def failing(*args: Any) -> None:
        raise OperationalError(said)

    with connection.execute_wrapper(failing):
        told = refusal(*command.format(tmp_path).split())
    assert cure in told and said in told


def test_migrate_says_that_the_database_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(connection, "ensure_connection", failing)
    assert refusal("migrate") == "The database does not answer: check DATABASE_URL. connection refused"


def test_a_decision_about_no_batch_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("hold", "begin", "--reason", "a trial")
    call_command("hold", "hand-back", "--all", "--reason", "a trial")
    assert "There is no batch left for that: see `hold report`." in capsys.readouterr().err


# --- prices and upstreams --------------------------------------------------------------------------------------------


def test_a_price_is_set_from_now_on_and_the_latest_is_listed(manage: Any) -> None:
    manage("price", "set", "m", "--input", "1", "--output", "2", "--discount", "60")
    [price] = manage("price", "set", "m", "--input", "0.15", "--output", "0.60", "--cached-input", "0.075")
    assert {**price, "since": None} == {
        "model": "m",
        "input": "0.15",
        "cached_input": "0.075",
        "output": "0.6",
        "discount": "0.6",  # as before
        "since": None,
    }
    assert manage("price", "list") == [price]
    assert Price.objects.count() == 2
    assert Price.objects.latest("pk").input == Decimal("0.15") * 10**6


@pytest.mark.parametrize(
    ("usd", "cure"),
    [
        ("x", "such as 0.15"),
        ("-1", "is not a price"),
        ("NaN", "is not a price"),
        ("0.0000001", "6 decimals"),
        ("1e99", "is not a price"),
    ],
)
def test_a_senseless_price_is_refused(usd: str, cure: str) -> None:
    assert cure in refusal("price", "set", "m", f"--input={usd}", "--output", "1")
    assert not Price.objects.exists()


def test_an_upstream_is_added_whatever_it_answers_and_its_key_is_never_shown(
    manage: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    call_command("upstream", "add", "m", "http://127.0.0.1:1/v1", "--api-key", "s3cret", "--kind", "vllm")
    shown = capsys.readouterr()
    assert "Warning" in shown.err
    added = json.loads(shown.out)
    assert (added["model"], added["kind"], added["max_in_flight"], added["api_key"]) == ("m", "vllm", 64, True)
    assert "s3cret" not in shown.out + shown.err + json.dumps(manage("upstream", "list"))
    assert Upstream.objects.get().api_key.open() == "s3cret"


def test_an_upstream_that_lists_the_model_is_added_without_a_word(
    witness: Witness, capsys: pytest.CaptureFixture[str]
) -> None:
    name = Upstream.objects.get().model
    capsys.readouterr()
    call_command("upstream", "set", str(Upstream.objects.get().pk), "--max-in-flight", "5")
    call_command("upstream", "check")
    shown = capsys.readouterr()
    changed, checked = (json.loads(line) for line in shown.out.splitlines())
    assert changed["max_in_flight"] == 5
    assert (checked["model"], checked["base_url"]) == (name, witness.base_url)
    assert shown.err == ""
    assert checked["ok"], checked["problem"]


def test_check_fails_when_an_enabled_upstream_does_not_answer(manage: Any) -> None:
    [row] = manage("upstream", "add", "m", "http://127.0.0.1:1/v1")
    with pytest.raises(SystemExit) as left:
        call_command("upstream", "check")
    assert left.value.code == 1
    [disabled] = manage("upstream", "disable", str(row["id"]))
    assert not disabled["enabled"]
    [checked] = manage("upstream", "check")
    assert (checked["ok"], checked["enabled"]) == (False, False)
    assert "ConnectError" in checked["problem"]
    [severed] = manage("upstream", "disable", str(row["id"]), "--now")
    assert (severed["enabled"], severed["severed"]) == (False, True)
    assert manage("upstream", "disable", str(row["id"])) == [severed]
    [enabled] = manage("upstream", "enable", str(row["id"]))
    assert (enabled["enabled"], enabled["severed"]) == (True, False)


def test_an_upstream_may_be_a_tenant_s_own(manage: Any) -> None:
    Tenant.objects.create(name="acme")
    manage("upstream", "add", "m", "http://127.0.0.1:1/v1")
    [own] = manage("upstream", "add", "m", "http://127.0.0.1:1/v1", "--tenant", "acme", "--upstream-model", "org/m")
    assert (own["tenant"], own["upstream_model"]) == ("acme", "org/m")


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        (("add", "m", "http://127.0.0.1:1/v1"), "known already"),
        (("add", "m", "http://127.0.0.1:1"), "ending in /v1"),
        (("add", "m", "ftp://127.0.0.1/v1"), "ending in /v1"),
        (("add", "m", "http:///v1"), "ending in /v1"),
        (("add", "m", "http://[::1/v1"), "ending in /v1"),
        (("add", "m", "http://host:0/v1"), "ending in /v1"),
        (("add", "m", "http://host:x/v1"), "ending in /v1"),
        (("add", "m", "http://user:pass@host/v1"), "ending in /v1"),
        (("add", "m", "http://host?a=/v1"), "ending in /v1"),
        (("add", " ", "http://host/v1"), "a model has a name"),
        (("add", "m" * 201, "http://host/v1"), "200 characters"),
        (("add", "n", "http://host/v1", "--tenant", "nobody"), "tenant create"),
        (("add", "n", "http://host/v1", "--max-in-flight", "0"), "from 1 up"),
        (("add", "n", "http://host/v1", "--kind", "fast"), "invalid choice"),
        (("enable", "999"), "upstream list"),
        (("set", "999", "--max-in-flight", "1"), "upstream list"),
    ],
)
def test_a_bad_word_about_upstreams_is_refused_with_a_cure(arguments: tuple[str, ...], cure: str) -> None:
    Upstream.objects.create(model="m", base_url="http://127.0.0.1:1/v1")
    assert cure in refusal("upstream", *arguments)
    assert Upstream.objects.count() == 1
