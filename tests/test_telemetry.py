"""Errors at Sentry and traces by OpenTelemetry, against receivers of our own: what they are told, and what never."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.test import Client
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from provocative import sentry, tracing
from tenants import observed
from tests import service as services
from tests.collector import Collector, values
from tests.conftest import Person, seal, until
from tests.sdk import Work
from tests.service import ROOT, Service
from tests.test_canary import Canary, canary, failures, run
from tests.witness import Witness, request_line

__all__ = ["canary"]  # a fixture

pytestmark = pytest.mark.sqlite_only  # what leaves is the same whatever the database


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture
def reported(collector: Collector, settings: Any) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """With SENTRY_DSN; the events, once all have arrived."""
    settings.SENTRY_DSN = collector.dsn
    handler, root = sentry.Events(), logging.getLogger()
    handler.setLevel(logging.ERROR)
    root.addHandler(handler)

    def arrived() -> list[dict[str, Any]]:
        handler._of_this_process().flush(timeout=10)
        return collector.events()

    yield arrived
    root.removeHandler(handler)
    handler._of_this_process().close(timeout=1)


@pytest.fixture
def traced(collector: Collector, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[Span]]]:
    """With OTEL_EXPORTER_OTLP_ENDPOINT; the spans, once all have arrived."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    settings.OTEL_ENDPOINT = collector.url
    monkeypatch.setattr(observed, "_listeners", [])
    monkeypatch.setattr(tracing, "_made", [])
    tracing.start()

    def arrived() -> list[Span]:
        tracing.tracer().provider.force_flush()
        return [span for _, span in collector.spans()]

    yield arrived
    tracing.tracer().end()


# --- Sentry -----------------------------------------------------------------------------------------------------------


