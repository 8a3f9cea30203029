"""The console's upstreams: what a shift sees of them, drains, enables, tests, changes and deletes."""

import json
import re
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from batches import probing, upstreams
from batches.console.upstreams import UpstreamForm
from batches.engine import permits
from batches.models import Permit, Runner, Slice, Upstream
from provocative import embedded
from tenants import clock
from tenants.models import AuditEvent, Tenant
from tests.conftest import Person, person
from tests.hostile import naughty_strings
from tests.rows import url
from tests.staff import confirmed, member_of, signed_in
from tests.test_admin import MOST_QUERIES, staff
from tests.test_web import make_batches
from tests.witness import Witness

pytestmark = pytest.mark.postgres_first

KEY = "sk-of-the-upstream"
LIST = "/admin/batches/upstream/"


@pytest.fixture
def shift(transactional_db: None) -> Client:
    return signed_in(member_of("operations", email="shift@example.com"))


@pytest.fixture
def upstream(transactional_db: None) -> Upstream:
    return Upstream.objects.create(model="m", base_url="http://127.0.0.1:1/v1", api_key=KEY, max_in_flight=8)


def runner(*holds: tuple[Upstream, int], seconds: int = 30) -> Runner:
    """One with these slots, whose lease ends in so many seconds."""
    now = clock.now()
    row = Runner.objects.create(
        token=str(Runner.objects.count()), host="gpu-1", pid=7, started_ticks=1, created_at=now - timedelta(hours=1),
        lease_until=now + timedelta(seconds=seconds),
    )  # fmt: skip
    for upstream, slots in holds:
        Permit.objects.create(upstream=upstream, runner=row, slots=slots, wanted=slots)
    return row


def waiting(tenant: Tenant, model: str = "m", lines: int = 5, **fields: Any) -> None:
    [batch] = make_batches(tenant, status="in_progress")
    Slice.objects.create(
        tenant=tenant, batch=batch, index=0, model=model, offset=0, length=9, lines=lines, tokens=9, entries=b"", **fields
    )  # fmt: skip


def form(**fields: str) -> dict[str, str]:
    return {"model": "m", "base_url": "http://127.0.0.1:1/v1", "kind": "vllm", "max_in_flight": "8"} | fields


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", strip_tags(answer if isinstance(answer, str) else answer.content.decode()))


def asked(client: Client, action: str, *rows: Any) -> str:
    """The page that asks."""
    data = {"action": action, "_selected_action": [row.pk for row in rows]}
    return text(client.post(LIST, data))


def told() -> list[tuple[str, str, Any]]:
    rows = AuditEvent.objects.filter(tenant=None).order_by("pk")
    return list(rows.values_list("actor", "action", "details"))


# --- drain, enable, delete --------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_to_drain_says_what_is_left_and_does_it(shift: Client, upstream: Upstream, owner: Person) -> None:
    other = Upstream.objects.create(model="m", base_url="http://b/v1", max_in_flight=100)
    Upstream.objects.create(model="m", base_url="http://off/v1", enabled=False)
    waiting(owner.tenant)
    runner((upstream, 3))
    page = asked(shift, "drain", upstream)
    assert "100 slots are left, at http://b/v1, for 1 running batch with up to 5 lines left" in page
    assert "Warning" not in page and Upstream.objects.get(pk=upstream.pk).enabled
    both = asked(shift, "drain", upstream, other)
    assert "Warning" in both
    assert "Drain: done to 1 upstream" in confirmed(shift, LIST, "drain", upstream, reason="fans are loud")
    assert not Upstream.objects.get(pk=upstream.pk).enabled and "draining: 3 in flight" in text(shift.get(LIST))
    named = {"model": "m", "base_url": upstream.base_url, "reason": "fans are loud"}
    change = {"before": {"enabled": True}, "after": {"enabled": False}}
    assert told() == [("shift@example.com", "upstream.drained", named | change)]
    assert "It is off already" in asked(shift, "drain", upstream)
    Permit.objects.update(slots=0)
    assert "draining" not in text(shift.get(LIST))
    confirmed(shift, LIST, "enable", upstream)
    assert Upstream.objects.get(pk=upstream.pk).enabled and told()[-1][1] == "upstream.enabled"


