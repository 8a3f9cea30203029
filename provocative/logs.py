"""The id of the request in every log line. A room of its own: all processes log, and few need the web framework."""

import logging
from contextvars import ContextVar

current: ContextVar[str] = ContextVar("request_id", default="")


class NameRequest(logging.Filter):
    """Gives every log line the id of the request it was written in."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = current.get()
        record.request = f"[{name}] " if name else ""
        return True
