"""What every download has, of programs and of people: one of few places, an ETag that is held, a name."""

import threading
from collections.abc import Iterator

from django.http import HttpRequest
from django.utils.http import content_disposition_header, parse_etags
from rest_framework.request import Request

from tenants.errors import busy

DOWNLOADS = 24  # at once


class Transfer:
    """Pieces on their way to a client, who may take them slowly: it holds one of few places until it is closed."""

    _places = threading.BoundedSemaphore(DOWNLOADS)

    def __init__(self, pieces: Iterator[bytes]) -> None:
        if not self._places.acquire(blocking=False):
            raise busy()
        self._pieces, self._open = pieces, True

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._open:
            self._open = False
            self._places.release()


def is_held(request: HttpRequest | Request, etag: str) -> bool:
    """Whether the client has what this ETag names."""
    held = parse_etags(request.headers.get("If-None-Match", ""))
    return "*" in held or etag in (value.removeprefix("W/") for value in held)


def disposition(filename: str) -> str:
    """Any name, as RFC 6266 has it."""
    printable = "".join(letter for letter in filename if letter.isprintable())
    return content_disposition_header(as_attachment=True, filename=printable) or "attachment"
