"""The log: one form for every process, whose news it is, a line a request, a batch's life; nothing of anybody's content."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.test import Client

from batches import lifecycle, tasks
from batches.models import Batch
from provocative import environment, logs
from tenants import observed
from tests.conftest import Person, seal
from tests.sdk import Work
from tests.witness import Witness, request_line

Line = dict[str, Any]


class Log(io.StringIO):
    """What is logged, as JSON."""

    def lines(self, logger: str = "") -> list[Line]:
        found = [json.loads(line) for line in self.getvalue().splitlines()]
        return [line for line in found if line["logger"].startswith(logger)]


@pytest.fixture
def log() -> Iterator[Log]:
    stream, root = Log(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.OneObject())
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    content = "a prompt that is at hand"  # a variable of the frame
    try:
        assert content
        raise error from cause
    except Exception as caught:
        return caught


def record(error: Exception | None = None, *args: Any) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    message = "it failed: %s" if args else "it failed"
    return logging.LogRecord("batches.x", logging.ERROR, "p", 1, message, args, info)


# --- a line -----------------------------------------------------------------------------------------------------------


def test_an_event_is_an_object_that_says_where_and_for_whom() -> None:
    with observed.within(request="req_1", tenant="ten_1"), observed.within(batch="batch_1"):
        line = json.loads(logs.OneObject().format(record()))
        text = logs.OneLine().format(record())
    assert {"host", "role", "pid", "time"} <= set(line) and line["time"].endswith("Z")
    wanted = {"level": "ERROR", "logger": "batches.x", "message": "it failed", "request_id": "req_1"}
    assert line | wanted | {"tenant": "ten_1", "batch": "batch_1"} == line
    assert text.endswith("Z ERROR batches.x [req_1 ten_1 batch_1] it failed")
    assert "tenant" not in json.loads(logs.OneObject().format(record()))


def test_an_exception_says_its_kind_its_place_and_its_cause_and_no_more() -> None:
    database = DatabaseError('duplicate key value\nDETAIL:  Key (metadata)=(a "prompt") already exists.')
    error = raised(RuntimeError("it broke"), raised(database))
    line = logs.OneObject().format(record(error, database))
    assert "prompt" not in line + logs.OneLine().format(record(error, database))
    shown = json.loads(line)
    assert shown["message"] == "it failed: duplicate key value"
    assert (shown["exception"]["type"], shown["exception"]["message"]) == ("RuntimeError", "it broke")
    assert shown["exception"]["frames"][-1].startswith("tests/test_logs.py:")
    assert shown["exception"]["cause"]["message"] == "duplicate key value"
    assert "RuntimeError: it broke" in logs.OneLine().format(record(error)), "text tells it too"


def deep(calls: int) -> None:
    if calls == 0:
        raise RuntimeError("x" * 5000)
    deep(calls - 1)


def test_a_line_fits_into_a_pipe_at_once() -> None:
    with pytest.raises(RuntimeError) as caught:
        deep(100)
    assert len(logs.OneObject().format(record(raised(caught.value)))) < 4096


def test_what_is_raised_is_of_whom_it_was_raised_for() -> None:
    """A task that fails is told of where its batch is not known any more."""
    before = observed.subject()
    with pytest.raises(RuntimeError) as caught, observed.step("validate", "batch_1", "ten_1"):
        raise RuntimeError("it broke")
    assert json.loads(logs.OneObject().format(record(caught.value)))["batch"] == "batch_1"
    assert observed.subject() == before


def test_what_is_written_to_stderr_is_an_event_too(log: Log) -> None:
    stderr = logs.Lines(io.StringIO())
    stderr.write("Command")
    stderr.write("Error: no\n\nsuch")
    assert [line["message"] for line in log.lines("stderr")] == ["CommandError: no"]


def test_a_wrong_form_and_a_missing_package_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_FORMAT", "yaml")
    with pytest.raises(ImproperlyConfigured, match="LOG_FORMAT='yaml' is neither text nor json"):
        environment.choice("LOG_FORMAT", "text", "json")
    for address in (
        "nonsense",
        "https://sentry.example/1",
        "https://key@sentry.example/x",
        "ftp://key@sentry.example/1",
    ):
        monkeypatch.setenv("SENTRY_DSN", address)
        with pytest.raises(ImproperlyConfigured, match="SENTRY_DSN is not"):
            environment.dsn("SENTRY_DSN")
    monkeypatch.setenv("SENTRY_DSN", "https://key@sentry.example/a/1")
    assert environment.dsn("SENTRY_DSN").endswith("/1")
    environment.needs("no_such.package", SENTRY_DSN="")
    for package in ("no_such_package", "no_such.package"):
        with pytest.raises(ImproperlyConfigured, match=r"SENTRY_DSN is set.*requirements-telemetry\.txt"):
            environment.needs(package, SENTRY_DSN="http://x")


# --- requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_a_line_with_its_route_and_not_its_address(owner: Person, witness: Witness, log: Log) -> None:
    before = observed.subject()
    batch = owner.submit([request_line("a_prompt")]).json()["id"]
    owner.get(f"/v1/batch/{batch}", **{"x-request-id": "mine-1234"})
    owner.get("/v1/batch/batch_nobodys")
    owner.get("/somewhere/else?secret=1")
    owner.get("/healthz")
    owner.client.generic("PROMPT", "/v1/batch")
    told = log.lines("provocative.requests")
    assert [(line["method"], line.get("route"), line["status"]) for line in told] == [
        ("POST", "v1/batch", 200),
        ("GET", "v1/batch/<str:batch_id>", 200),
        ("GET", "v1/batch/<str:batch_id>", 404),
        ("GET", None, 404),
        ("other", "v1/batch", 401),
    ]
    assert told[1]["request_id"] == "mine-1234" and told[1]["seconds"] > 0 and told[1]["bytes_out"] > 100
    assert all(line["tenant"] == owner.tenant.public_id for line in told[:3])
    assert [line.get("batch") for line in told] == [batch, batch, None, None, None]
    assert not any(
        word in log.getvalue() for word in ("secret", "nobodys", "somewhere", "PROMPT", "a_prompt", owner.key)
    )
    assert observed.subject() == before


def test_a_request_that_breaks_is_a_line_too(owner: Person, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr("batches.api.native._list", explode)
    assert owner.client.get("/v1/batch", headers={"Authorization": f"Bearer {owner.key}"}).status_code == 500
    error, told = log.lines("django.request")[0], log.lines("provocative.requests")[0]
    assert (told["status"], told["route"], told["tenant"]) == (500, "v1/batch", owner.tenant.public_id)
    assert error["exception"]["type"] == "RuntimeError" and error["request_id"] == told["request_id"]


def test_a_stop_that_was_asked_for_is_no_error(
    db: None, client: Client, log: Log, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provocative.health.storage", lambda: "away")
    assert client.get("/readyz").status_code == 503 and len(log.lines("django.request")) == 1
    settings.LEAVING = str(tmp_path)
    assert client.get("/readyz").json() == {"status": "draining"} and len(log.lines("django.request")) == 1


def test_a_link_for_a_new_password_that_fails_is_in_no_log(db: None, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away just when somebody follows it: the link is good for the next one who reads the log."""

    def explode(*_: Any, **__: Any) -> None:
        raise DatabaseError("the connection is lost")

    monkeypatch.setattr("allauth.account.views.PasswordResetFromKeyView.dispatch", explode)
    answer = Client(raise_request_exception=False).get("/account/password/reset/key/1-cx8b2a-5e9b6c/")
    assert answer.status_code == 500 and "cx8b2a" not in log.getvalue()
    (error,) = log.lines("django.request")
    assert error["message"].startswith("Internal Server Error: /account/password/reset/key/")