def test_the_last_one_is_drained_with_a_warning(
    shift: Client, upstream: Upstream, owner: Person, outsider: Person
) -> None:
    """What an own upstream serves does not wait for the shared one."""
    waiting(owner.tenant)
    waiting(owner.tenant, lines=3, state=Slice.State.DONE)
    waiting(owner.tenant, model="other")
    own = Upstream.objects.create(model="m", base_url="http://b/v1", tenant=outsider.tenant)
    waiting(outsider.tenant, lines=1_000)
    with CaptureQueriesContext(connection) as captured:
        page = asked(shift, "drain", upstream)
    assert len(captured) <= MOST_QUERIES
    assert "Warning: m is left with no upstream that is on. 1 running batch with up to 5 lines" in page
    assert "Warning: m of outsider" in (page := asked(shift, "drain", own)) and "up to 1,000 lines" in page
    assert "up to 5 lines" not in page


@pytest.mark.sqlite_first
def test_one_that_does_harm_is_switched_off_at_once(shift: Client, upstream: Upstream) -> None:
    runner((upstream, 3))
    assert "Warning: m is left" in (page := asked(shift, "sever", upstream)) and "given up" in page
    upstreams.switch(upstream, False, "a@example.com")
    assert "done to 1 upstream" in confirmed(shift, LIST, "sever", upstream, reason="it answers nonsense")
    assert "cut off: 3 in flight" in text(shift.get(LIST))
    (_, action, details) = told()[-1]
    assert (action, details["after"], details["reason"]) == (
        "upstream.severed",
        {"severed": True},
        "it answers nonsense",
    )
    assert "is off already, or gone" in confirmed(shift, LIST, "sever", upstream)
    assert "off already" in confirmed(shift, LIST, "drain", upstream)
    confirmed(shift, LIST, "enable", upstream)
    assert told()[-1][2]["after"] == {"enabled": True, "severed": False}
    upstream.refresh_from_db()
    assert upstream.enabled and not upstream.severed and len(told()) == 3


@pytest.mark.sqlite_only
def test_the_embedded_one_comes_back_with_its_process(transactional_db: None) -> None:
    embedded.register("http://127.0.0.1:1/v1")
    upstreams.switch(Upstream.objects.get(), False, "operator", now=True)
    embedded.register("http://127.0.0.1:2/v1")
    row = Upstream.objects.get()
    assert row.enabled and not row.severed


def test_a_drain_is_done_once_of_two(shift: Client, upstream: Upstream) -> None:
    """The row that another one switched meanwhile is left alone, and noted once."""
    stale = Upstream.objects.get()
    assert upstreams.switch(upstream, False, "a@example.com") and not upstreams.switch(stale, False, "b@example.com")
    assert [actor for actor, *_ in told()] == ["a@example.com"]
    Upstream.objects.all().delete()
    assert not upstreams.switch(stale, True, "a@example.com")


@pytest.mark.sqlite_first
def test_it_is_deleted_when_nothing_is_in_flight(shift: Client, upstream: Upstream) -> None:
    held = runner((upstream, 2))
    assert "It is on: drain it first" in asked(shift, "delete", upstream)
    assert "drain it first" in confirmed(shift, LIST, "delete", upstream)
    Upstream.objects.update(enabled=False)
    assert "2 requests may be in flight still" in confirmed(shift, LIST, "delete", upstream)
    assert Upstream.objects.exists()
    Runner.objects.filter(pk=held.pk).update(lease_until=clock.now())  # it died: nobody sends by its permits
    assert "with no upstream at all" in asked(shift, "delete", upstream)
    assert "Delete: done to 1 upstream" in confirmed(shift, LIST, "delete", upstream, reason="sold")
    assert not Upstream.objects.exists() and not Permit.objects.exists()
    [(_, action, details)] = told()
    assert (action, details["removed"]["api_key"], details["reason"]) == ("upstream.deleted", "(not shown)", "sold")
    assert permits.settle(held, upstream.pk, 4, 0) == permits.NOTHING
    assert shift.post(url(Upstream, "delete", upstream.pk), {"post": "yes"}).status_code in (302, 403)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("group", ["support", "billing"])
