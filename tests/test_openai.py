"""OpenAI's own SDK, unmodified, against the real web server: only base_url and key are ours."""

import json
from typing import Any

import httpx2
import openai
import pytest

from batches import results, sweeping, tasks
from batches.engine import runner
from batches.models import Batch, File
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.sdk import Work, client, create, create_of, jsonl, post  # noqa: F401 - client is a fixture
from tests.test_engine import numbered, submit
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first


def test_a_batch_from_its_file_to_its_output(client: Any, witness: Witness, work: Work) -> None:
    lines = [request_line(f"l{n}", custom_id=f"c{n}", faults=["400"] if n == 2 else []) for n in range(5)]
    batch = create(client, lines, metadata={"run": "nightly"})
    assert (batch.status, batch.metadata, batch.request_counts.total) == ("validating", {"run": "nightly"}, 5)
    assert (batch.output_file_id, batch.error_file_id, batch.errors) == (None, None, None)
    work()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 4, 1)
    assert batch.usage.input_tokens > 0 and batch.expires_at == batch.created_at + 24 * 3600
    delivered = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    failed = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert [line["custom_id"] for line in delivered] == ["c0", "c1", "c3", "c4"]
    assert [(line["custom_id"], line["response"]["status_code"], line["error"]) for line in failed] == [
        ("c2", 400, None)
    ]


@pytest.mark.sqlite_only
def test_bad_lines_fail_the_batch_with_typed_errors(client: Any, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a"), request_line("b", custom_id="a"), request_line("c", model="none")])
    work()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert [(each.code, each.line, each.param) for each in batch.errors.data] == [
        ("duplicate_custom_id", 2, "custom_id"),
        ("model_not_found", 3, "body.model"),
    ]


@pytest.mark.sqlite_only
def test_all_lines_failed(client: Any, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line(f"l{n}", faults=["400"]) for n in range(3)])
    work()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.failed, batch.output_file_id) == ("completed", 3, None)
    assert len(client.files.content(batch.error_file_id).text.splitlines()) == 3
    assert {file.purpose for file in client.files.list()} == {"batch", "batch_output"}
    assert len(client.files.list(purpose="batch_output").data) == 1, "the output that it began with is gone"


