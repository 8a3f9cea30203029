"""The Range header of a download (RFC 9110, 14.2): one range of bytes. Pure."""

import re

_ONE_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE | re.ASCII)


class Unsatisfiable(Exception):
    """The range lies beyond the end."""


def parse(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, length) of the one range asked for; None to send everything, also for what isn't understood.

    Raises Unsatisfiable, which is answered with 416.
    """
    match = _ONE_RANGE.fullmatch((header or "").strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise Unsatisfiable
        return size - length, length
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    end = min(int(last), size - 1) if last else size - 1
    return start, end - start + 1
