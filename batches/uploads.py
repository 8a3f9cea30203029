"""A file on its way in: from the socket to the storage in one pass, counted, hashed and cut at the limits.

The API's comes in a form, of which Django's parser hands over the file's pieces as they arrive; a page's is the whole
body of its request. Nothing is kept in memory but a piece.
"""

from io import BytesIO
from typing import Any, NamedTuple

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, UnreadablePostError

from batches import keeping, measures, objects
from batches.core.jsonl import LineCounter
from tenants.errors import Refused
from tenants.models import Tenant

MAX_BYTES = 104_857_600
MAX_LINES = 50_000
TOO_MANY_LINES = f"A batch takes at most {MAX_LINES:,} lines. Split the file."
PIECE = 256 * 1024  # bytes
EMPTY = "The file has no line that is not blank."
MOST_DIGITS = 100  # of a length, that are looked at: Python reads no number of thousands
FORM_ROOM = 64 * 1024  # bytes of a request beside the file: boundaries and fields


class Stored(NamedTuple):
    """An upload that is in the storage, not yet anybody's."""

    key: str
    filename: str
    bytes: int
    lines: int
    sha256: str


class Arriving:
    """The bytes of one file on their way to the storage."""

    def __init__(self, many_lines: bool) -> None:
        self._many_lines = many_lines
        self._writer = objects.Writer(objects.fresh_key("inputs"))
        self._counter = LineCounter()
        self._stored: Stored | None = None

    def take(self, piece: bytes) -> None:
        """The next bytes. Raises Refused 413 at the limits."""
        if self._writer.bytes + len(piece) > MAX_BYTES:
            raise too_large()
        self._writer.write(piece)
        self._counter.feed(piece)
        if self._counter.count > MAX_LINES and not self._many_lines:
            raise Refused(413, "too_many_requests_in_batch", TOO_MANY_LINES, param="file")

    def close(self, filename: str) -> None:
        """They are all there: make them durable."""
        self._writer.close()
        writer = self._writer
        measures.UPLOADED.inc(writer.bytes)
        self._stored = Stored(writer.key, filename or "upload", writer.bytes, self._counter.count, writer.sha256)

    @property
    def lines(self) -> int:
        """Those that are not blank, so far."""
        return self._counter.count

    @property
    def arrived(self) -> bool:
        return self._stored is not None

    def complete(self) -> Stored:
        """What was stored. Call it after `receive` or `receive_raw`."""
        assert self._stored is not None
        return self._stored

    def discard(self) -> None:
        """Remove what was stored: the request was refused or broke off."""
        self._writer.discard()


class ToStorage(FileUploadHandler):
    """Takes the one file of the form field `file`, as Django's parser comes to it."""

    chunk_size = PIECE

    def __init__(self, request: HttpRequest, many_lines: bool) -> None:
        super().__init__(request)
        self._many_lines = many_lines
        self.arriving: Arriving | None = None

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, file_name, *args, **kwargs)
        if field_name != "file" or self.arriving:
            raise Refused(400, "unsupported_parameter", "Send one file, in the field file.", param=field_name[:64])
        self.arriving = Arriving(self._many_lines)

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        assert self.arriving is not None
        self.arriving.take(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile:  # type: ignore[type-arg]
        assert self.arriving is not None
        self.arriving.close(self.file_name or "")
        return UploadedFile(BytesIO(), self.file_name, size=file_size)  # the form's file: its bytes are stored already


def too_large() -> Refused:
    return Refused(
        413, "file_too_large", f"A batch's file has at most {MAX_BYTES:,} bytes (100 MB). Split it.", param="file"
    )


def check_length(request: HttpRequest, room: int = FORM_ROOM) -> None:
    """Refuse by its headers alone a request that can't be taken, with `room` bytes beside its file: before its body is
    read."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if not (length.isascii() and length.isdigit()):
        raise Refused(411, "length_required", "Send the request with a Content-Length, not in chunks.")
    if len(length) > MOST_DIGITS or int(length) > MAX_BYTES + room:
        raise too_large()


def check_room(request: HttpRequest, tenant: Tenant, room: int = FORM_ROOM) -> None:
    """Refuse early, as `check_length`, a file that the tenant's storage has no room for."""
    keeping.check_room(tenant, max(int(request.META["CONTENT_LENGTH"]) - room, 0))


def receive(request: HttpRequest, many_lines: bool = False) -> Arriving:
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
        if handler.arriving is None or not handler.arriving.arrived:
            raise Refused(400, "missing_file", "Send the JSONL file in the form field file.", param="file")
    except BaseException:
        if handler.arriving:
            handler.arriving.discard()
        raise
    return handler.arriving


def receive_raw(request: HttpRequest, filename: str) -> Arriving:
    """Read the body of `request`, which is the file itself; what it refuses leaves nothing in the storage.

    A file without a line is refused: whoever sent it is looking at the page.
    """
    arriving = Arriving(many_lines=False)
    try:
        try:
            while piece := request.read(PIECE):
                arriving.take(piece)
        except UnreadablePostError:
            raise _incomplete() from None
        if _broke_off(request):
            raise _incomplete()
        if not arriving.lines:
            raise Refused(400, "empty_file", EMPTY, param="file")
        arriving.close(filename)
    except BaseException:
        arriving.discard()
        raise
    return arriving


def _broke_off(request: HttpRequest) -> bool:
    """Whether fewer bytes came than Content-Length said: Django's parser takes such a body as complete."""
    stream: Any = request._stream
    return bool(stream._pos < int(request.META["CONTENT_LENGTH"]))


def _incomplete() -> Refused:
    return Refused(400, "incomplete_upload", "The connection ended before the whole file arrived. Send it again.")
