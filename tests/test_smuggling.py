"""Where a request ends is beyond doubt: of two ways to say so the real web server takes none, and ends the connection."""

import socket

import pytest

pytestmark = pytest.mark.sqlite_only

FIVE, NONE = b"12345", b"0\r\n\r\n"
INNER = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"  # hidden in what stands before
TAKEN = [("Content-Length: 5", FIVE), ("Transfer-Encoding: chunked", NONE), ("X-Nothing: at all", b"")]
DOUBTFUL = [
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", NONE),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", NONE),
    ("Content-Length: 0\r\nContent-Length: 5", FIVE),
    ("Content-Length: 5, 0", FIVE),
    ("Content-Length: +5", FIVE),
    ("Content-Length : 5", FIVE),
    ("X-Folded: y\r\n Content-Length: 5", FIVE),
    ("Transfer-Encoding: chunked, identity", NONE),
    ("Transfer-Encoding: xchunked", NONE),
    ("Transfer-Encoding: \x0bchunked", NONE),
    ("Transfer-Encoding: chunked", b"0 5\r\n\r\n"),
    ("Transfer-Encoding: chunked", b"-1\r\nx"),
    ("Transfer-Encoding: chunked", b"f" * 17 + b"\r\nx"),
]


def answers(web_server: str, method: str, framing: str, body: bytes) -> tuple[int, bool]:
    """How many there are to a request with INNER behind it, and whether the server ended the connection."""
    host, _, port = web_server.removeprefix("http://").partition(":")
    head = f"{method} /healthz HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()
    said, ended = b"", True
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(head + body + INNER)
        try:
            while more := wire.recv(65_536):
                said += more
                wire.settimeout(0.3)
        except ConnectionResetError:
            pass
        except TimeoutError:
            ended = False
    return said.count(b"HTTP/1.1 "), ended


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_request_hides_in_another(web_server: str, transactional_db: None, method: str) -> None:
    assert [answers(web_server, method, *each) for each in TAKEN] == [(2, False)] * 3, "a second one is answered"
    found = [(*each, *answers(web_server, method, *each)) for each in DOUBTFUL]
    assert [each for each in found if each[2:] != (1, True)] == []
