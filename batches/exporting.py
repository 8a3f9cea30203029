"""All that a tenant has here as one ZIP file, streamed: flat memory, whatever there is.

Files that go meanwhile are named as gone: the archive is whole all the same. What an export has of rows: exported.py.
"""

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from batches import exported, objects
from batches.models import Batch, File
from tenants import clock
from tenants.models import Tenant
from tenants.paging import by_pk

FORMAT = "provocative.export/1"
PIECE = 1 << 16  # bytes of JSON that are compressed at once
README = """\
All that {name} ({id}) has at this service, as of {at}.

tenant.json              its plan and limits
members.jsonl            people and their roles; invitations.jsonl: who was invited
keys.jsonl               API keys: prefix, scopes, times. The keys themselves are stored nowhere.
webhooks.jsonl           endpoints, without their secrets; webhook_deliveries.jsonl: what was sent there
batches.jsonl            batches, as the API shows them
files.jsonl              every file: bytes, SHA-256, and what "content" says of it here:
                         whole, gone (deleted, or its time was over), unfinished (its batch runs),
                         cut (the storage failed while it was read: export again)
files/<id>.jsonl         their contents: inputs, outputs, errors, results, receipts
usage.jsonl              what was used by day, model, batch and key
ledger.jsonl             every entry of the account; invoices.jsonl: the invoices
trail.jsonl              who did what
manifest.json            what is in this archive, with a SHA-256 of each

A .jsonl file has one JSON object a line. Times are ISO 8601 and UTC, or unix seconds where the API has these.
Rows that came while the archive was written may be in one file and not in another.
"""


class _Sink:
    """What ZipFile writes to, who takes it for a pipe: pieces, to be taken and sent."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def take(self) -> Iterator[bytes]:
        pieces, self._pieces = self._pieces, []
        yield from pieces


class _Archive:
    """The ZIP on its way, and the list of what is in it."""

    def __init__(self) -> None:
        self.sink = _Sink()
        sink: Any = self.sink  # no more is asked of it
        self.zip = ZipFile(sink, "w", allowZip64=True)
        self.members: list[dict[str, Any]] = []

    def add(self, name: str, pieces: Iterable[bytes], packed: bool = True) -> Iterator[bytes]:
        """A member of these bytes; packed or as they are."""
        info = ZipInfo(name, clock.now().timetuple()[:6])
        info.compress_type, info.external_attr = ZIP_DEFLATED if packed else ZIP_STORED, 0o600 << 16
        size, digest = 0, hashlib.sha256()
        with self.zip.open(info, "w", force_zip64=True) as member:
            for piece in pieces:
                member.write(piece)
                digest.update(piece)
                size += len(piece)
                yield from self.sink.take()
        self.members.append({"name": name, "bytes": size, "sha256": digest.hexdigest()})
        yield from self.sink.take()

    def close(self) -> Iterator[bytes]:
        self.zip.close()
        yield from self.sink.take()


def archive(tenant: Tenant) -> Iterator[bytes]:
    """The ZIP file in pieces of at most some MiB."""
    made, began = _Archive(), exported.moment(clock.now())
    about = README.format(name=tenant.name, id=tenant.public_id, at=began)
    yield from made.add("README.txt", [about.encode()])
    yield from made.add("tenant.json", [_json(exported.tenant(tenant), 2)])
    for table in exported.tables(tenant):
        yield from made.add(table.name, _together(_json(table.show(row)) for row in by_pk(table.rows)))
    notes: list[bytes] = []  # some 300 bytes a file, as ZipFile keeps of each too
    for file in by_pk(File.objects.filter(tenant=tenant)):
        content = yield from _content(made, file)
        notes.append(_json(_file(file) | {"content": content}))
    yield from made.add("files.jsonl", notes)
    listed = {"format": FORMAT, "tenant": tenant.public_id, "began_at": began, "ended_at": exported.moment(clock.now())}
    yield from made.add("manifest.json", [_json(listed | {"members": made.members}, 2)])
    yield from made.close()


def _content(made: _Archive, file: File) -> Generator[bytes, None, str]:
    """The file's bytes, as a member; returns what became of them."""
    if not file.storage_key or file.deleted_at:
        running = not file.deleted_at and Batch.objects.filter(output_file=file).exists()
        return "unfinished" if running else "gone"
    pieces = objects.chunks(file.storage_key)
    try:
        first = next(pieces, b"")
    except OSError as error:
        return "gone" if isinstance(error, FileNotFoundError) else "cut"
    read = _Read(chain([first], pieces))
    yield from made.add(f"files/{file.public_id}.jsonl", read, packed=False)
    return "whole" if read.bytes == file.bytes else "cut"


class _Read:
    """Pieces, as far as the storage gives them."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self.bytes = pieces, 0

    def __iter__(self) -> Iterator[bytes]:
        with suppress(OSError):
            for piece in self._pieces:
                self.bytes += len(piece)
                yield piece


def _file(file: File) -> dict[str, Any]:
    shown = {name: getattr(file, name) for name in ("purpose", "filename", "bytes", "lines", "sha256")}
    times = {name: exported.moment(getattr(file, name)) for name in ("created_at", "expires_at", "deleted_at")}
    return {"id": file.public_id, **shown, **times}


def _json(document: dict[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(document, indent=indent, default=str).encode() + b"\n"


def _together(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines in larger pieces."""
    held = bytearray()
    for line in lines:
        held += line
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    yield bytes(held)
