"""What OpenAI's SDK sends again on its own, without a key, counting its retries: one of it is done."""

import socket
import threading
from collections import Counter
from contextlib import nullcontext

import httpx
import pytest
from django.db import connection, transaction

from batches import intake, uploads
from batches.idempotency import Attempt, Replayed
from batches.models import Batch, Submission
from batches.uploads import Stored
from tenants import admission, keys
from tenants.models import ApiKey, Tenant
from tests.conftest import Person, until
from tests.test_idempotency import (
    MINUTES_11,
    RACERS,
    aged,
    clean,
    create,
    empty_storage,  # noqa: F401 - a fixture
    headers,
    made,
    race,
    raising,
    replayed,
    send,
    upload,
)
from tests.test_pause import code
from tests.test_retry_batch import stored
from tests.threads import ThreadPoolExecutor

pytestmark = pytest.mark.postgres_first


def test_a_retry_is_answered_with_what_its_first_attempt_made(owner: Person, outsider: Person) -> None:
    Tenant.objects.update(plan="reserved")
    first = made(send(owner, metadata='{"a": "b"}'))
    assert replayed(send(owner, metadata='{"a": "b"}', count=1)) == first
    assert replayed(send(owner, metadata='{"a": "b"}', count="02")) == first
    known = {first}
    for other in (
        send(owner, metadata='{"a": "b"}'),
        *(send(owner, metadata='{"a": "b"}', count=count) for count in ("0", "-1", "", "1.0", "x", "²", "1 1")),
    ):
        assert made(other) not in known, "no retry"
        known.add(made(other))
    for other in (
        send(owner, b"{}", metadata='{"a": "b"}', count=1),
        send(owner, metadata='{"a": "c"}', count=1),
        send(owner, metadata='{"a": "b"}', endpoint="/v1/embeddings", count=1),
        send(outsider, metadata='{"a": "b"}', count=1),
        send(owner._replace(key=keys.create(owner.tenant)[1]), metadata='{"a": "b"}', count=1),
        send(owner, key="k", metadata='{"a": "b"}', count=1),
    ):
        assert made(other) not in known, "not the same"
        known.add(made(other))
    aged(MINUTES_11)
    assert made(send(owner, metadata='{"a": "b"}', count=1)) not in known, "too late"
    assert clean()


def test_a_retry_needs_no_place_when_its_batch_is_there(owner: Person) -> None:
    Tenant.objects.update(batch_limit=1)
    first = made(send(owner))
    assert replayed(send(owner, count=1)) == first
    assert code(send(owner, b"[]\n", count=1), 429) == "concurrent_batch_limit_exceeded"
    assert clean()


def test_a_retry_of_what_was_refused_is_no_retry_of_what_was_made_before(owner: Person) -> None:
    first = made(send(owner))
    Tenant.objects.update(batch_limit=1)
    assert code(send(owner), 429) == "concurrent_batch_limit_exceeded"
    Tenant.objects.update(batch_limit=2)
    second = made(send(owner, count=1))
    assert second != first
    assert replayed(send(owner, count=2)) == second, "its answer was lost"


