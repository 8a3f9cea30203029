"""A POST that is sent again with its Idempotency-Key is done once; and what may fail when it has been done."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection, connections

from batches import idempotency, intake, lifecycle, objects, retries, sweeping, tasks
from batches.engine import runner
from batches.idempotency import Attempt
from batches.models import Batch, File, Submission
from batches.uploads import Stored
from tenants.errors import Refused
from tenants.models import ApiKey, Tenant
from tests.conftest import Person, step
from tests.test_engine import numbered
from tests.test_pause import code, paused
from tests.test_retry_batch import cancelled, stored
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness

pytestmark = pytest.mark.postgres_first

RACERS = 20
MINUTES_11, HOURS_25 = timedelta(minutes=11), timedelta(hours=25)


def send(owner: Person, content: bytes = b"{}\n", key: str | None = None, count: Any = None, **fields: str) -> Any:
    """Submit `content`, with this Idempotency-Key, as this retry of an SDK."""
    return owner.post("/v1/batch", {"file": SimpleUploadedFile("a", content), **fields}, **headers(key, count))


def upload(owner: Person, content: bytes = b"{}\n", key: str | None = None, count: Any = None, **fields: str) -> Any:
    """Store `content` as a file."""
    form = {"file": SimpleUploadedFile("a", content), "purpose": "batch", **fields}
    return owner.post("/v1/files", form, **headers(key, count))


def create(owner: Person, file: str, key: str | None = None, count: Any = None, **fields: Any) -> Any:
    """A batch of a file, on the OpenAI surface."""
    body = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **fields}
    sent = {"Authorization": f"Bearer {owner.key}", **headers(key, count)}
    return owner.client.post("/v1/batches", body, content_type="application/json", headers=sent)


def headers(key: str | None = None, count: Any = None) -> dict[str, str]:
    sent = {"Idempotency-Key": key, "x-stainless-retry-count": None if count is None else str(count)}
    return {name: value for name, value in sent.items() if value is not None}


def made(answer: Any) -> str:
    """The id of a batch that this request made."""
    assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (200, None), answer.content
    return str(answer.json()["id"])


def replayed(answer: Any) -> str:
    """The id of a batch that another request made."""
    assert (answer.status_code, answer.headers.get("Idempotent-Replayed")) == (200, "true"), answer.content
    return str(answer.json()["id"])


def aged(by: timedelta) -> None:
    """Let all that is remembered grow older."""
    for row in Submission.objects.all():
        Submission.objects.filter(pk=row.pk).update(created_at=row.created_at - by)


def clean() -> bool:
    """No more files, rows or objects than the batches have."""
    return stored() == set(File.objects.values_list("storage_key", flat=True)) and (
        File.objects.count() == Batch.objects.count()
    )


@pytest.fixture(autouse=True)
def empty_storage(transactional_db: None) -> None:
    for key in stored() | stored("results"):
        objects.delete(key)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


# --- by a key ---------------------------------------------------------------------------------------------------------


def test_the_same_key_is_the_same_batch_as_it_is_now(owner: Person, outsider: Person) -> None:
    first = made(send(owner, key="k", metadata='{"a": "b"}'))
    owner.post(f"/v1/batch/{first}/cancel")
    again = send(owner, key="k", metadata='{"a": "b"}')
    assert replayed(again) == first
    assert again.json() == owner.batch(first)
    assert again.json()["status"] != "validating"
    assert made(send(owner, key="K", metadata='{"a": "b"}')) != first, "another key"
    assert made(send(outsider, key="k", metadata='{"a": "b"}')) != first, "another tenant's key"
    assert clean()


@pytest.mark.sqlite_only
def test_a_key_of_another_request_is_refused(owner: Person) -> None:
    first = made(send(owner, key="k"))
    assert code(send(owner, b"{} \n", key="k"), 422) == "idempotency_key_reused"
    for other in ({"metadata": '{"a": ""}'}, {"endpoint": "/v1/embeddings"}, {"max_cost_usd": "1"}):
        assert code(send(owner, key="k", **other), 422) == "idempotency_key_reused"  # type: ignore[arg-type]
    assert code(owner.post(f"/v1/batch/{first}/cancel", **headers("k")), 422) == "idempotency_key_reused"
    assert replayed(send(owner, key="k", metadata="{}", on_invalid_line="fail")) == first, "the defaults, spelled out"
    assert owner.batch(first)["status"] == "validating"
    assert clean()


def test_files_and_batches_of_openais_surface(owner: Person) -> None:
    file = made(upload(owner, key="f"))
    assert replayed(upload(owner, key="f")) == file
    assert code(upload(owner, b"[]", key="f"), 422) == "idempotency_key_reused"
    keep: dict[str, Any] = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    assert code(upload(owner, key="f", **keep), 422) == "idempotency_key_reused"
    batch = made(create(owner, file, key="b", metadata={"a": "b"}))
    assert replayed(create(owner, file, key="b", metadata={"a": "b"})) == batch
    assert code(create(owner, file, key="b"), 422) == "idempotency_key_reused"
    assert code(create(owner, file, key="f"), 422) == "idempotency_key_reused"
    assert made(owner.post(f"/v1/batches/{batch}/cancel", **headers("c"))) == batch
    again = owner.post(f"/v1/batches/{batch}/cancel", **headers("c"))
    assert replayed(again) == batch and again.json() == owner.get(f"/v1/batches/{batch}").json()
    assert (File.objects.count(), Batch.objects.count(), len(stored())) == (1, 1, 1)


@pytest.mark.sqlite_only
def test_what_is_no_key(owner: Person) -> None:
    for key in ("", "x" * 256, "é", "a\tb", "\x7f"):
        assert code(send(owner, key=key), 400) == "invalid_idempotency_key"
    assert made(send(owner, key=" ~" + "x" * 253))


@pytest.mark.sqlite_only
def test_what_was_refused_is_not_kept(owner: Person) -> None:
    for refused in ({"metadata": "["}, {"nonsense": "1"}, {"max_cost_usd": "-1"}):
        assert send(owner, key="k", **refused).status_code == 400  # type: ignore[arg-type]
    assert owner.post("/v1/batch", {"a": "b"}, **headers("k")).status_code == 400
    assert owner.post("/v1/batch/batch_0/retry", **headers("k")).status_code == 404
    assert not Submission.objects.exists()
    assert made(send(owner, key="k"))


def test_a_key_in_hand_is_refused_until_its_request_seems_dead(owner: Person) -> None:
    owner_key = ApiKey.objects.get()
    with Attempt(owner.tenant, owner_key, "POST /v1/batch", key="k") as asleep:
        answer = send(owner, key="k")
        assert (code(answer, 409), answer["Retry-After"]) == ("idempotency_key_in_use", "2")
        aged(MINUTES_11)
        first = made(send(owner, key="k"))
        with pytest.raises(Refused) as caught:
            intake.submit(asleep, Stored("inputs/0", "a", 3, 1, "0"), "/v1/embeddings", "{}")
        assert caught.value.code == "idempotency_key_in_use"
    assert replayed(send(owner, key="k")) == first
    assert Batch.objects.count() == File.objects.count() == 1


def test_one_of_two_takes_a_dead_reservation_over(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    owner_key = ApiKey.objects.get()
    Attempt(owner.tenant, owner_key, "POST /v1/batch", key="k").__enter__()
    aged(MINUTES_11)
    seen, judge = threading.Barrier(2), idempotency._is_over

    def together(*args: Any) -> bool:
        over = judge(*args)
        if over:
            seen.wait()
        return over

    def reserve(_: int) -> int:
        try:
            Attempt(owner.tenant, owner_key, "POST /v1/batch", key="k").__enter__()
        except Refused as refused:
            return refused.status
        finally:
            connection.close()
        return 200

    monkeypatch.setattr(idempotency, "_is_over", together)
    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(reserve, range(2))) == [200, 409]


def test_a_key_is_kept_for_a_day(owner: Person) -> None:
    first = made(send(owner, key="k"))
    aged(HOURS_25 - timedelta(hours=2))
    sweeping.sweep()
    assert replayed(send(owner, key="k")) == first
    aged(timedelta(hours=2))
    assert made(send(owner, b"{}", key="k")) != first, "free again, also before it is swept"
    made(send(owner))
    aged(MINUTES_11)
    sweeping.sweep()
    assert [row.key for row in Submission.objects.all()] == ["k"]
    aged(HOURS_25)
    sweeping.sweep()
    assert not Submission.objects.exists()


def test_a_repetition_needs_no_place(owner: Person) -> None:
    Tenant.objects.update(batch_limit=1)
    first = made(send(owner, key="k"))
    second = send(owner, key="other")
    assert code(second, 429) == "concurrent_batch_limit_exceeded"
    assert replayed(send(owner, key="k")) == first
    assert Submission.objects.count() == 1


def test_actions_are_done_once(owner: Person, witness: Witness) -> None:
    batch = paused(owner)
    path = f"/v1/batch/{batch.public_id}/resume"
    assert code(owner.post(path, **headers("r")), 409) == "cost_limit_reached"
    assert made(owner.post(path, {"max_cost_usd": "5"}, **headers("r"))) == batch.public_id
    assert lifecycle.pause(batch.pk, "max_cost_usd")
    again = owner.post(path, {"max_cost_usd": "5.0"}, **headers("r"))
    assert replayed(again) == batch.public_id
    assert again.json()["paused_reason"] == "max_cost_usd", "it is not resumed again"
    assert code(owner.post(path, {"max_cost_usd": "6"}, **headers("r")), 422) == "idempotency_key_reused"
    assert owner.post(path, **headers(count=1)).json()["paused_reason"] is None, "without a key it is"
    cancel = f"/v1/batch/{batch.public_id}/cancel"
    assert made(owner.post(cancel, **headers("c"))) == replayed(owner.post(cancel, **headers("c")))
    assert code(owner.post(path, **headers("late")), 409) == "batch_not_paused"
    assert set(Submission.objects.exclude(key="").values_list("key", "state")) == {("r", "kept"), ("c", "kept")}


def test_a_batch_is_retried_once(owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = cancelled(owner, 3)
    path = f"/v1/batch/{batch.public_id}/retry"
    keyed = made(owner.post(path, {"max_cost_usd": "5"}, **headers("k")))
    assert replayed(owner.post(path, {"max_cost_usd": "5.0"}, **headers("k"))) == keyed
    assert code(owner.post(path, **headers("k")), 422) == "idempotency_key_reused"
    lost = made(owner.post(path))
    copied: list[Any] = []
    monkeypatch.setattr(retries, "_store", copied.append)
    assert replayed(owner.post(path, **headers(count=1))) == lost
    assert not copied
    monkeypatch.undo()
    assert made(owner.post(path)) not in (keyed, lost)
    assert stored() == set(File.objects.filter(purpose="batch").values_list("storage_key", flat=True))


def race(http: httpx.Client, key: str, sent: Callable[[int], dict[str, str]]) -> list[httpx.Response]:
    """The same submission from all racers at once; `sent` are the headers of each."""
    gate = threading.Barrier(RACERS)

    def submit(number: int) -> httpx.Response:
        files = {"file": ("a.jsonl", b"{}\n")}
        gate.wait()
        return http.post(
            "/v1/batch", headers={"Authorization": f"Bearer {key}", **sent(number)}, files=files, timeout=60
        )

    with ThreadPoolExecutor(RACERS) as pool:
        return list(pool.map(submit, range(RACERS)))


def test_a_key_twenty_times_at_once(owner: Person, http: httpx.Client) -> None:
    Tenant.objects.update(plan="reserved")
    answers = race(http, owner.key, lambda _: headers("k"))
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 200}
    codes = Counter(answer.json()["error"]["code"] for answer in answers if answer.status_code != 200)
    assert len(ids) == Batch.objects.count() == 1
    assert set(codes) <= {"idempotency_key_in_use"}
    later = race(http, owner.key, lambda _: headers("k"))
    assert {replayed(answer) for answer in later} == ids
    assert Batch.objects.count() == File.objects.count() == len(stored()) == 1


# --- the commit, and what follows it ----------------------------------------------------------------------------------


def test_a_submission_that_fails_in_its_transaction_leaves_nothing(
    owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "ring_validate", raising(OperationalError("the database went away")))
    for key in ("k", None):
        assert code(send(owner, key=key), 500) == "server_error"
    assert not Batch.objects.exists() and not Submission.objects.exists()
    monkeypatch.undo()
    assert made(send(owner, key="k")) != made(send(owner, count=1))


@contextmanager
def gone_after_the_commit() -> Iterator[list[str]]:
    """From the commit of a batch or file on, the database answers nothing more; what it was asked."""
    asked: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not connection.in_atomic_block and asked:
            asked.append(sql)
            raise OperationalError("the database went away")
        if sql.startswith(('INSERT INTO "batches_batch"', 'INSERT INTO "batches_file"')) and not asked:
            asked.append("to insert it")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield asked


def test_after_the_commit_nothing_is_asked_any_more(owner: Person, witness: Witness) -> None:
    path = f"/v1/batch/{cancelled(owner, 2).public_id}/retry"
    caps = {"max_cost_usd": "1.5", "max_error_rate": "0.25"}
    asks: list[Callable[[], Any]] = [
        lambda: send(owner, key="k", metadata='{"a": "b"}', **caps),  # type: ignore[arg-type]
        lambda: send(owner, count=1),
        lambda: send(owner),
        lambda: owner.post(path, caps),
    ]
    for ask in asks:
        with gone_after_the_commit() as asked:
            answer = ask()
            batch = made(answer)
        assert asked == ["to insert it"]
        assert answer.json() == owner.batch(batch)
    with gone_after_the_commit() as asked:
        answer = upload(owner)
        file = made(answer)
    assert asked == ["to insert it"]
    assert answer.json() == owner.get(f"/v1/files/{file}").json()
    with gone_after_the_commit() as asked:
        answer = create(owner, file)
        batch = made(answer)
    assert asked == ["to insert it"]
    assert answer.json() == owner.get(f"/v1/batches/{batch}").json()


@pytest.mark.parametrize(("ask", "committed"), [(send, True), (send, False), (upload, True)])
def test_a_commit_whose_answer_is_lost(
    owner: Person, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any], committed: bool
) -> None:
    """When it took place the client gets its object; when not, its 500, and nothing is left."""
    kind = type(connections["default"])
    commit = kind._commit  # type: ignore[attr-defined]  # not in the stubs

    def lost(self: Any) -> None:
        recorded = File.objects.exists()
        if committed or not recorded:
            commit(self)
        if recorded:
            raise OperationalError("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(kind, "_commit", lost)
        answer = ask(owner, key="k")
    assert answer.status_code == (200 if committed else 500)
    assert File.objects.count() == Submission.objects.count() == committed
    if committed:
        assert replayed(ask(owner, key="k")) == answer.json()["id"]
    else:
        assert made(ask(owner, key="k"))


@pytest.mark.parametrize("committed", [True, False])
def test_the_end_of_a_batch_whose_commit_is_not_answered(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """When it took place its rows name the files that were written; when not, nothing is left, and it is done again."""
    batch = owner.submit(numbered(3)).json()["id"]
    step("validating", tasks.validate)
    runner.run(stop=lambda: False, idle=0.21)
    kind = type(connections["default"])
    commit = kind._commit  # type: ignore[attr-defined]  # not in the stubs

    def lost(self: Any) -> None:
        ended = Batch.objects.filter(status="completed").exists()
        if committed or not ended:
            commit(self)
        if ended:
            raise OperationalError("the connection broke")

    with monkeypatch.context() as patched:
        patched.setattr(kind, "_commit", lost)
        step("finalizing", tasks.finalize)
    assert bool(stored("results")) == File.objects.filter(filename__contains="_results").exists() == committed
    Batch.objects.update(step_until=None)
    step("finalizing", tasks.finalize)
    assert owner.batch(batch)["status"] == "completed"
    assert len(owner.lines(batch)) == 3