def test_what_is_streamed_is_counted_until_it_is_closed(owner: Person, witness: Witness, work: Work, log: Log) -> None:
    batch = owner.submit([request_line("a")]).json()["id"]
    work()
    answer: Any = Client().get(f"/v1/batch/{batch}/output", headers={"Authorization": f"Bearer {owner.key}"})
    assert not [line for line in log.lines("provocative.requests") if "output" in line["route"]]
    sent = b"".join(answer.streaming_content)  # the client closes it then, as a server does
    (told,) = [line for line in log.lines("provocative.requests") if "output" in line["route"]]
    assert told["bytes_out"] == len(sent) > 0 and told["batch"] == batch


# --- a batch's life ---------------------------------------------------------------------------------------------------


def test_a_batchs_life_is_read_by_its_id(
    owner: Person, outsider: Person, witness: Witness, work: Work, log: Log
) -> None:
    batch = owner.submit([request_line("a"), request_line("b", faults=["400"])]).json()["id"]
    other = outsider.submit([b"{}"]).json()["id"]
    work()
    seal()
    told = [line for line in log.lines("batches.life") if line["batch"] == batch]
    assert [line["event"] for line in told] == [
        "created", "validated", "started", "finalizing", "finalized", "ended",
    ]  # fmt: skip
    assert {line["tenant"] for line in told} == {owner.tenant.public_id}
    ended = told[-1]
    assert (ended["status"], ended["total"], ended["completed"], ended["failed"]) == ("completed", 2, 1, 1)
    assert ended["seconds"] >= told[1]["seconds"] > 0 and told[0]["lines"] == 2
    others = [(line["event"], line.get("status")) for line in log.lines("batches.life") if line["batch"] == other]
    assert others == [("created", None), ("ended", "failed")]


def test_what_did_not_land_is_not_told(
    owner: Person, witness: Witness, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: Any) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr("batches.idempotency.Attempt._keep", explode)
    owner.submit([request_line("a")])
    assert not Batch.objects.exists() and not log.lines("batches.life")


def test_a_pause_and_its_end_are_told(owner: Person, witness: Witness, log: Log) -> None:
    owner.submit([request_line("a")])
    batch = Batch.objects.get()
    tasks.validate(batch.pk)
    assert lifecycle.pause_by_operator(batch) and lifecycle.resume_by_operator(batch)
    told = log.lines("batches.life")[-2:]
    assert [(line["event"], line["batch"]) for line in told] == [("paused", str(batch)), ("resumed", str(batch))]
