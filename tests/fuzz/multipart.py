"""An upload in a form, as POST /v1/batch takes it: Django's parser, our handler, the fields beside the file.

The input's first line is the Content-Type, its second what is added to the Content-Length (or, with `=`, the header
itself), all others the body.
"""

import hashlib
import itertools
import os
import re
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

from django.core.files.storage import default_storage
from django.core.handlers.wsgi import WSGIRequest

from batches import intake, objects, uploads
from batches.api import fields
from batches.api.native import FIELDS
from provocative import errors
from provocative.wsgi import plain_content_type

LIMITS = {"MAX_BYTES": uploads.MAX_BYTES, "MAX_LINES": uploads.MAX_LINES}
TINY = {"MAX_BYTES": 64, "MAX_LINES": 3}
LINE = b'{"custom_id":"a","body":{"model":"m","messages":[1]}}'
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_numbers = itertools.count()
PART = b'--B\r\nContent-Disposition: form-data; name="%b"%b\r\n%b\r\n%b\r\n'
TOKENS = (
    b"--B", b"--B--", b"\r\n", b"\r\n\r\n", b"\n\n", b'Content-Disposition: form-data; name="file"; filename="a.jsonl"', b"boundary=B",
    b'name="metadata"', b'name="endpoint"', b'name="max_cost_usd"', b'name="max_error_rate"', b'name="on_invalid_line"', b"skip",
    b'filename="', b"filename*=UTF-8''%ff", b"filename*=", b"Content-Type: ", b"Content-Transfer-Encoding: base64\r\n", b"charset=utf-16",
    b"charset=nonsense", b"; ", b"multipart/form-data", b"=", b"+1", b"-1", b"+99999999999", b"\x00", b"\xff", LINE + b"\n", b"%00",
    b"/v1/embeddings", b'{"a":"b"}', b"0.5", b"1e400", b"NaN", b"null", b"A" * 1030, b"../../x", b"_charset_", b'"', b"\\",
)  # fmt: skip


def seeds() -> dict[str, bytes]:
    """Forms as clients send them, and as they should not."""
    head, end = b"multipart/form-data; boundary=B\n+0\n", b"--B--\r\n"
    file = PART % (b"file", b'; filename="a.jsonl"', b"Content-Type: application/jsonl\r\n", LINE)
    field = PART % (b"metadata", b"", b"", b'{"a":"b"}')
    coded = PART % (b"file", b'; filename="a"', b"Content-Transfer-Encoding: base64\r\n", b"e30K")
    named = [
        PART % (b"file", b'; filename="%b"' % name, b"", b"{}\n")
        for name in (b"", b"../x", b"C:\\y", b"\xff", b"n" * 300)
    ]
    bodies = [
        file + field,
        field + file,
        file,
        field,
        file + file,
        coded,
        *named,
        file[:-20],
        b"",
        file.replace(b"\r", b""),
    ]
    found = {str(n): head + body + end for n, body in enumerate(bodies)}
    for n, other in enumerate(
        (
            b"-20",
            b"+20",
            b"=",
            b"=-1",
            b"=9e9",
            b"=99999999999999",
            b"=\xb2",
            b"=" + b"9" * 5000,
            b"=" + b"0" * 99 + b"9",
        )
    ):
        found[f"length {n}"] = head.replace(b"+0", other) + file + end
    for n, kind in enumerate(
        (b"multipart/form-data", b"text/plain", b'multipart/form-data; boundary="B"; charset=utf-16')
    ):
        found[f"type {n}"] = kind + b"\n+0\n" + file + end
    return found


def check(data: bytes) -> None:
    """Taken as it was sent, or refused with what is documented and nothing left behind; near the limits, too."""
    kind, _, rest = data.partition(b"\n")
    length, _, body = rest.partition(b"\n")
    folder = Path(default_storage.path("fuzz"))
    for limits in (LIMITS, TINY):
        key = f"fuzz/{next(_numbers)}"
        with (
            _limited(limits),
            mock.patch.object(objects, "fresh_key", lambda _, key=key: key),
        ):
            request = _request(kind, length, body)
            try:
                stored = _submit(request)
            except Exception as error:
                refused = errors._translate(error)
                assert refused is not None, "it would be answered 500"
                assert 400 <= refused.status < 500 and refused.code
                assert not folder.is_dir() or not os.listdir(folder), "something is left in the storage"
                continue
        assert _content(stored) in _parts(request.content_params or {}, body)
        assert stored.bytes <= limits["MAX_BYTES"]
        assert stored.lines <= limits["MAX_LINES"]


def _limited(limits: dict[str, Any]) -> Any:
    return mock.patch.multiple(uploads, **limits)


def _request(kind: bytes, length: bytes, body: bytes) -> Any:
    """As a web server hands it over: headers are Latin-1 without control characters."""
    told = length[1:] if length.startswith(b"=") else b"%d" % (len(body) + _change(length))
    return WSGIRequest(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/v1/batch",
            "CONTENT_TYPE": plain_content_type(_CONTROLS.sub(b"", kind).decode("latin-1")),
            "CONTENT_LENGTH": _CONTROLS.sub(b"", told).decode("latin-1"),
            "wsgi.input": BytesIO(body),
        }
    )


def _change(text: bytes) -> int:
    with suppress(ValueError):
        return max(-(10**12), min(int(text), 10**12))
    return 0


def _submit(request: Any) -> uploads.Stored:
    """What batches/api/native.py does before the database is asked."""
    uploads.check_length(request)
    upload = uploads.receive(request)
    try:
        fields.only(request.POST, FIELDS)
        intake.read_endpoint(request.POST.get("endpoint"))
        intake.read_metadata(request.POST.get("metadata"))
        fields.read_caps(request.POST)
        intake.read_on_invalid_line(request.POST.get("on_invalid_line"))
        stored = upload.complete()
    except BaseException:
        upload.discard()
        raise
    assert stored.filename and "\0" not in stored.filename and stored.filename.encode()
    return stored


def _content(stored: uploads.Stored) -> bytes:
    """What is in the storage, removed; it is what was said of it."""
    content = Path(default_storage.path(stored.key)).read_bytes()
    objects.delete(stored.key)
    assert (stored.bytes, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    without = content.removeprefix(b"\xef\xbb\xbf")
    assert stored.lines == sum(1 for line in without.split(b"\n") if line.strip(b" \t\r"))
    return content


class _Anything:
    """Contains whatever is asked for."""

    def __contains__(self, content: bytes) -> bool:
        return True


def _parts(params: dict[str, str], body: bytes) -> Any:
    """The content of each part, by the definition; anything where a part is encoded."""
    if re.search(rb"content-transfer-encoding", body, re.IGNORECASE):
        return _Anything()
    separator = b"--" + params.get("boundary", "").encode("ascii", "replace")
    pieces = [re.split(rb"\r\n\r\n", piece, maxsplit=1)[-1] for piece in body.split(separator)]
    return {piece.removesuffix(b"\n").removesuffix(b"\r") for piece in pieces} | {*pieces}