def test_an_error_is_reported_once_with_ids_and_places_alone(
    canary: Canary, collector: Collector, reported: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    word = canary.content["prompt"]

    def explode(*_: Any, **__: Any) -> None:
        try:
            raise ValueError(f"{word} {canary.person.key}")
        except ValueError as error:
            raise RuntimeError(f"about {word}") from error

    monkeypatch.setattr("batches.intake.submit", explode)
    assert canary.upload(request_line(word)).status_code == 500
    (event,) = reported()
    assert [each["type"] for each in event["exception"]["values"]] == ["ValueError", "RuntimeError"]
    frames = event["exception"]["values"][-1]["stacktrace"]["frames"]
    assert frames[-1]["function"] == "explode" and frames[-1]["filename"] == "tests/test_telemetry.py"
    assert event["tags"]["tenant"] == canary.person.tenant.public_id and event["tags"]["request_id"].startswith("req_")
    assert event["release"] and event["server_name"] and event["level"] == "error"
    known = {"level", "logger", "timestamp", "tags", "exception", "event_id", "release", "environment", "server_name"}
    assert set(event) - known - {"sdk", "platform"} == set(), "nothing that we did not put there"
    assert set(frames[-1]) == {"filename", "function", "lineno", "context_line", "in_app"}
    assert [name for name, each in canary.words().items() if each in collector.everything()] == []


def test_the_message_is_ours_without_what_was_put_into_it(reported: Callable[[], list[dict[str, Any]]]) -> None:
    with observed.within(batch="batch_1"):
        logging.getLogger("batches.results").error("%s can't be finalized: %s", "batch_1", OSError("a prompt"))
    logging.getLogger("somebody.elses").error("a prompt")
    logging.getLogger("batches.results").warning("a prompt")
    logging.getLogger("urllib3.connectionpool").error("a prompt")
    ours, theirs = reported()
    assert (ours["message"], ours["tags"]["batch"]) == ("%s can't be finalized: %s", "batch_1")
    assert "message" not in theirs and theirs["logger"] == "somebody.elses"


@pytest.mark.parametrize("away", [True, False])
def test_a_sentry_that_is_away_or_never_answers_harms_nothing(away: bool, collector: Collector, settings: Any) -> None:
    collector.answers.clear()
    settings.SENTRY_DSN = "http://public@127.0.0.1:9/1" if away else collector.dsn
    handler = sentry.Events()
    for _ in range(300):  # more than fit into its queue
        handler.emit(logging.LogRecord("batches.x", logging.ERROR, "p", 1, "it failed", (), None))
    handler._of_this_process().close(timeout=0.1)
    assert not collector.bodies, "nothing of it was waited for"


# --- OpenTelemetry ----------------------------------------------------------------------------------------------------


def test_a_batch_is_one_trace_whose_id_follows_from_its_own(
    owner: Person, witness: Witness, work: Work, traced: Callable[[], list[Span]]
) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    sent = {"traceparent": f"00-{trace}-{span}-01", "tracestate": "vendor=aprompt", "baggage": "k=aprompt"}
    answer = Person(owner.tenant, owner.key, Client(headers=sent)).submit([request_line("a"), request_line("b")])
    work()
    seal()
    found = traced()
    batch = answer.json()["id"]
    digest = hashlib.sha256(batch.encode()).digest()
    steps = [each for each in found if each.trace_id == digest[:16]]
    names = [each.name for each in steps]
    assert set(names) == {"create", "validate", "slice", "commit", "finalize", "seal", "batch"}
    assert names.count("slice") + names.count("commit") < 6, "not a span a line"
    (whole,) = [each for each in steps if each.name == "batch"]
    assert whole.span_id == digest[16:24] and not whole.parent_span_id
    assert {each.parent_span_id for each in steps if each is not whole} == {whole.span_id}
    assert all(each.start_time_unix_nano <= each.end_time_unix_nano for each in found)
    (request,) = [each for each in found if each.name == "POST v1/batch"]
    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (trace, span)
    (create,) = [each for each in steps if each.name == "create"]
    assert [(link.trace_id, link.span_id) for link in create.links] == [(request.trace_id, request.span_id)]
    assert [(link.trace_id, link.span_id) for link in request.links] == [(whole.trace_id, whole.span_id)]
    shown = values(request.attributes)
    assert shown["http.route"] == "v1/batch" and shown["http.response.status_code"] == 200
    assert (shown["provocative.batch"], shown["provocative.tenant"]) == (batch, owner.tenant.public_id)


def test_no_word_of_a_tenants_leaves(
    canary: Canary, work: Work, collector: Collector, reported: Callable[[], list[dict[str, Any]]],
    traced: Callable[[], list[Span]], settings: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = run(canary, work)
    assert len(list(failures(canary, made, settings, monkeypatch))) >= 12
    found = traced()
    assert len(found) > 20 and any(each.status.code == each.status.STATUS_CODE_ERROR for each in found)
    assert len(reported()) >= 6
    assert [name for name, each in canary.words().items() if each in collector.everything()] == []


def test_a_step_that_fails_is_a_span_that_failed(traced: Callable[[], list[Span]]) -> None:
    with pytest.raises(RuntimeError), observed.step("finalize", "batch_1", "ten_1"):
        raise RuntimeError("a prompt")
    (span,) = traced()
    assert (span.name, span.status.message) == ("finalize", "RuntimeError") and not span.events


def test_a_receiver_that_never_answers_holds_nothing_up(
    collector: Collector, traced: Callable[[], list[Span]], caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tracing, "TIMEOUT", 0.2)
    monkeypatch.setattr(tracing, "LEAVING", 0.2)
    collector.answers.clear()
    for n in range(5000):  # more than fit into its queue
        observed.done("slice", f"batch_{n}", time.time(), {})
    tracing.tracer().end()
    assert not collector.bodies, "nothing of it was waited for"
    assert caplog.text.count("traces do not arrive") == 1


# --- the service ------------------------------------------------------------------------------------------------------


def test_nothing_of_it_is_loaded_unless_it_is_asked_for() -> None:
    code = (
        "import sys, django; django.setup(); print(sorted(m for m in sys.modules if 'sentry' in m or 'telemetry' in m))"
    )
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "provocative.settings"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def wrong_task(service: Service, cluster: str) -> None:
    """A task that fails wherever it is run."""
    code = (
        f"from django_q.tasks import async_task; async_task('batches.tasks.seal', q_options={{'cluster': '{cluster}'}})"
    )
    service.manage("shell", "-v", "0", "-c", code)


@pytest.mark.soak
def test_every_process_tells_in_one_form_and_reports(collector: Collector) -> None:
    service = Service("--no-model", "--runners", "1")
    service.environ |= {
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "INFO",
        "SENTRY_DSN": collector.dsn,
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }
    service.home.chmod(0o755)  # `check` warns of it, in words of its own
    try:
        with Witness() as witness:
            service.start()
            client = service.tenant()
            service.manage("upstream", "add", "witness", witness.base_url)
            batch = services.upload(client, [request_line("a")])["id"]
            services.ended(client, batch)
            wrong_task(service, "chores")
            wrong_task(service, "runners")
            (worker,) = {line["pid"] for line in told(service) if line["logger"] == "provocative.requests"}
            os.kill(worker, signal.SIGKILL)  # the web server tells of it, and ours of the web server's end
            (service.home / "files").rename(service.home / "elsewhere")
            (service.home / "files").touch()  # no folder any more
            until(lambda: broken(client))
            service.execute("ALTER TABLE batches_runner RENAME TO elsewhere")
            until(lambda: {"web", "chores", "runners", "up"} <= roles(collector))
            trace = hashlib.sha256(batch.encode()).digest()[:16]
            wanted = {("web", "create"), ("chores", "validate"), ("runners", "slice"), ("chores", "batch")}
            until(lambda: wanted <= steps(collector, trace))
        assert service.stop() == 0
        lines = told(service)
    finally:
        service.remove()
    assert len({line["host"] for line in lines}) == 1 and len({line["pid"] for line in lines}) >= 4
    said = {(line["role"], line["logger"], line["message"].partition(" ")[0]) for line in lines}
    assert {
        ("web", "_granian", "Unexpected"),
        ("up", "stderr", "?:"),
        ("up", "provocative.supervisor", "burial"),
    } <= said
    assert {line["role"] for line in lines if line["message"] == "a task failed"} == {"chores", "runners"}
    of_batch = [line["role"] for line in lines if line.get("batch") == batch and line["logger"] == "batches.life"]
    assert of_batch == ["web", "chores", "runners", "runners", "chores", "chores"]


def told(service: Service) -> list[dict[str, Any]]:
    """Every line of its stderr: each is an object."""
    return [json.loads(line) for line in (service.home / "up.log").read_text().splitlines()]


def broken(client: Any) -> bool:
    """Whether the new web server answers, and that it can't store."""
    try:
        return bool(client.post("/v1/batch", files={"file": ("b.jsonl", b"{}\n")}).status_code == 500)
    except httpx.TransportError:
        return False


def roles(collector: Collector) -> set[str]:
    return {event["tags"]["role"] for event in collector.events()}


def steps(collector: Collector, trace: bytes) -> set[tuple[str, str]]:
    found = [(resource, span) for resource, span in collector.spans() if span.trace_id == trace]
    return {(resource["provocative.role"], span.name) for resource, span in found}
