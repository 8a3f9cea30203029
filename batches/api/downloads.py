"""A stored file as an HTTP answer: streamed, with ETag, one Range, gzip where the client asks for it."""

import re
import zlib
from collections.abc import Iterator

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from batches import files, objects, results
from batches.core import ranges
from batches.core.states import TERMINAL
from batches.models import Batch, File
from tenants.errors import Refused
from tenants.transfers import Transfer, disposition, is_held

JSONL = "application/jsonl"
_REFUSED = re.compile(r"q\s*=\s*0(\.0*)?", re.IGNORECASE)


def send(request: HttpRequest, file: File) -> HttpResponseBase:
    """The file, or the part of it that Range names; 304 when the client has it, 416 when the range lies beyond."""
    if files.is_gone(file):
        raise gone()
    etag = f'"{file.sha256}"'
    if is_held(request, etag):
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
    response = StreamingHttpResponse(
        Transfer(objects.chunks(file.storage_key, start, length)), status=206, content_type=JSONL
    )
    response["Content-Range"] = f"bytes {start}-{start + length - 1}/{file.bytes}"
    response["Content-Length"] = str(length)
    return _with_headers(response, file, etag)


def gone() -> Refused:
    return Refused(410, "file_expired", "This file was deleted, or its time is over. Its batch is still there.")


def _whole(request: HttpRequest, file: File, etag: str) -> HttpResponseBase:
    pieces = objects.chunks(file.storage_key, 0, file.bytes)  # of an empty object S3 would refuse a range
    if accepts_gzip(request):
        response = StreamingHttpResponse(Transfer(gzipped(pieces)), content_type=JSONL)
        response["Content-Encoding"] = "gzip"
        return _with_headers(response, file, f"W/{etag}")
    response = StreamingHttpResponse(Transfer(pieces), content_type=JSONL)
    response["Content-Length"] = str(file.bytes)
    return _with_headers(response, file, etag)


def stream(request: HttpRequest, pieces: Iterator[bytes], filename: str) -> HttpResponseBase:
    """Lines that are made on the way: no length, no ETag, no range."""
    packed = accepts_gzip(request)
    response = StreamingHttpResponse(Transfer(gzipped(pieces) if packed else pieces), content_type=JSONL)
    if packed:
        response["Content-Encoding"] = "gzip"
    response["Vary"] = "Accept-Encoding"
    response["Content-Disposition"] = disposition(filename)
    return response


def partial(batch: Batch, delivered_only: bool = False) -> HttpResponseBase:
    """What is committed of a running batch, in input order."""
    response = StreamingHttpResponse(Transfer(_committed(batch, delivered_only)), content_type=JSONL)
    response["X-Incomplete"] = "true"
    response["Content-Disposition"] = disposition(f"{batch.public_id}_partial.jsonl")
    return response


def _committed(batch: Batch, delivered_only: bool) -> Iterator[bytes]:
    with results.spool(batch) as lines:
        batch.refresh_from_db()
        if batch.status not in TERMINAL:  # so none of its segments was dropped while they were gathered
            for body, delivered in lines:
                if delivered or not delivered_only:
                    yield body + b"\n"
            return
    file = batch.output_file if delivered_only else batch.results_file
    if file is not None:
        yield from objects.chunks(file.storage_key)


def _with_headers(response: HttpResponseBase, file: File, etag: str) -> HttpResponseBase:
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    response["Vary"] = "Accept-Encoding"
    response["Content-Disposition"] = disposition(file.filename)
    return response


def accepts_gzip(request: HttpRequest) -> bool:
    """Whether the client takes gzip (q=0 is a no)."""
    for item in request.headers.get("Accept-Encoding", "").split(","):
        coding, _, parameters = item.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return _REFUSED.fullmatch(parameters.strip()) is None
    return False


def gzipped(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces as one gzip stream, with flat memory."""
    deflater = zlib.compressobj(level=1, wbits=zlib.MAX_WBITS | 16)
    for piece in pieces:
        if data := deflater.compress(piece):
            yield data
    yield deflater.flush()
