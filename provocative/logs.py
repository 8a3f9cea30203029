"""How a line of the log is written. A room of its own: all processes log, and few need the web framework.

Two forms: text for people, and with LOG_FORMAT=json an object a line. Neither shows variables, nor more than the first
line of what an exception says: the lines after it are a database's, and quote the row.
"""

import io
import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from django.conf import settings

from batches import identity
from tenants import observed
from tenants.observed import Subject

ROOT = f"{Path(__file__).resolve().parent.parent}/"
SERVING = {"up", "web", "worker"}  # commands whose stderr is a log
FRAMES, CAUSES = 16, 4  # of an exception; the innermost frames
LONGEST = 1000  # characters of a message in an object: a line stays below what a pipe takes whole (4 KiB)


def formatter() -> logging.Formatter:
    """As LOG_FORMAT says."""
    return OneObject() if settings.LOG_FORMAT == "json" else OneLine()


@cache
def role() -> str:
    """Which part of the service this process is: a child's role, or the command."""
    of_command = sys.argv[1] if len(sys.argv) > 1 and Path(sys.argv[0]).name == "manage.py" else ""
    return settings.ROLE or of_command


def subject(record: logging.LogRecord) -> Subject:
    """What it is about: of what was raised, or of now."""
    error = record.exc_info[1] if record.exc_info else None
    return (error and observed.subject_of(error)) or observed.subject()


def said(record: logging.LogRecord) -> str:
    """Its message; of exceptions in it the first line."""
    if isinstance(record.args, tuple) and any(isinstance(each, BaseException) for each in record.args):
        args = tuple(first_line(each) if isinstance(each, BaseException) else each for each in record.args)
        return str(record.msg) % args
    return record.getMessage()


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception, what caused it, what caused that."""
    for _ in range(CAUSES):
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def frames(error: BaseException) -> traceback.StackSummary:
    """Where it went through, the innermost last; without variables."""
    return traceback.extract_tb(error.__traceback__, limit=-FRAMES)


def place(filename: str) -> str:
    """A file by its name in the project, or in the package it is of."""
    return filename.removeprefix(ROOT).rpartition("site-packages/")[2]


def escaped(text: str) -> str:
    """What it quotes can't pass for a line of its own, nor steer a terminal."""
    return text if text.isprintable() else "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class OneLine(logging.Formatter):
    """Times in UTC, and a message is one line. The traceback of an error stands below it, on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        about = " ".join(filter(None, subject(record)))
        words = (moment(record), record.levelname, record.name, f"[{about}]" if about else "", said(record))
        lines = [escaped(" ".join(filter(None, words)))]
        for error in reversed(list(chain(record.exc_info[1] if record.exc_info else None))):
            lines += ["Traceback (most recent call last):", *"".join(traceback.format_list(frames(error))).splitlines()]
            lines.append(escaped(f"{type(error).__qualname__}: {first_line(error)}"))
        return "\n".join(lines)


class OneObject(logging.Formatter):
    """One JSON object, on one line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        request, tenant, batch = subject(record)
        known = {"request_id": request, "tenant": tenant, "batch": batch}
        shown: dict[str, Any] = {
            "time": moment(record),
            "level": record.levelname,
            "logger": record.name,
            "message": said(record)[:LONGEST],
            "host": identity.HOST,
            "role": role(),
            "pid": os.getpid(),
            **{name: each for name, each in known.items() if each},
            **getattr(record, "figures", {}),
        }
        if record.exc_info and record.exc_info[1]:
            shown["exception"] = raised(record.exc_info[1])
        return json.dumps(shown)


class NotTheMonitors(logging.Filter):
    """Not django-q2's second word on a task that failed: the text of the traceback, in one message. Its worker told it
    (management/commands/qcluster.py)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.module != "monitor" or record.levelno != logging.ERROR or bool(record.exc_info)


class ByRoute(logging.Filter):
    """Django's word on a request that failed names its route. Addresses hold secrets: a link for a new password."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        if request is not None and isinstance(record.args, tuple) and request.path in record.args:
            match = getattr(request, "resolver_match", None)
            route = f"/{match.route}" if match else "an address that was not looked at"
            record.args = tuple(route if each == request.path else each for each in record.args)
        return True


def moment(record: logging.LogRecord) -> str:
    """When, in UTC, as ISO 8601 has it."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def raised(error: BaseException) -> dict[str, Any]:
    """Its type, message, frames and cause."""
    shown: dict[str, Any] = {}
    for each in reversed(list(chain(error))):
        cause = {"cause": shown} if shown else {}
        through = [f"{place(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames(each)]
        shown = {"type": type(each).__qualname__, "message": first_line(each)[:LONGEST], "frames": through, **cause}
    return shown


# --- what does not come by a logger -----------------------------------------------------------------------------------


def take_over() -> None:
    """In a process that serves: warnings, what nobody caught, and what is written to stderr, become events too."""
    if not settings.ROLE and role() not in SERVING:
        return
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    if settings.LOG_FORMAT == "json":
        sys.stderr = Lines(sys.stderr)


def _uncaught(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt | SystemExit):
        return
    logging.getLogger(__name__).critical("nobody caught this", exc_info=error)


class Lines(io.TextIOBase):
    """A stderr each of whose lines becomes an event: complaints of commands, what libraries print."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._rest, self._lock, self._busy = stream, "", threading.Lock(), threading.local()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            if not getattr(self._busy, "now", False):  # what the log itself complains of is not logged again
                self._busy.now = True
                logging.getLogger("stderr").warning("%s", line)
                self._busy.now = False
        return len(text)

    def fileno(self) -> int:
        return int(self._stream.fileno())