def test_who_may_only_look_is_offered_nothing(upstream: Upstream, group: str) -> None:
    client = signed_in(member_of(group))
    page = url(Upstream, "change", upstream.pk)
    for address in (LIST, page):
        html = client.get(address).content.decode()
        assert upstream.base_url in html and KEY not in html
        assert not [verb for verb in ("Drain…", "Enable…", "Test now", "Delete…", "API key:") if verb in html], address
    for action in ("drain", "sever", "enable", "delete", "test_now"):
        confirmed(client, LIST, action, upstream)
    assert client.post(page, form(max_in_flight="1")).status_code == 403
    assert client.get(url(Upstream, "add")).status_code == 403
    upstream.refresh_from_db()
    assert upstream.enabled and upstream.max_in_flight == 8 and told() == []


@pytest.mark.sqlite_only
def test_to_delete_needs_its_own_permission(upstream: Upstream) -> None:
    Upstream.objects.update(enabled=False)
    client = staff("halfway@example.com", "view_upstream", "change_upstream")
    page = client.get(url(Upstream, "change", upstream.pk)).content.decode()
    assert "Enable…" in page and "Delete" not in page
    confirmed(client, LIST, "delete", upstream)
    assert Upstream.objects.exists()


# --- tests ------------------------------------------------------------------------------------------------------------