def test_the_same_when_the_lock_refuses_or_the_disk_is_full(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {made(send(owner))}
    for broken in (
        (intake, "check_room", lambda tenant: Tenant.objects.update(batch_limit=0)),
        (uploads.ToStorage, "file_complete", raising(OSError())),
    ):
        monkeypatch.setattr(*broken)
        assert send(owner).status_code in (429, 500)
        monkeypatch.undo()
        Tenant.objects.update(batch_limit=None)
        known.add(made(send(owner, count=1)))
    assert len(known) == 3


def test_refusals_of_others_are_not_of_this_one(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is told apart by its length when its body was not read, and a retry's refusal is none."""
    Tenant.objects.update(batch_limit=1)
    first = made(send(owner))
    colleague = owner._replace(key=keys.create(owner.tenant)[1])
    for refused in (send(owner, b"{} {}\n"), send(owner, b"[]\n", count=1), send(colleague)):
        assert code(refused, 429) == "concurrent_batch_limit_exceeded"
    monkeypatch.setattr(uploads.ToStorage, "file_complete", raising(OSError()))
    assert code(send(owner, count=1), 500) == "server_error"
    monkeypatch.undo()
    assert replayed(send(owner, count=2)) == first


def test_what_was_cancelled_or_deleted_has_been_seen(owner: Person) -> None:
    """A retry after that is of another attempt, which was lost on its way here."""
    first = made(send(owner))
    owner.post(f"/v1/batch/{first}/cancel")
    assert made(send(owner, count=1)) != first
    file = made(upload(owner))
    assert replayed(upload(owner, count=1)) == file
    owner.client.delete(f"/v1/files/{file}", headers={"Authorization": f"Bearer {owner.key}"})
    other = made(upload(owner, count=1))
    batch = made(create(owner, other))
    owner.post(f"/v1/batches/{batch}/cancel")
    assert made(create(owner, other, count=1)) != batch


# --- races, over the real web server ----------------------------------------------------------------------------------


def test_twenty_at_once_without_a_key_are_twenty(owner: Person, http: httpx.Client) -> None:
    """What the two races beside this one would show without their guard."""
    Tenant.objects.update(plan="reserved")
    assert len({made(answer) for answer in race(http, owner.key, lambda _: {})}) == RACERS


def test_twenty_retries_at_once(owner: Person, http: httpx.Client) -> None:
    Tenant.objects.update(plan="reserved")
    answers = race(http, owner.key, lambda number: headers(count=number + 1))
    assert Counter(answer.headers.get("Idempotent-Replayed") for answer in answers) == {None: 1, "true": RACERS - 1}
    assert len({answer.json()["id"] for answer in answers}) == Batch.objects.count() == 1
    assert len(stored()) == 1


def request_bytes(key: str, content: bytes) -> bytes:
    form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = form + content + b"\r\n--B--\r\n"
    head = f"POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
    kind = f"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + kind).encode() + body


def connected(http: httpx.Client) -> socket.socket:
    return socket.create_connection((http.base_url.host, http.base_url.port or 80))


def retry_over(http: httpx.Client, key: str, content: bytes) -> httpx.Response:
    sent = {"Authorization": f"Bearer {key}", **headers(count=1)}
    return http.post("/v1/batch", headers=sent, files={"file": ("a.jsonl", content)}, timeout=60)


def test_a_lost_answer_and_a_retry(owner: Person, http: httpx.Client) -> None:
    with connected(http) as lost:
        lost.sendall(request_bytes(owner.key, b"{}\n"))
        until(Submission.objects.exists)
    assert replayed(retry_over(http, owner.key, b"{}\n")) == Batch.objects.get().public_id


def test_a_retry_overtakes_its_first_attempt(owner: Person, http: httpx.Client) -> None:
    """The first attempt is still sending when its retry has made the batch: it joins it."""
    content = b"{}" + b" " * 500_000 + b"\n"
    whole = request_bytes(owner.key, content)
    with connected(http) as slow:
        slow.sendall(whole[:-20])
        until(stored)  # it is being read
        batch = made(retry_over(http, owner.key, content))
        slow.sendall(whole[-20:])
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert b"idempotent-replayed: true" in answer.lower() and batch.encode() in answer
    assert Batch.objects.count() == len(stored()) == 1
    assert made(send(owner, content)) != batch, "who begins afterwards means another one"


def submit_in_threads(owner: Person) -> int:
    """The race of retries without HTTP, so that the lock can be taken away; how many batches it makes."""
    gate, key = threading.Barrier(RACERS), ApiKey.objects.get()

    def submit(number: int) -> bool:
        attempt = Attempt(owner.tenant, key, "POST /v1/batch", retried=True)
        attempt.name("the same")
        gate.wait()
        try:
            intake.submit(attempt, Stored(f"inputs/{number}", "a", 3, 1, "0"), "/v1/embeddings", "{}")
        except Replayed:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(RACERS) as pool:
        return sum(pool.map(submit, range(RACERS)))


def test_the_lock_lets_one_retry_through(owner: Person) -> None:
    Tenant.objects.update(plan="reserved")
    assert submit_in_threads(owner) == 1


def test_retries_that_look_without_the_lock_make_several(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    Tenant.objects.update(plan="reserved")
    looked, match = threading.Barrier(RACERS), Attempt.match

    def together(attempt: Attempt) -> None:
        match(attempt)
        looked.wait()

    with monkeypatch.context() as patched:
        patched.setattr(admission, "lock", lambda tenant: Tenant.objects.get(pk=tenant))
        patched.setattr(Attempt, "match", together)
        if connection.vendor == "sqlite":  # there the lock is the transaction itself
            patched.setattr(transaction, "atomic", nullcontext)
        assert submit_in_threads(owner) == RACERS
