"""A stored file as an HTTP answer: streamed, with ETag, one Range, gzip where the client asks for it."""

import zlib
from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import parse_etags

from batches import objects
from batches.core import ranges
from batches.models import File
from tenants.errors import Refused

JSONL = "application/jsonl"


def send(request: HttpRequest, file: File) -> HttpResponseBase:
    """The file, or the part of it that Range names; 304 when the client has it, 416 when the range lies beyond."""
    etag = f'"{file.sha256}"'
    held = parse_etags(request.headers.get("If-None-Match", ""))
    if "*" in held or etag in (value.removeprefix("W/") for value in held):
        return _with_headers(HttpResponse(status=304), file, etag)
    if_range = request.headers.get("If-Range")
    wanted = request.headers.get("Range") if if_range in (None, etag) else None
    try:
        part = ranges.parse(wanted, file.bytes)
    except ranges.Unsatisfiable:
        raise Refused(
            416,
            "range_not_satisfiable",
            f"The file has {file.bytes} bytes: ask for a range within them.",
            param="Range",
            headers={"Content-Range": f"bytes */{file.bytes}"},
        ) from None
    if part is None:
        return _whole(request, file, etag)
    start, length = part
    response = StreamingHttpResponse(objects.chunks(file.storage_key, start, length), status=206, content_type=JSONL)
    response["Content-Range"] = f"bytes {start}-{start + length - 1}/{file.bytes}"
    response["Content-Length"] = str(length)
    return _with_headers(response, file, etag)


def _whole(request: HttpRequest, file: File, etag: str) -> HttpResponseBase:
    pieces = objects.chunks(file.storage_key)
    if accepts_gzip(request):
        response = StreamingHttpResponse(gzipped(pieces), content_type=JSONL)
        response["Content-Encoding"] = "gzip"
        return _with_headers(response, file, f"W/{etag}")
    response = StreamingHttpResponse(pieces, content_type=JSONL)
    response["Content-Length"] = str(file.bytes)
    return _with_headers(response, file, etag)


def _with_headers(response: HttpResponseBase, file: File, etag: str) -> HttpResponseBase:
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    response["Vary"] = "Accept-Encoding"
    response["Content-Disposition"] = disposition(file.filename)
    return response


def disposition(filename: str) -> str:
    """The names we give to outputs are plain ASCII."""
    return f'attachment; filename="{filename}"'


def accepts_gzip(request: HttpRequest) -> bool:
    """Whether the client takes gzip (q=0 is a no)."""
    for item in request.headers.get("Accept-Encoding", "").split(","):
        coding, _, parameters = item.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return not parameters.replace(" ", "").startswith(("q=0;", "q=0.0")) and parameters.strip() != "q=0"
    return False


def gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip stream, with flat memory."""
    deflater = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
    for piece in pieces:
        if data := deflater.compress(piece):
            yield data
    yield deflater.flush()
