"""What Sentry is told, where SENTRY_DSN is set: each error of the log, as an event that is made here.

The SDK only sends. None of its integrations is used, since they collect what they see: bodies, headers, variables, SQL.
What leaves: kinds of exceptions and where in the code they were raised, ids, and messages as they stand in our code,
without what was put into them. docs/decisions/0043-logs-and-telemetry.md
"""

import logging
import os
from contextlib import suppress
from functools import partial
from multiprocessing.util import Finalize
from typing import Any

import sentry_sdk
from django.conf import settings

import provocative
from batches import identity
from provocative import logs

OURS = {"provocative", "batches", "billing", "tenants"}  # whose messages are known
SENDERS = {"sentry_sdk", "urllib3", "opentelemetry"}  # or what can't be sent would be an event
LEAVING = 2.0  # seconds that the end of a process may wait for what is on its way


class Events(logging.Handler):
    """Hands events to the SDK, whose thread sends them; what its queue has no room for is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._client, self._pid = None, 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in SENDERS:
            with suppress(Exception):  # whatever is wrong with it, the work goes on
                self._of_this_process().capture_event(event(record))

    def _of_this_process(self) -> Any:
        """A fork takes no thread along: each process has a client of its own, made when there is something to send."""
        if self._pid != os.getpid():
            self._client, self._pid = client(), os.getpid()
        return self._client


def client() -> Any:
    """The SDK, without what collects."""
    made = sentry_sdk.Client(
        dsn=settings.SENTRY_DSN,
        release=provocative.__version__,
        server_name=identity.HOST,
        default_integrations=False,
        auto_enabling_integrations=False,
        auto_session_tracking=False,
    )
    Finalize(None, partial(made.close, timeout=LEAVING), exitpriority=0)  # also where django-q2's workers end
    return made


def event(record: logging.LogRecord) -> dict[str, Any]:
    """The record as Sentry's protocol has it."""
    request, tenant, batch = logs.subject(record)
    tags = {"role": logs.role(), "request_id": request, "tenant": tenant, "batch": batch}
    made: dict[str, Any] = {
        "level": "fatal" if record.levelno >= logging.CRITICAL else "error",
        "logger": record.name,
        "timestamp": record.created,
        "tags": {name: value for name, value in tags.items() if value},
    }
    if record.name.partition(".")[0] in OURS:
        made["message"] = str(record.msg)
    if record.exc_info and record.exc_info[1]:
        raised = list(logs.chain(record.exc_info[1]))
        made["exception"] = {"values": [_exception(each) for each in reversed(raised)]}
    return made


def _exception(error: BaseException) -> dict[str, Any]:
    kind = type(error)
    through = [_frame(frame) for frame in logs.frames(error)]
    return {"type": kind.__qualname__, "module": kind.__module__, "stacktrace": {"frames": through}}


def _frame(frame: Any) -> dict[str, Any]:
    return {
        "filename": logs.place(frame.filename),
        "function": frame.name,
        "lineno": frame.lineno,
        "context_line": frame.line,
        "in_app": frame.filename.startswith(logs.ROOT) and "site-packages" not in frame.filename,
    }
