"""Large and broken uploads and downloads against the real web server: cut at the limit, with flat memory."""

import hashlib
import itertools
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from batches.core.states import Status
from batches.models import Batch, File
from batches.uploads import MAX_BYTES
from tests.conftest import Person, until

MB = 1024 * 1024


def peak_memory(web_server: str) -> int:
    """Peak resident bytes of the web server's processes."""
    port = web_server.rpartition(":")[2]
    total = 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"\0{port}\0".encode() in (entry / "cmdline").read_bytes():
                line = next(line for line in (entry / "status").read_text().splitlines() if line.startswith("VmHWM"))
                total += int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            continue
    assert total > 10 * MB, "the web server was not found"
    return total


def multipart(size: int) -> tuple[bytes, bytes, int]:
    """Head and tail of a form whose file has `size` bytes, and the length of it all."""
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n'
    tail = b"\r\n--B--\r\n"
    return head, tail, len(head) + size + len(tail)


def send(http: httpx.Client, key: str, size: int, length: int | None = None) -> httpx.Response:
    head, tail, whole = multipart(size)

    def body() -> Iterator[bytes]:
        yield head
        for start in range(0, size, MB):
            yield b"x" * min(MB, size - start)
        yield tail

    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "multipart/form-data; boundary=B",
        "Content-Length": str(length or whole),
    }
    return http.post("/v1/batch", content=body(), headers=headers, timeout=60)


@pytest.mark.sqlite_first
def test_a_hundred_megabytes_and_not_a_byte_more(owner: Person, http: httpx.Client, web_server: str) -> None:
    send(http, owner.key, MB)
    start = peak_memory(web_server)
    taken = send(http, owner.key, MAX_BYTES)
    assert (taken.status_code, taken.json()["total_requests"]) == (200, 1)
    refused = send(http, owner.key, MAX_BYTES + 1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "file_too_large")
    far_too_large = send(http, owner.key, 2 * MAX_BYTES)
    assert far_too_large.status_code == 413
    grown = peak_memory(web_server) - start
    print(f"web server memory grew by {grown / MB:.1f} MB over uploads of 100 MB, 100 MB + 1 and 200 MB")
    assert grown <= 32 * MB
    assert sorted(File.objects.values_list("bytes", flat=True)) == [MB, MAX_BYTES]


@pytest.mark.sqlite_first
def test_a_hundred_megabytes_download_flat(owner: Person, http: httpx.Client, web_server: str) -> None:
    made = send(http, owner.key, MAX_BYTES).json()["id"]
    Batch.objects.update(status=Status.COMPLETED, results_file=File.objects.get())
    send(http, owner.key, 10)
    start = peak_memory(web_server)
    digest = hashlib.sha256()
    with http.stream(
        "GET",
        f"/v1/batch/{made}/output",
        headers={"Authorization": f"Bearer {owner.key}", "Accept-Encoding": "identity"},
    ) as answer:
        for piece in answer.iter_raw():
            digest.update(piece)
    assert digest.hexdigest() == File.objects.get(bytes=MAX_BYTES).sha256
    assert peak_memory(web_server) - start <= 32 * MB


def raw(web_server: str, key: str, lengths: str, pieces: Iterable[bytes]) -> tuple[bytes, int]:
    """The answer to an upload of these pieces under header lines of our own, and how many bytes were taken from us."""
    host, port = web_server.removeprefix("http://").split(":")
    head = f"POST /v1/batch HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    head += f"Content-Type: multipart/form-data; boundary=B\r\n{lengths}\r\n"
    taken, answer = 0, b""
    with socket.create_connection((host, int(port)), 20) as client:
        client.sendall(head.encode())
        with suppress(OSError):  # cut
            for piece in pieces:
                client.sendall(piece)
                taken += len(piece)
        with suppress(ConnectionResetError):
            while piece := client.recv(65536):
                answer += piece
    return answer, taken


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("length", "starts", "answer"),
    [(10 << 30, True, b"file_too_large"), (10 << 30, False, b"file_too_large"), (1000, True, b"missing_file")],
)
def test_ten_gigabytes_are_not_taken(
    owner: Person, http: httpx.Client, web_server: str, length: int, starts: bool, answer: bytes
) -> None:
    """Whether the length is true or a lie, with or without a proper form: cut at once, with flat memory."""
    send(http, owner.key, MB)
    start, before = peak_memory(web_server), stored()
    pieces = itertools.chain([multipart(1)[0]] if starts else [], (b"x" * MB for _ in range(10 << 10)))
    got, taken = raw(web_server, owner.key, f"Content-Length: {length}\r\n", pieces)
    grown = peak_memory(web_server) - start
    print(f"10 GB as Content-Length {length}: cut after {taken / MB:.0f} MB, memory grew by {grown / MB:.1f} MB")
    assert answer in got or not got, got  # what is cut amid its sending may not read its answer
    assert taken <= 64 * MB and grown <= 8 * MB
    assert stored() == before and Batch.objects.count() == 1


