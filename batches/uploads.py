"""A file on its way in: from the socket to the storage in one pass, counted, hashed and cut at the limits.

It comes as a part of a form, whose pieces Django's multipart parser hands over as they arrive, or as a whole body;
nothing is kept in memory but a piece.
"""

from io import BytesIO
from typing import Any, NamedTuple

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest

from batches import objects
from batches.core.jsonl import LineCounter
from tenants.errors import Refused

MAX_BYTES = 104_857_600
MAX_LINES = 50_000
TOO_MANY_LINES = f"A batch takes at most {MAX_LINES:,} lines. Split the file."
PIECE = 256 * 1024  # bytes
FORM_ROOM = 64 * 1024  # bytes of a request beside the file: boundaries and fields


class Stored(NamedTuple):
    """An upload that is in the storage, not yet anybody's."""

    key: str
    filename: str
    bytes: int
    lines: int
    sha256: str


class Incoming:
    """The bytes of one file on their way to the storage; `stored` is set when they are all there."""

    def __init__(self, many_lines: bool) -> None:
        self._many_lines = many_lines
        self._writer = objects.Writer(objects.fresh_key("inputs"))
        self._counter = LineCounter()
        self._bytes = 0
        self.stored: Stored | None = None

    def feed(self, piece: bytes) -> None:
        """The next bytes. Raises Refused 413 at the limits."""
        self._bytes += len(piece)
        if self._bytes > MAX_BYTES:
            raise too_large()
        self._writer.write(piece)
        self._counter.feed(piece)
        if self._counter.count > MAX_LINES and not self._many_lines:
            raise Refused(413, "too_many_requests_in_batch", TOO_MANY_LINES, param="file")

    def close(self, filename: str) -> None:
        self._writer.close()
        self.stored = Stored(self._writer.key, filename, self._bytes, self._counter.count, self._writer.sha256)

    def complete(self) -> Stored:
        """What was stored. Call it after `receive`, or `receive_body`."""
        assert self.stored is not None
        return self.stored

    def discard(self) -> None:
        """Remove what was stored: the request was refused or broke off."""
        self._writer.discard()


class ToStorage(FileUploadHandler):
    """Takes the one file of the form field `file` in."""

    chunk_size = PIECE

    def __init__(self, request: HttpRequest, many_lines: bool) -> None:
        super().__init__(request)
        self._many_lines = many_lines
        self.incoming: Incoming | None = None

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, file_name, *args, **kwargs)
        if field_name != "file" or self.incoming:
            raise Refused(400, "unsupported_parameter", "Send one file, in the field file.", param=field_name[:64])
        self.incoming = Incoming(self._many_lines)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        assert self.incoming is not None
        self.incoming.feed(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile:  # type: ignore[type-arg]
        assert self.incoming is not None
        self.incoming.close(self.file_name or "upload")
        return UploadedFile(BytesIO(), self.file_name, size=file_size)  # the form's file: its bytes are stored already


def too_large() -> Refused:
    return Refused(
        413, "file_too_large", f"A batch's file has at most {MAX_BYTES:,} bytes (100 MB). Split it.", param="file"
    )


def check_length(request: HttpRequest) -> None:
    """Refuse by its headers alone a request that can't be taken: before its body is read."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if not length.isdigit():
        raise Refused(411, "length_required", "Send the request with a Content-Length, not in chunks.")
    if int(length) > MAX_BYTES + FORM_ROOM:
        raise too_large()


def receive(request: HttpRequest, many_lines: bool = False) -> Incoming:
    """Read the whole multipart body of `request`, with `many_lines` also more than a batch takes; what it refuses
    leaves nothing in the storage."""
    if request.content_type != "multipart/form-data":
        raise Refused(415, "unsupported_media_type", "Send multipart/form-data with the file in the field file.")
    handler = ToStorage(request, many_lines)
    request.upload_handlers = [handler]
    try:
        request.POST  # noqa: B018 - reading it parses the body
        if _broke_off(request):
            raise _incomplete()
        if handler.incoming is None or not handler.incoming.stored:
            raise Refused(400, "missing_file", "Send the JSONL file in the form field file.", param="file")
    except BaseException:
        if handler.incoming:
            handler.incoming.discard()
        raise
    return handler.incoming


def receive_body(request: HttpRequest, filename: str) -> Incoming:
    """Read the whole body of `request` as one file of this name; what it refuses leaves nothing in the storage."""
    incoming, left = Incoming(many_lines=False), int(request.META["CONTENT_LENGTH"])
    try:
        while left and (piece := request.read(min(PIECE, left))):
            incoming.feed(piece)
            left -= len(piece)
        if left:
            raise _incomplete()
        incoming.close(filename)
    except BaseException:
        incoming.discard()
        raise
    return incoming


def _broke_off(request: HttpRequest) -> bool:
    """Whether fewer bytes came than Content-Length said: Django's parser takes such a body as complete."""
    stream: Any = request._stream
    return bool(stream._pos < int(request.META["CONTENT_LENGTH"]))


def _incomplete() -> Refused:
    return Refused(400, "incomplete_upload", "The connection ended before the whole file arrived. Send it again.")