@pytest.mark.sqlite_only
def test_more_lines_than_a_batch_takes(client: Any, witness: Witness, work: Work) -> None:
    file = client.files.create(file=("many.jsonl", b"{}\n" * 50_001), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    work()
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert [each.code for each in batch.errors.data] == ["too_many_requests_in_batch"]


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_cancel(client: Any, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a")])
    assert client.batches.cancel(batch.id).status in {"cancelling", "finalizing"}
    work()
    assert client.batches.cancel(batch.id).status == "cancelled"
    batch = client.batches.retrieve(batch.id)
    assert (batch.request_counts.cancelled, batch.output_file_id) == (1, None)
    lines = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert [line["error"]["code"] for line in lines] == ["batch_cancelled"]
    ended = create(client, [request_line("b")])
    work()
    with pytest.raises(openai.ConflictError) as caught:
        client.batches.cancel(ended.id)
    assert caught.value.code == "batch_not_cancellable"


@pytest.mark.sqlite_only
def test_expiry(client: Any, owner: Person, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a")])
    Batch.objects.update(deadline=clock.now())
    sweeping.sweep()
    work()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.errors, batch.request_counts.expired) == ("expired", None, 1)
    assert batch.expired_at is not None
    native = owner.batch(batch.id)
    assert (native["status"], native["errors"]["data"][0]["code"]) == ("failed", "batch_expired")


# --- while it runs ----------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_the_output_of_a_running_batch(client: Any, witness: Witness, work: Work, small_groups: None) -> None:
    witness.configure(latency_ms=[5, 10])
    batch = create(client, [request_line(str(n), faults=["400"] if n % 10 == 0 else []) for n in range(200)])
    seen: list[Any] = []

    def look() -> bool:
        now = client.batches.retrieve(batch.id)
        if now.request_counts.completed >= 50 and not seen:
            seen.extend([now, client.files.retrieve(now.output_file_id), client.files.content(now.output_file_id)])
            with pytest.raises(openai.ConflictError) as caught:
                client.files.delete(now.output_file_id)
            assert caught.value.code == "file_in_use"
        assert now.output_file_id or not now.request_counts.completed
        return False

    work(stop=look)
    running, file, content = seen
    lines = [json.loads(line) for line in content.text.splitlines()]
    assert content.response.headers["x-incomplete"] == "true" and (file.status, file.bytes) == ("uploaded", 0)
    assert all(line["response"]["status_code"] == 200 for line in lines) and 50 <= len(lines) < 180
    ended = client.batches.retrieve(batch.id)
    whole = client.files.content(ended.output_file_id)
    assert ended.output_file_id == running.output_file_id, "one name from the first line to the end"
    assert len(whole.text.splitlines()) == 180 and "x-incomplete" not in whole.response.headers
    assert set(content.text.splitlines()) < set(whole.text.splitlines())


@pytest.mark.parametrize("path", ["/v1/batch/{batch}/output?partial=true", "/v1/files/{file}/content"])
def test_a_batch_that_ends_before_its_lines_are_gathered(
    owner: Person, witness: Witness, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Its segments are gone before the first is read: there are no fewer lines than a moment ago."""
    batch = submit(owner, numbered(3))
    runner.run(stop=lambda: False, idle=0.21)
    fill = results.Spool._fill

    def then_it_ends(*args: Any) -> Any:
        step("finalizing", tasks.finalize)
        return fill(*args)

    monkeypatch.setattr(results.Spool, "_fill", then_it_ends)
    output = File.objects.get(purpose="batch_output").public_id
    answer = owner.get(path.format(batch=batch.public_id, file=output))
    assert len(b"".join(answer.streaming_content).splitlines()) == 3


# --- errors as the SDK reads them -------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_errors_are_typed(client: Any, web_server: str, outsider: Person, witness: Witness) -> None:
    batch = create(client, [request_line("a")])
    with openai.OpenAI(base_url=f"{web_server}/v1", api_key=outsider.key, max_retries=0) as foreign:
        for ask, name in (
            (foreign.batches.retrieve, batch.id),
            (foreign.batches.cancel, batch.id),
            (foreign.files.retrieve, batch.input_file_id),
            (foreign.files.content, batch.input_file_id),
            (foreign.files.delete, batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError) as missing:
                ask(name)
            assert str(missing.value.request_id).startswith("req_")
        with pytest.raises(openai.NotFoundError):
            create_of(foreign, batch.input_file_id)
    with (
        openai.OpenAI(base_url=f"{web_server}/v1", api_key="sk-wrong", max_retries=0) as nobody,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        nobody.batches.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")


@pytest.mark.sqlite_only
def test_the_limit_of_batches_is_a_rate_limit_error(client: Any, witness: Witness) -> None:
    Tenant.objects.update(batch_limit=1)
    create(client, [request_line("a")])
    with pytest.raises(openai.RateLimitError) as caught:
        create(client, [request_line("b")])
    assert caught.value.code == "concurrent_batch_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 5


# --- sent again -------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
def test_an_idempotency_key_makes_one(client: Any, witness: Witness) -> None:
    content, headers = jsonl([request_line("a")]), {"Idempotency-Key": "of mine"}
    files = {client.files.create(file=("a", content), purpose="batch", extra_headers=headers).id for _ in range(3)}
    assert len(files) == 1 and File.objects.count() == 1
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.files.create(file=("a", content + b"\n"), purpose="batch", extra_headers=headers)
    assert caught.value.code == "idempotency_key_reused"
    with pytest.raises(openai.UnprocessableEntityError):
        create_of(client, *files, extra_headers=headers)
    headers = {"Idempotency-Key": "another"}
    assert len({create_of(client, *files, extra_headers=headers).id for _ in range(3)}) == 1
    assert Batch.objects.count() == 1


class LosesAnswers(httpx2.HTTPTransport):
    """Every POST is done, and its first answer lost on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        if request.method == "POST" and request.url.path not in self.lost:
            self.lost.add(request.url.path)
            response.read()
            response.close()
            raise httpx2.ReadError("the connection broke")
        return response


@pytest.mark.sqlite_first
def test_the_sdk_sends_again_what_got_no_answer(web_server: str, owner: Person, witness: Witness) -> None:
    http_client = httpx2.Client(transport=LosesAnswers(), base_url=f"{web_server}/v1")
    with openai.OpenAI(
        base_url=f"{web_server}/v1", api_key=owner.key, max_retries=2, http_client=http_client
    ) as client:
        batch = create(client, [request_line("a")])
        client.batches.cancel(batch.id)
    assert list(Batch.objects.values_list("public_id", flat=True)) == [batch.id]
    assert File.objects.filter(purpose="batch").count() == 1