@contextmanager
def server(answer: Callable[[Any], None]) -> Iterator[str]:
    """A server that reads a request's head, and answers as it is told; its base URL."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            answer(self.wfile)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1"
        listening.shutdown()


def saying(body: bytes, head: str = "HTTP/1.1 200 OK") -> Callable[[Any], None]:
    return lambda out: out.write(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)


@pytest.mark.sqlite_first
def test_a_test_says_what_came_and_how_fast(shift: Client, witness: Witness, upstream: Upstream) -> None:
    good = Upstream.objects.get(model="witness")
    html = text(shift.post(LIST, {"action": "test_now", "_selected_action": [good.pk, upstream.pk]}, follow=True))
    assert re.search(r"witness at \S+: answered in \d+ ms, and lists the model", html)
    assert re.search(
        r"Test of m at \S+: http://127.0.0.1:1/v1 can't be reached \(ConnectError\) \(\d+ ms\)",
        html.replace("&#x27;", "'"),
    )
    by_model = {details["model"]: details for _, action, details in told() if action == "upstream.tested"}
    assert by_model["witness"]["models"] >= 1 and "ConnectError" in by_model["m"]["problem"]
    shown = url(Upstream, "change", good.pk)
    answer = shift.post(LIST, {"action": "test_now", "_selected_action": [good.pk], "back": shown})
    assert (answer.status_code, answer["Location"]) == (302, shown)
    assert AuditEvent.objects.filter(action="upstream.tested").count() == 3


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("body", "head", "problem"),
    [
        (b'{"data": [{"id": "m"}]}', "HTTP/1.1 200 OK", None),
        (b'{"data": [{"id": "n"}]}', "HTTP/1.1 200 OK", "does not list 'm' among its 1"),
        (b"", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/steal", "answered 302"),
        (b"no", "HTTP/1.1 401 Unauthorized", "answered 401"),
        (b"[" * 100_000, "HTTP/1.1 200 OK", "no list of models"),
        (b'{"data": [{"id": ' + b"9" * 5_000 + b"}]}", "HTTP/1.1 200 OK", "no list of models"),
        (b'{"data": [{"id": "m"}]}' + b" " * probing.MOST_BYTES, "HTTP/1.1 200 OK", None),
        (b'{"data": [{"id": "' + b"m" * probing.MOST_BYTES + b'"}]}', "HTTP/1.1 200 OK", "no list of models"),
        (b"\xff\xfe", "HTTP/1.1 200 OK", "no list of models"),
        (b"", "gibberish", "can't be reached (RemoteProtocolError)"),
    ],
)  # fmt: skip
def test_whatever_a_server_says(body: bytes, head: str, problem: str | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    with server(saying(body, head)) as base_url:
        found = probing.probe(Upstream(model="m", base_url=base_url, api_key=KEY)).problem
    assert found is None if problem is None else (found and problem in found)
    logged = "\n".join(record.getMessage() for record in caplog.records)
    assert KEY not in logged and "steal" not in str(found)


@pytest.mark.sqlite_only
def test_a_test_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a server that sends a byte now and then, and many are asked at once."""
    monkeypatch.setattr(probing, "SECONDS", 0.3)
    ended = threading.Event()

    def drip(out: Any) -> None:
        out.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not ended.wait(0.05):
            out.write(b" ")

    with server(drip) as base_url:
        found = probing.probe_all([Upstream(model="m", base_url=base_url)] * 10)
        ended.set()
    assert all(probe.problem and "did not answer within" in probe.problem for probe in found)
    assert sum(probe.milliseconds for probe in found) < 10 * 2_000


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_one_is_added_with_a_warning_and_once(shift: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = shift.post(url(Upstream, "add"), form(new_key=KEY, base_url=" http://127.0.0.1:1/v1/ "), follow=True)
    assert "does not answer as expected" in text(answer) and KEY not in answer.content.decode()
    made = Upstream.objects.get()
    assert (made.base_url, made.api_key.open(), made.enabled) == ("http://127.0.0.1:1/v1", KEY, True)
    [(actor, action, details)] = told()
    assert (actor, action) == ("shift@example.com", "upstream.created")
    assert details["after"]["api_key"] == "(not shown)" and KEY not in json.dumps(details)
    assert "known at this address already" in text(shift.post(url(Upstream, "add"), form()))
    monkeypatch.setattr(Upstream, "validate_constraints", lambda row, **wanted: None)  # another one was faster
    assert "known at this address already" in text(shift.post(url(Upstream, "add"), form(), follow=True))
    assert Upstream.objects.count() == len(told()) == 1


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "http://host"}, {"base_url": "ftp://host/v1"}, {"base_url": "http://user:pass@host/v1"},
        {"base_url": "http://host?a=/v1"}, {"base_url": "http://[::1/v1"}, {"base_url": "http://host:0/v1"},
        {"base_url": "http://h\x00ost/v1"}, {"base_url": "http://h\u202eost/v1"}, {"base_url": "http://h\nost/v1"},
        {"base_url": "http://" + "h" * 500 + "/v1"}, {"base_url": ""}, {"model": " "}, {"model": "m\x00"},
        {"model": "m\u2028n"}, {"model": "m" * 201}, {"upstream_model": "a\nb"}, {"new_key": "a b"}, {"new_key": "ключ"},
        {"new_key": "a\r\nHost: b"}, {"max_in_flight": "0"}, {"max_in_flight": "-1"}, {"max_in_flight": str(2**31)},
        {"max_in_flight": "9" * 5_000}, {"kind": "fast"}, {"tenant": "999"}, {"tenant": "x"},
    ],
)  # fmt: skip
def test_a_form_that_can_t_be_is_refused(shift: Client, upstream: Upstream, fields: dict[str, str]) -> None:
    for page in (url(Upstream, "add"), url(Upstream, "change", upstream.pk)):
        answer = shift.post(page, form() | fields)
        assert answer.status_code == 200 and "errorlist" in answer.content.decode()
    assert Upstream.objects.get().api_key.open() == KEY and told() == []