LIES = [
    "", "Content-Length: 0", "Content-Length: -1", "Content-Length: +{0}", "Content-Length: 0x400", "Content-Length: 1e3",
    "Content-Length: {0}, {0}", "Content-Length: {0}\r\nContent-Length: {1}", "Content-Length: {2}", "Content-Length: ١٢",
    "Content-Length: {0}\r\nTransfer-Encoding: chunked", "Content-Length: {1}", "Content-Length:",
]  # fmt: skip


@pytest.mark.sqlite_only
@pytest.mark.parametrize("lie", LIES)
def test_a_length_that_is_a_lie_stores_nothing(owner: Person, web_server: str, lie: str) -> None:
    head, tail, whole = multipart(1000)
    lengths = lie.format(whole, whole - 500, "9" * 30)
    before = stored()
    answer, _ = raw(web_server, owner.key, lengths + "\r\n" if lengths else "", [head + b"x" * 1000 + tail])
    assert answer.split(b" ")[1] in (b"400", b"411", b"413"), answer
    until(lambda: stored() == before)
    assert not Batch.objects.exists()


@pytest.mark.sqlite_only
@pytest.mark.parametrize("path", ["/v1/batch", "/v1/batches"])
@pytest.mark.parametrize("length", ["\u00b2", "9" * 5000])
def test_digits_that_python_reads_no_number_from_are_refused(owner: Person, path: str, length: str) -> None:
    """Our web server takes none of them; another one may."""
    headers = {"Authorization": f"Bearer {owner.key}", "Content-Length": length}
    answer = owner.client.post(path, {}, headers=headers)
    assert answer.status_code in (411, 413), answer.content


def stored() -> set[Path]:
    files = Path(os.environ["PROVOCATIVE_HOME"]) / "files" / "inputs"
    return {path for path in files.rglob("*") if path.is_file()}


def test_a_connection_that_ends_early_stores_nothing(owner: Person, web_server: str) -> None:
    before = stored()
    head, _, whole = multipart(MB)
    host, port = web_server.removeprefix("http://").split(":")
    request = (
        f"POST /v1/batch HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {owner.key}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {whole}\r\n\r\n"
    ).encode()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(request + head + b"x" * 1000)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert b"incomplete_upload" in answer or answer == b""
    until(lambda: stored() == before)
    assert not Batch.objects.exists()


def test_chunked_uploads_are_told_what_to_do(owner: Person, http: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {owner.key}", "Content-Type": "multipart/form-data; boundary=B"}
    answer = http.post("/v1/batch", content=iter([b"--B"]), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (411, "length_required")


def test_chunked_json_is_told_what_to_do(owner: Person, http: httpx.Client) -> None:
    headers = {"Authorization": f"Bearer {owner.key}", "Content-Type": "application/json"}
    answer = http.post("/v1/batches", content=iter([b"{}"]), headers=headers)
    assert answer.status_code == 413 and "Content-Length" in answer.json()["error"]["message"]


def test_a_refused_key_is_answered_before_the_body_is_read(http: httpx.Client, transactional_db: None) -> None:
    answer = send(http, "pk-prov-none", 20 * MB)
    assert answer.status_code == 401
