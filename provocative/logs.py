"""How a line of the log is written. A room of its own: all processes log, and few need the web framework."""

import logging
import time
from contextvars import ContextVar

current: ContextVar[str] = ContextVar("request_id", default="")


class NameRequest(logging.Filter):
    """Gives every log line the id of the request it was written in."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = current.get()
        record.request = f"[{name}] " if name else ""
        return True


class OneLine(logging.Formatter):
    """Times in UTC, and a message is one line: what it quotes can't pass for a line of its own, nor steer a terminal.

    The traceback of an error stands below it, on lines of its own.
    """

    converter = staticmethod(time.gmtime)
    default_time_format, default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        line = super().formatMessage(record)
        return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in line)