@pytest.mark.sqlite_only
def test_naughty_names_are_kept_or_refused(shift: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batches.console.upstreams.probe", lambda row: probing.Probe(None, 1))
    names = list(dict.fromkeys(naughty_strings()))
    typed = [UpstreamForm(form(model=name, upstream_model=name)) for name in names]
    kept = [each.save() for each in typed if each.is_valid()]
    assert 300 < len(kept) < len(names) and all(row.model.isprintable() for row in kept)
    for name in names[::100]:
        assert shift.post(url(Upstream, "add"), form(model=name, base_url="http://other/v1")).status_code in (200, 302)
    for page in (1, 4, 8):
        html = shift.get(LIST, {"p": page}).content.decode()
        assert "<script>alert" not in html and "<img src" not in html.replace('<img src="/static/', "")


@pytest.mark.sqlite_only
def test_a_change_is_on_the_trail_without_the_key(shift: Client, upstream: Upstream) -> None:
    page = url(Upstream, "change", upstream.pk)
    answer = shift.post(page, form(max_in_flight="3", new_key="another", enabled=""), follow=True)
    assert "does not answer as expected" in text(answer)
    upstream.refresh_from_db()
    assert (upstream.max_in_flight, upstream.api_key.open(), upstream.enabled) == (3, "another", True)
    [(_, action, details)] = told()
    assert action == "upstream.changed" and "another" not in json.dumps(details)
    assert details["before"] == {"kind": "other", "max_in_flight": 8, "api_key": None}
    assert details["after"] == {"kind": "vllm", "max_in_flight": 3, "api_key": "(not shown)"}
    history = shift.get(url(Upstream, "history", upstream.pk), follow=True)
    assert "Upstream changed" in text(history)


@pytest.mark.sqlite_only
def test_a_key_is_not_sent_to_another_server(
    shift: Client, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may change an upstream may not read its key, neither at a server of their own."""
    asked: list[tuple[str, str]] = []

    def probe(row: Upstream) -> probing.Probe:
        asked.append((row.base_url, row.api_key.open()))
        return probing.Probe(None, 1)

    monkeypatch.setattr("batches.console.upstreams.probe", probe)
    page = url(Upstream, "change", upstream.pk)
    for elsewhere in ("http://127.0.0.1:2/v1", "http://evil.example/v1", "https://127.0.0.1:1/v1"):
        assert "type its key" in text(shift.post(page, form(base_url=elsewhere)))
    upstream.refresh_from_db()
    assert (upstream.base_url, asked, told()) == ("http://127.0.0.1:1/v1", [], [])
    for address, fields, key in (
        ("http://b/v1", {"new_key": "another"}, "another"),
        ("http://b/a/v1", {}, "another"),
        ("http://c/v1", {"forget_key": "on"}, ""),
        ("http://d/v1", {}, ""),
    ):
        assert shift.post(page, form(base_url=address, **fields)).status_code == 302
        upstream.refresh_from_db()
        assert (upstream.base_url, upstream.api_key.open()) == (address, key)


# --- what stands there ------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_lists_cost_the_same_however_long_they_are(shift: Client, upstream: Upstream) -> None:
    for number in range(20):
        runner((upstream, 1), (Upstream.objects.create(model="m", base_url=f"http://{number}/v1"), 2))
    for model in (Upstream, Runner, Permit):
        with CaptureQueriesContext(connection) as captured:
            html = shift.get(url(model, "changelist")).content.decode()
        assert len(captured) <= MOST_QUERIES - 3, model
        assert KEY not in html and not [query for query in captured if '"api_key",' in query["sql"]]


def test_a_runner_says_what_it_holds(shift: Client, upstream: Upstream) -> None:
    runner((upstream, 3))
    runner(seconds=-5)
    page = text(shift.get(url(Runner, "changelist")))
    assert "3 m at http://127.0.0.1:1/v1" in page and "ends in" in page and "its slices go to others" in page


def test_figures_are_those_of_live_runners(shift: Client, upstream: Upstream) -> None:
    seen = {"in_flight": 1_005, "limit": 3, "answers": 60, "throttled": 7, "errors": 11, "tokens": 6_000}
    Upstream.objects.update(max_in_flight=2_000)
    runner((upstream, 9))
    Permit.objects.update(**seen)
    runner((upstream, 9), seconds=-1)
    for page in (LIST, url(Upstream, "change", upstream.pk)):
        html = text(shift.get(page))
        assert "1,005 of 2,000, takes 3" in html and "7" in html and "11" in html and "100" in html
    Upstream.objects.update(enabled=False)
    assert "9 of 2,000" in (html := text(shift.get(LIST))) and "draining: 9 in flight" in html


@pytest.mark.sqlite_only
def test_one_that_rests_says_until_when(shift: Client, upstream: Upstream) -> None:
    Upstream.objects.update(cooling_until=clock.now() + timedelta(minutes=1))
    assert "resting until" in text(shift.get(LIST))


# --- commands ---------------------------------------------------------------------------------------------------------


def test_commands_are_on_the_trail(transactional_db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("upstream", "add", "m", "http://127.0.0.1:1/v1", "--api-key", KEY)
    pk = str(Upstream.objects.get().pk)
    call_command("upstream", "set", pk, "--max-in-flight", "5")
    call_command("upstream", "set", pk, "--max-in-flight", "5")  # nothing changes
    call_command("upstream", "set", pk, "--api-key", "another")
    for words in (("disable", pk), ("disable", pk), ("disable", pk, "--now"), ("enable", pk)):
        call_command("upstream", *words)
    assert {actor for actor, *_ in told()} == {"operator"} and KEY not in json.dumps(told())
    assert [action for _, action, _ in told()] == [
        "upstream.created", "upstream.changed", "upstream.changed", "upstream.drained", "upstream.severed",
        "upstream.enabled",
    ]  # fmt: skip
    assert told()[1][2]["before"] == {"max_in_flight": 64}
    assert "another" not in told()[2][2]["after"]["api_key"].replace("another (", "(")


def test_what_is_not_noted_is_not_done(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **details: Any) -> None:
        raise IntegrityError("the disk is full")

    monkeypatch.setattr("tenants.trail.record", full)
    before = Upstream.objects.values()[0]
    for words in (
        ("add", "n", "http://127.0.0.1:1/v1"),
        ("set", upstream.pk, "--kind", "vllm"),
        ("disable", upstream.pk),
    ):
        with pytest.raises(CommandError):
            call_command("upstream", *map(str, words))
    assert list(Upstream.objects.values()) == [before]


def test_two_of_one_address(transactional_db: None) -> None:
    own = person("acme").tenant
    rows = [Upstream(model="m", base_url="http://a/v1", tenant=own), Upstream(model="m", base_url="http://b/v1")]
    for row in rows:
        upstreams.create(row, "operator")
    with pytest.raises(upstreams.Known):
        upstreams.create(Upstream(model="m", base_url="http://a/v1", tenant=own), "operator")
    Upstream.objects.create(model="m", base_url="http://c/v1")
    with pytest.raises(upstreams.Known):
        upstreams.change(rows[1].pk, "operator", {"base_url": "http://c/v1"})
    assert [action for _, action, _ in told()] == ["upstream.created"] * 2


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "words", [("m\udcff", "http://a/v1"), ("m", "http://\udcff/v1"), ("m\x00", "http://a/v1"), ("m", "http://a/v1", "--api-key", "a\udcff")],
)  # fmt: skip
def test_commands_refuse_what_is_no_text(transactional_db: None, words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("upstream", "add", *words)
    assert not Upstream.objects.exists()
