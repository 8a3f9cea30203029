"""The witness answers, misbehaves and remembers exactly as it says."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from tests.witness import ROOT, Witness, drain, request_line, wire
from tests.witness.faults import (
    BOMB_MEGABYTES,
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    RESPONSES,
    Step,
    embedding_of,
    lasting,
    marker_of,
    passing,
    script,
    scripted,
)

pytestmark = pytest.mark.sqlite_only  # no database in it

CLOSE = "Connection: close\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Witness]:
    with Witness() as witness:
        yield witness


@pytest.fixture
def witness(server: Witness) -> Iterator[Witness]:
    server.reset()
    yield server
    server.until(lambda stats: stats["in_flight"] == 0)


def ask(marker: str, *faults: str, headers: str = "", body: bytes | None = None) -> bytes:
    return wire(request_line(marker, faults=faults), headers, body)


def read_answer(sock: socket.socket) -> tuple[int, dict[str, Any]]:
    response = http.client.HTTPResponse(sock)
    response.begin()
    return response.status, json.loads(response.read())


def get(witness: Witness, path: str, **options: Any) -> httpx.Response:
    return httpx.request("GET", f"{witness.url}{path}", trust_env=False, **options)


def post(witness: Witness, marker: str, *faults: str, path: str = CHAT, **headers: str) -> httpx.Response:
    body = request_line(marker, faults=faults, url=path)["body"]
    return httpx.post(f"{witness.url}{path}", json=body, headers=headers, trust_env=False)


def test_scripts_are_read_from_the_text_and_consumed_in_order() -> None:
    steps = script(b'{"content": "line:a fault:500:2 fault:429:1:ra=-5 fault:sleep-20"}')
    assert steps == [Step("500", 2), Step("429", 1, "-5"), Step("sleep-20")]
    assert [scripted(steps[:2], n) for n in (1, 2, 3, 4)] == [steps[0], steps[0], steps[1], None]
    assert scripted(steps, 99) == steps[2]
    assert (marker_of(b"see line:a-1_B, line:c"), marker_of(b"nothing")) == ("line:a-1_B", "-")


def test_rates_are_repeatable_and_bounded() -> None:
    fates = [lasting(f"line:{n}", {"400": 0.02, "500": 0.03}, 7) for n in range(2000)]
    assert fates == [lasting(f"line:{n}", {"500": 0.03, "400": 0.02}, 7) for n in range(2000)]
    assert 20 <= fates.count("400") <= 65 and 30 <= fates.count("500") <= 95
    assert passing("line:x", {"500": 1.0}, 1, 30) == ["500"] * 3 + [None] * 27
    assert passing("line:x", {"500": 0.4}, 1, 9) == passing("line:x", {"500": 0.4}, 1, 30)[:9]


def test_request_line_builds_batch_input() -> None:
    line = request_line("a1", faults=["500:2", "fault:html"], pad=3, temperature=0)
    content = "line:a1 fault:500:2 fault:html xxx"
    body = {"model": "witness", "messages": [{"role": "user", "content": content}], "max_tokens": 16, "temperature": 0}
    assert line == {"custom_id": "a1", "method": "POST", "url": CHAT, "body": body}
    assert request_line("line:a1", custom_id="c") == request_line("a1", custom_id="c")
    with pytest.raises(ValueError, match="no marker"):
        request_line("a b")


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES])
def test_each_endpoint_has_its_shape(witness: Witness, path: str) -> None:
    answer, other = post(witness, "s1", "cached-3", path=path), post(witness, "s2", path=path).json()
    got, prompt, made = answer.json(), len(answer.request.content) // 4, 5 + len(answer.request.content) % 7
    assert got["model"] == "witness" and got["id"] != other["id"]
    one, two = ("input", "output") if path == RESPONSES else ("prompt", "completion")
    usage: dict[str, Any] = {f"{one}_tokens": prompt, f"{two}_tokens": made, "total_tokens": prompt + made}
    usage |= {f"{one}_tokens_details": {"cached_tokens": 3}, f"{two}_tokens_details": {"reasoning_tokens": 0}}
    assert got["usage"] == ({"prompt_tokens": prompt, "total_tokens": prompt} if path == EMBEDDINGS else usage)
    assert other["usage"].get(f"{one}_tokens_details", {"cached_tokens": 0}) == {"cached_tokens": 0}
    if path == EMBEDDINGS:
        assert got["data"] == [{"object": "embedding", "index": 0, "embedding": embedding_of("line:s1")}]
        three = httpx.post(f"{witness.url}{path}", json={"input": ["line:e", "b", "c"]}, trust_env=False).json()
        assert [item["embedding"] for item in three["data"]] == [embedding_of("line:e", n) for n in range(3)]
    elif path == RESPONSES:
        assert got["status"] == "completed" and got["output"][0]["content"][0]["text"] == "line:s1 ok"
    else:
        choice = got["choices"][0]
        assert (choice["message"]["content"] if path == CHAT else choice["text"]) == "line:s1 ok"
        assert choice["finish_reason"] == "stop"


def test_the_log_tells_what_was_received(witness: Witness) -> None:
    sent = ask("log1", "500:1", headers="authorization: Bearer k\r\nUSER-AGENT: ua/1\r\n")
    with witness.connect(sent) as sock:
        assert read_answer(sock)[0] == 500
        sock.sendall(sent)
        assert read_answer(sock)[0] == 200
    assert post(witness, "log2").status_code == 200
    one, two, three = witness.log()
    assert (one.status, one.fault, two.status, two.fault) == ("500", "500", "200", None)
    assert [(e.n, e.marker[5:], e.attempt) for e in witness.log()] == [(1, "log1", 1), (2, "log1", 2), (3, "log2", 1)]
    assert one.connection == two.connection != three.connection
    assert (two.authorization, two.user_agent, two.path, two.in_flight) == ("Bearer k", "ua/1", CHAT, 1)
    assert two.body_sha256 == hashlib.sha256(sent.partition(b"\r\n\r\n")[2]).hexdigest()
    assert two.done_at is not None and time.time() - 5 < two.at <= two.done_at <= time.time()
    assert witness.requests_by_marker() == {"line:log1": 2, "line:log2": 1}
    stats = witness.stats()
    assert (stats["requests"], stats["markers"], stats["peak_in_flight"]) == (3, 2, 1)
    assert (stats["first_at"], stats["last_at"]) == (one.at, three.done_at)


def test_side_routes_and_wrong_requests(witness: Witness) -> None:
    assert get(witness, "/v1/models").json()["data"][0]["id"] == "witness"
    assert [get(witness, path).status_code for path in (CHAT, "/v1/nothing", "/witness/nothing")] == [405, 404, 404]
    wrong = {
        b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 411,
        b"HELLO\r\n\r\n": 400,
        b"POST /v1/responses HTTP/1.1\r\nContent-Length: -1\r\n\r\n": 400,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000: 431,
        ask("w", body=b"[]"): 400,
        ask("w", body=b'{"a": '): 400,
    }
    for data, status in wrong.items():
        with witness.connect(data) as sock:
            assert read_answer(sock)[0] == status
    assert witness.statuses() == ["200", "405", "404", "400", "400"]
    assert (witness.stats()["malformed"], witness.stats()["peak_in_flight"]) == (4, 1)


def test_bytes_are_taken_in_order_however_they_come(witness: Witness) -> None:
    with witness.connect(ask("p1", "sleep-60") + ask("p2") + ask("p3", headers=CLOSE)) as sock:
        got = drain(sock)[0]
    assert [part.partition(b" ok")[0] for part in got.split(b'"content":"')[1:]] == [b"line:p1", b"line:p2", b"line:p3"]
    data = ask("p4", headers=f"Expect: 100-continue\r\n{CLOSE}")
    cut = data.index(b"\r\n\r\n") + 4
    with witness.connect() as sock:
        for byte in data[:cut]:
            sock.sendall(bytes([byte]))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for byte in data[cut:]:
            sock.sendall(bytes([byte]))
        got, was_reset = drain(sock)
    assert got.startswith(b"HTTP/1.1 200") and got.endswith(b"}") and not was_reset
    assert witness.stats()["peak_in_flight"] == 1


def test_statuses_and_retry_after(witness: Witness) -> None:
    scripts = ["500:1", "429:1:ra=1", "503:1:ra=date", "429:1:ra=-5", "429:1:ra=abc", "banana:1", "204:1"]
    answers = [post(witness, "r1", *scripts) for _ in range(8)]
    assert [a.status_code for a in answers] == [500, 429, 503, 429, 429, 501, 204, 200]
    assert [a.headers.get("retry-after") for a in (answers[0], answers[1], *answers[3:5])] == [None, "1", "-5", "abc"]
    date = parsedate_to_datetime(answers[2].headers["retry-after"]).timestamp()
    assert 2 <= date - witness.log()[2].at <= 3
    assert answers[1].json()["error"]["type"] == "rate_limit_error" and "line:r1" in answers[0].text
    assert witness.statuses()[-3:] == ["unknown-fault", "204", "200"]


@pytest.mark.parametrize("kind", ["html", "empty", "null", "no-choices", "no-usage", "invalid-json", "nan", "die"])
def test_wrong_bodies(witness: Witness, kind: str) -> None:
    answer, well = post(witness, "b1", f"{kind}:1"), post(witness, "b1", f"{kind}:1")
    text = answer.text
    holds = {
        "html": answer.headers["content-type"].startswith("text/html") and "<h1>" in text,
        "empty": answer.content == b"" and answer.headers["content-length"] == "0",
        "null": text == "null",
        "no-choices": '"usage"' in text and '"choices"' not in text,
        "no-usage": '"usage"' not in text and '"choices"' in text,
        "invalid-json": text == '{"choices": [',
        "nan": text.endswith(',"score":NaN}'),
        "die": '"usage"' in text and '"choices"' in text,
    }
    assert answer.status_code == 200 and holds[kind] and "line:b1 ok" in well.text
    assert witness.statuses() == [kind, "200"]


@pytest.mark.parametrize(("kind", "value"), [("negative", -5), ("string", "12"), ("huge", 1e30), ("float", 1.5)])
def test_wrong_usage(witness: Witness, kind: str, value: object) -> None:
    assert post(witness, "u1", f"usage-{kind}").json()["usage"]["prompt_tokens"] == value
    assert post(witness, "u1", f"usage-{kind}", path=RESPONSES).json()["usage"]["input_tokens"] == value


def test_resets_and_truncations_on_the_wire(witness: Witness) -> None:
    got = {}
    for kind in ("reset", "reset-headers", "reset-body", "truncate", "truncate-chunked"):
        with witness.connect(ask("t1", kind)) as sock:
            got[kind] = drain(sock)
    assert witness.statuses() == list(got) and witness.stats()["in_flight"] == 0
    assert [was_reset for _, was_reset in got.values()] == [True, True, True, False, False]
    nothing, head, cut, short, chunked = (data for data, _ in got.values())
    assert nothing == b"" and head.startswith(b"HTTP/1.1 200") and b"\r\n\r\n" not in head
    assert b'\r\n\r\n{"id"' in cut and not cut.endswith(b"}")
    head, _, body = short.partition(b"\r\n\r\n")
    assert int(head.rpartition(b" ")[2]) == len(body) + 100 and json.loads(body)
    assert b"Transfer-Encoding: chunked" in chunked and chunked.endswith(b"}\r\n")


def test_slow_answers_and_clients_that_leave(witness: Witness) -> None:
    kinds = ["drip", "slow-headers", "hang", "endless"]
    socks = [witness.connect(ask("d1", kind)) for kind in kinds]
    witness.until(lambda stats: stats["in_flight"] == 4)
    assert witness.statuses() == [None] * 4
    time.sleep(1.2)
    assert socks[0].recv(9999).endswith(b"\r\n\r\n{") and socks[1].recv(9999).endswith(b"X-a")
    socks[2].setblocking(False)
    with pytest.raises(BlockingIOError):
        socks[2].recv(1)
    assert sum(len(socks[3].recv(65536)) for _ in range(40)) > 100_000
    for sock in socks:
        sock.close()
    witness.until(lambda stats: stats["in_flight"] == 0)
    assert [(e.status, e.fault) for e in witness.log()] == [("gone", kind) for kind in kinds]
    assert all(e.done_at and e.done_at - e.at > 1 for e in witness.log())


def test_the_gzip_bomb_expands_to_300_megabytes(witness: Witness) -> None:
    with witness.connect(ask("g1", "gzip-bomb", headers=CLOSE)) as sock:
        head, _, data = drain(sock)[0].partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head and len(data) < 500_000
    expander, size = zlib.decompressobj(31), 0
    while data and not expander.eof:
        size += len(expander.decompress(data, 2**22))
        data = expander.unconsumed_tail
    assert expander.eof and size == BOMB_MEGABYTES * 2**20


def test_redirect_duplicate_and_drop_reused(witness: Witness) -> None:
    assert get(witness, post(witness, "q1", "redirect").headers["location"]).status_code == 200
    with witness.connect(ask("v1", "duplicate", headers=CLOSE)) as sock:
        assert drain(sock)[0].count(b"HTTP/1.1 200 OK") == 2
    with witness.connect(ask("v2", "drop-reused")) as sock:
        assert read_answer(sock)[0] == 200
        sock.sendall(ask("v2", "drop-reused"))
        assert drain(sock) == (b"", False)
    assert witness.statuses() == ["redirect", "200", "duplicate", "200", "drop-reused"]
    assert witness.requests_by_marker() == {"line:q1": 1, "trap": 1, "line:v1": 1, "line:v2": 2}


def test_latency_slots_and_samples(witness: Witness) -> None:
    witness.configure(latency_ms=[80, 80], slots=2, samples=True)
    socks = [witness.connect(ask(f"l{n}")) for n in range(3)]
    witness.until(lambda stats: stats["requests"] == 3)
    assert sorted(read_answer(sock)[0] for sock in socks) == [200, 200, 429]
    for sock in socks:
        sock.close()
    log, stats = witness.log(), witness.stats()
    assert sorted(e.in_flight for e in log) == [1, 2, 3] and stats["peak_in_flight"] == 3
    assert all((e.done_at or 0) - e.at > 0.075 for e in log if e.status == "200")
    assert [n for _, n in stats["in_flight_samples"]] == [1, 2, 3, 2, 1, 0]
    assert post(witness, "l9", "sleep-150").elapsed.total_seconds() > 0.22


def test_a_required_key(witness: Witness) -> None:
    witness.configure(required_key="secret")
    assert [post(witness, "k").status_code, post(witness, "k", Authorization="Bearer secret").status_code] == [401, 200]
    assert get(witness, "/v1/models").status_code == 401
    assert [(e.status, e.auth_ok) for e in witness.log()] == [("401", False), ("200", True), ("401", False)]


def test_down_and_up_again(witness: Witness) -> None:
    with witness.connect(ask("o1", "hang")) as busy:
        witness.until(lambda stats: stats["in_flight"] == 1)
        witness.configure(down=True)
        assert drain(busy)[0] == b"" and witness.statuses() == ["down"]
    with witness.connect(ask("o2")) as sock:
        assert drain(sock)[0] == b""
    assert (witness.stats()["refused"], witness.stats()["requests"]) == (1, 1)
    witness.configure(down=False)
    assert post(witness, "o3").status_code == 200


def test_the_rates_do_what_the_pure_functions_foretell(witness: Witness) -> None:
    rates, forever = {"500": 0.2, "429": 0.2, "reset": 0.1, "truncate": 0.1}, {"400": 0.1}
    witness.configure(fault_rates=rates, lasting_rates=forever, seed=11)
    fates, plans = {}, {}
    for marker in (f"line:m{number}" for number in range(60)):
        fates[marker], plans[marker] = lasting(marker, forever, 11), passing(marker, rates, 11, 10)
        for _ in range(5):
            with witness.connect(ask(marker, headers=CLOSE)) as sock:
                drain(sock)
    assert 0 < len([fate for fate in fates.values() if fate]) < 20
    for e in witness.log():
        assert e.status == (fates[e.marker] or plans[e.marker][e.attempt - 1] or "200")
    assert witness.plan("line:m7") == {"marker": "line:m7", "lasting": fates["line:m7"], "passing": plans["line:m7"]}


def test_reset_and_configure(witness: Witness) -> None:
    def completion_tokens() -> int:
        return int(post(witness, "z1").json()["usage"]["completion_tokens"])

    witness.configure(log=False, tokens=40)
    assert (completion_tokens(), witness.log(), witness.requests_by_marker()) == (40, [], {"line:z1": 1})
    witness.reset(keep_settings=True)
    assert (witness.requests_by_marker(), completion_tokens()) == ({}, 40)
    witness.reset()
    assert completion_tokens() < 12 and len(witness.log()) == 1
    for wrong in ({"latencyms": 3}, {"fault_rates": {"banana": 0.1}}, {"latency_ms": [3, 1]}):
        with pytest.raises(ValueError, match="witness"):
            witness.configure(**wrong)


def test_it_ends_with_its_stdin_its_parent_or_a_signal() -> None:
    by_stdin, by_signal = Witness(port=0, slots=3), Witness(tokens=2, latency_ms=(1, 2))
    parent = "import subprocess as s, sys, time; s.Popen([sys.executable, '-m', 'tests.witness'], stdin=s.DEVNULL)"
    command = [sys.executable, "-c", f"{parent}; time.sleep(60)"]
    orphan = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert orphan.stdout is not None and by_stdin.process.stdin is not None
    assert json.loads(orphan.stdout.readline())["port"]
    by_stdin.process.stdin.close()
    by_signal.process.terminate()
    orphan.kill()
    assert (by_stdin.process.wait(3), by_signal.process.wait(3), orphan.wait(3)) == (0, 0, -9)
    assert orphan.communicate(timeout=3)[0] == b""
    by_stdin.stop()
    by_signal.stop()
