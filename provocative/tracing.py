"""Traces by OpenTelemetry, where OTEL_EXPORTER_OTLP_ENDPOINT is set: of each request, and of each batch with its steps.

A batch's trace has an id that follows from the batch's: steps on any host belong together, and nothing has to be kept.
A span is made when what it tells of is over. docs/decisions/0043-logs-and-telemetry.md
"""

import hashlib
import logging
import os
import secrets
import threading
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from multiprocessing.util import Finalize
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import provocative
from batches import identity
from batches.life import WHOLE
from provocative import logs
from provocative.visits import Visit, method_of, route_of
from tenants import observed
from tenants.observed import Step

log = logging.getLogger(__name__)

TIMEOUT = 2.0  # seconds for a delivery, with its retries
LEAVING = 2.0  # seconds that the end of a process goes on sending what is left
SAMPLED, UNSAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
ROOT = Context()  # of a span without a parent


def start() -> None:
    """Trace what this process does, and those that it forks: what sends is made in each, with its first span."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it says at each span that nothing can be sent
    observed.listen(_step)


class Ids(IdGenerator):
    """Gives the next span of this thread the ids that it is to have."""

    def __init__(self) -> None:
        self.next = threading.local()

    def generate_trace_id(self) -> int:
        return int(self.next.trace)

    def generate_span_id(self) -> int:
        return int(self.next.span)


class Exporter(SpanExporter):
    """OTLP over HTTP: says once that nothing arrives, and does not hold up the end of its process."""

    def __init__(self) -> None:
        self._over, self._until, self._failing = OTLPSpanExporter(timeout=TIMEOUT), float("inf"), False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if time.monotonic() > self._until:
            return SpanExportResult.FAILURE
        result = self._over.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._failing:
            log.warning("traces do not arrive at OTEL_EXPORTER_OTLP_ENDPOINT, and are dropped until they do")
        self._failing = failed
        return result

    def leave(self) -> None:
        """Begin nothing more after LEAVING."""
        self._until = time.monotonic() + LEAVING

    def shutdown(self) -> None:
        self._over.shutdown()  # type: ignore[no-untyped-call]


class Tracer:
    """What makes the spans of one process, and the thread that sends them."""

    def __init__(self) -> None:
        self.pid, self.ids, self._exporter = os.getpid(), Ids(), Exporter()
        known: dict[str, Any] = {"service.name": settings.OTEL_SERVICE_NAME, "service.version": provocative.__version__}
        here: dict[str, Any] = {"host.name": identity.HOST, "process.pid": self.pid, "provocative.role": logs.role()}
        self.provider = TracerProvider(
            resource=Resource.create({**known, **here}), id_generator=self.ids, shutdown_on_exit=False
        )
        self.provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self.provider.get_tracer("provocative", provocative.__version__)
        Finalize(None, self.end, exitpriority=0)  # also where django-q2's workers end

    def end(self) -> None:
        """Send what is left."""
        self._exporter.leave()
        self.provider.shutdown()

    def flags(self, trace: int) -> TraceFlags:
        """Whether this trace is sampled: OTEL_TRACES_SAMPLER decides it by the id, the same on every host."""
        decision: Any = self.provider.sampler.should_sample(None, trace, WHOLE).decision
        return SAMPLED if decision.is_sampled() else UNSAMPLED

    def span(
        self,
        name: str,
        own: tuple[int, int],
        within: Context,
        moments: tuple[float, float],
        attributes: Mapping[str, Any],
        **more: Any,
    ) -> Any:
        """A span that is over: its trace and id, its parent's context, when it began and ended in unix seconds."""
        self.ids.next.trace, self.ids.next.span = own
        began, ended = (int(moment * 1e9) for moment in moments)
        failed = more.pop("failed", "")
        span = self._tracer.start_span(name, within, attributes=attributes, start_time=began, **more)
        if failed:
            span.set_status(Status(StatusCode.ERROR, failed))
        span.end(ended)
        return span


_lock = threading.Lock()
_made: list[Tracer] = []


def tracer() -> Tracer:
    """This process's: a fork takes no thread along."""
    with _lock:
        if not _made or _made[-1].pid != os.getpid():
            _made[:] = [Tracer()]
        return _made[-1]


# --- batches ----------------------------------------------------------------------------------------------------------


def ids_of(batch: str) -> tuple[int, int]:
    """The ids of a batch's trace and of its whole span."""
    digest = hashlib.sha256(batch.encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24])


def _step(done: Step) -> None:
    try:
        _trace(done)
    except Exception as error:  # whatever is wrong with it, the work goes on
        log.warning("a step can't be traced: %s", type(error).__name__)


def _trace(done: Step) -> None:
    made = tracer()
    trace, root = ids_of(done.batch)
    whole = SpanContext(trace, root, is_remote=True, trace_flags=made.flags(trace))
    visit = _visit.get()
    if visit:
        visit.links.append(Link(whole))
    is_whole = done.name == WHOLE
    made.span(
        done.name,
        (trace, root if is_whole else secrets.randbits(64)),
        ROOT if is_whole else set_span_in_context(NonRecordingSpan(whole), ROOT),
        (done.began, done.ended),
        {"batch.id": done.batch, **{f"batch.{name}": figure for name, figure in done.figures.items()}},
        links=[Link(visit.context)] if visit else [],
        failed=done.failed,
    )


# --- requests ---------------------------------------------------------------------------------------------------------


class TracedVisit(Visit):
    """A request that is traced, as a part of its client's trace where it names one. Baggage and tracestate are the
    client's own words, and are not kept."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self._at, self.links = time.time(), list[Link]()
        sent = {"traceparent": request.headers.get("traceparent", "")}
        self._within = TraceContextTextMapPropagator().extract(sent, ROOT)
        parent = get_current_span(self._within).get_span_context()
        trace = parent.trace_id if parent.is_valid else secrets.randbits(128)
        self.context = SpanContext(trace, secrets.randbits(64), is_remote=False, trace_flags=SAMPLED)
        _visit.set(self)

    def over(self, status: int, sent: int | None) -> None:
        super().over(status, sent)
        _visit.set(None)
        known = observed.subject()._asdict()
        method, route = method_of(self.request), route_of(self.request)
        attributes = {
            "http.request.method": method,
            "http.route": route,
            "http.response.status_code": status,
            **{f"provocative.{name}": value for name, value in known.items() if value},
        }
        tracer().span(
            f"{method} {route}".strip(),
            (self.context.trace_id, self.context.span_id),
            self._within,
            (self._at, time.time()),
            attributes,
            kind=SpanKind.SERVER,
            links=self.links,
            failed=str(status) if status >= 500 else "",
        )


_visit: ContextVar[TracedVisit | None] = ContextVar("visit", default=None)
