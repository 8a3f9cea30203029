"""OpenAI's own SDK, unmodified, against the real web server: only base_url and key are ours."""

import importlib
import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from django.apps import apps
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from batches import clock, files, results, sweeping, tasks
from batches.engine import runner
from batches.models import Batch, File
from batches.uploads import Stored
from tenants.models import Tenant
from tests.conftest import Person, step
from tests.test_api import error
from tests.test_engine import numbered, submit
from tests.test_uploads import stored
from tests.witness import Witness, request_line

Work = Callable[..., None]


@pytest.fixture
def client(web_server: str, owner: Person) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{web_server}/v1", api_key=owner.key, max_retries=0) as client:
        yield client


def jsonl(lines: list[Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def create(client: Any, lines: list[Any], **options: Any) -> Any:
    file = client.files.create(file=("upload", jsonl(lines)), purpose="batch")
    return create_of(client, file.id, **options)


def create_of(client: Any, file_id: str, **options: Any) -> Any:
    return client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h", **options
    )


def post(owner: Person, body: str | bytes) -> Any:
    headers = {"Authorization": f"Bearer {owner.key}"}
    return owner.client.post("/v1/batches", body, content_type="application/json", headers=headers)


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


def test_bad_lines_fail_the_batch_with_typed_errors(client: Any, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a"), request_line("b", custom_id="a"), request_line("c", model="none")])
    work()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.output_file_id) == ("failed", None)
    assert [(each.code, each.line, each.param) for each in batch.errors.data] == [
        ("duplicate_custom_id", 2, "custom_id"),
        ("model_not_found", 3, "body.model"),
    ]


def test_all_lines_failed(client: Any, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line(f"l{n}", faults=["400"]) for n in range(3)])
    work()
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.request_counts.failed, batch.output_file_id) == ("completed", 3, None)
    assert len(client.files.content(batch.error_file_id).text.splitlines()) == 3
    assert {file.purpose for file in client.files.list()} == {"batch", "batch_output"}
    assert len(client.files.list(purpose="batch_output").data) == 1, "the output that it began with is gone"


def test_more_lines_than_a_batch_takes(client: Any, witness: Witness, work: Work) -> None:
    file = client.files.create(file=("many.jsonl", b"{}\n" * 50_001), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    work()
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert [each.code for each in batch.errors.data] == ["too_many_requests_in_batch"]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists_are_paged_through(client: Any, witness: Witness) -> None:
    Tenant.objects.update(batch_limit=100)
    batches = [create(client, [request_line(str(n))]).id for n in range(7)]
    assert [batch.id for batch in client.batches.list(limit=3)] == batches[::-1]
    files = [file.id for file in client.files.list(limit=2)]
    assert len(files) == 7 and [file.id for file in client.files.list(limit=3, order="asc")] == files[::-1]
    page = client.batches.list(limit=3)
    assert (page.has_more, page.first_id, page.last_id) == (True, batches[6], batches[4])


def test_files_are_deleted_while_they_are_paged_through(client: Any) -> None:
    for _ in range(5):
        client.files.create(file=("a", b"{}\n"), purpose="batch")
    assert [client.files.delete(file.id).deleted for file in client.files.list(limit=2)] == [True] * 5
    assert client.files.list().data == []


@pytest.mark.sqlite_only
def test_files_are_in_the_order_of_their_making(owner: Person, witness: Witness) -> None:
    """An output is as old as its batch's end, whatever was uploaded while the batch ran."""
    batch = submit(owner, numbered(3))
    runner.run(stop=lambda: False, idle=0.21)
    later = files.create(owner.tenant, Stored("later", "a", 1, 1, "")).public_id
    step("finalizing", tasks.finalize)
    batch.refresh_from_db()
    assert batch.input_file and batch.output_file
    order = [batch.output_file.public_id, later, batch.input_file.public_id]
    assert [file["id"] for file in owner.get("/v1/files").json()["data"]] == order
    for way, ids in (("desc", order), ("asc", order[::-1])):
        after = [owner.get(f"/v1/files?order={way}&after={file}").json()["data"] for file in ids]
        assert [[file["id"] for file in page] for page in after] == [ids[1:], ids[2:], []]


def test_the_migration_tells_results_from_outputs(owner: Person, witness: Witness, work: Work) -> None:
    for faults in (["400", ""], ["400", "400"], ["", ""]):
        submit(owner, [request_line(f"l{n}", faults=[fault] if fault else []) for n, fault in enumerate(faults)])
        work()
    submit(owner, numbered(1))
    purposes = File.objects.order_by("pk").values_list("purpose", flat=True)
    before = list(purposes.all())
    assert before.count("batch_results") == 1
    File.objects.filter(purpose="batch_results").update(purpose="batch_output")
    importlib.import_module("batches.migrations.0005_files").name_results(apps, None)
    assert list(purposes.all()) == before


@pytest.mark.sqlite_only
def test_a_list_refuses_what_it_does_not_know(owner: Person, witness: Witness) -> None:
    for path, code in (
        ("/v1/files?limit=0", "invalid_limit"),
        ("/v1/files?limit=10001", "invalid_limit"),
        ("/v1/files?order=up", "invalid_order"),
        ("/v1/files?purpose=assistants", "invalid_purpose"),
        ("/v1/files?before=file-1", "unsupported_parameter"),
        ("/v1/batches?status=completed", "unsupported_parameter"),
        ("/v1/batches?limit=101", "invalid_limit"),
    ):
        assert error(owner.get(path), 400) == code, path
    assert error(owner.get("/v1/files?after=file-1"), 404) == "file_not_found"
    assert error(owner.get("/v1/batches?after=batch_1"), 404) == "batch_not_found"


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
def test_a_file_is_taken_under_any_name_and_read_back(client: Any) -> None:
    content = jsonl([request_line("a")])
    for name in ("upload", "a b.jsonl", "häß.txt", "x" * 300, '"; filename="y'):
        made = client.files.create(file=(name, content), purpose="batch")
        assert (made.status, made.bytes, made.purpose, made.expires_at) == ("processed", len(content), "batch", None)
        read = client.files.content(made.id)
        assert read.content == content
        assert read.response.headers["content-disposition"].startswith("attachment; filename")
    client.files.create(file=io.BytesIO(b"not even JSON"), purpose="batch")  # a bad line is the batch's news


def test_a_file_is_deleted(client: Any, owner: Person, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a"), request_line("b", faults=["400"])])
    with pytest.raises(openai.ConflictError) as caught:
        client.files.delete(batch.input_file_id)
    assert caught.value.code == "file_in_use"
    work()
    batch = client.batches.retrieve(batch.id)
    keys = set(File.objects.values_list("storage_key", flat=True))
    gone = client.files.delete(batch.output_file_id)
    assert (gone.id, gone.deleted, gone.object) == (batch.output_file_id, True, "file")
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError) as missing:
            ask(batch.output_file_id)
        assert (missing.value.code, missing.value.type) == ("file_not_found", "not_found_error")
    assert error(owner.get(f"/v1/batch/{batch.id}/output"), 410) == "file_expired"
    assert len(owner.lines(batch.id, "errors")) == 1
    client.files.delete(batch.input_file_id)
    client.files.delete(batch.error_file_id)
    assert client.batches.retrieve(batch.id).output_file_id == batch.output_file_id, "it is still named"
    assert client.files.list().data == []
    assert not [key for key in keys if default_storage.exists(key)]
    assert error(owner.post(f"/v1/batch/{batch.id}/retry"), 410) == "file_expired"


def test_a_file_is_deleted_or_used_but_not_both(client: Any, witness: Witness) -> None:
    """A batch is made of a file while it is deleted: whoever comes first, no batch has lost its input."""
    with ThreadPoolExecutor(2) as pool:
        for _ in range(8):
            Batch.objects.all().delete()
            file = client.files.create(file=("a", b"{}\n"), purpose="batch")
            make = {"input_file_id": file.id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
            made = pool.submit(client.batches.create, **make)
            deleted = pool.submit(client.files.delete, file.id)
            outcomes = {type(each.exception()) for each in (made, deleted)}
            assert outcomes in ({type(None), openai.NotFoundError}, {type(None), openai.ConflictError})


def test_files_expire(client: Any, owner: Person, witness: Witness, work: Work) -> None:
    file = client.files.create(
        file=("a", jsonl([request_line("a")])),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert file.expires_at == file.created_at + 3600
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 7200},
    )
    key = File.objects.get().storage_key
    File.objects.update(expires_at=clock.now())
    sweeping.sweep()
    assert default_storage.exists(key), "a batch that has not ended needs it"
    work()
    sweeping.sweep()
    assert not default_storage.exists(key)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    with pytest.raises(openai.NotFoundError):
        client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed" and batch.output_file_id
    output = client.files.retrieve(batch.output_file_id)
    assert output.expires_at == output.created_at + 7200
    File.objects.filter(public_id=output.id).update(expires_at=clock.now())
    assert error(owner.get(f"/v1/batch/{batch.id}/output"), 410) == "file_expired"


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "invalid_purpose"),
        ({"purpose": "assistants"}, "invalid_purpose"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at"}, "invalid_expiry"),
        ({"purpose": "batch", "expires_after[seconds]": "7200"}, "invalid_expiry"),
        ({"purpose": "batch", "expires_after[anchor]": "now", "expires_after[seconds]": "7200"}, "invalid_expiry"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"}, "invalid_expiry"),
        ({"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": "٣٦٠٠"}, "invalid_expiry"),
        ({"purpose": "batch", "endpoint": "/v1/embeddings"}, "unsupported_parameter"),
    ],
)  # fmt: skip
def test_an_upload_that_is_refused_leaves_nothing(owner: Person, form: dict[str, str], code: str) -> None:
    before = stored()
    assert error(owner.post("/v1/files", {"file": SimpleUploadedFile("a", b"{}"), **form}), 400) == code
    assert stored() == before and not File.objects.exists()


# --- creating ---------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"input_file_id": None}, 400, "missing_parameter"),
        ({"input_file_id": 7}, 400, "missing_parameter"),
        ({"input_file_id": "file-none"}, 404, "file_not_found"),
        ({"input_file_id": "a\x00b"}, 404, "file_not_found"),
        ({"input_file_id": "\ud800"}, 404, "file_not_found"),
        ({"endpoint": "/v1/images"}, 400, "invalid_endpoint"),
        ({"endpoint": ["/v1/embeddings"]}, 400, "missing_parameter"),
        ({"completion_window": "48h"}, 400, "invalid_completion_window"),
        ({"completion_window": {}}, 400, "invalid_completion_window"),
        ({"metadata": []}, 400, "invalid_metadata"),
        ({"metadata": "x"}, 400, "invalid_metadata"),
        ({"metadata": {"a": 1}}, 400, "invalid_metadata"),
        ({"metadata": {"a": {"b": "c"}}}, 400, "invalid_metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, 400, "invalid_metadata"),
        ({"metadata": {"k" * 65: ""}}, 400, "invalid_metadata"),
        ({"metadata": {"k": "v" * 513}}, 400, "invalid_metadata"),
        ({"metadata": {"\udc00": "v"}}, 400, "invalid_metadata"),
        ({"output_expires_after": {"anchor": "created_at"}}, 400, "invalid_expiry"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": True}}, 400, "invalid_expiry"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 7200.5}}, 400, "invalid_expiry"),
        ({"output_expires_after": 7200}, 400, "invalid_expiry"),
        ({"on_invalid_line": "stop"}, 400, "invalid_on_invalid_line"),
        ({"on_invalid_line": ["skip"]}, 400, "invalid_on_invalid_line"),
        ({"max_cost_usd": 5}, 400, "invalid_max_cost"),
        ({"priority": "high"}, 400, "unsupported_parameter"),
    ],
)
def test_a_batch_that_is_refused(owner: Person, change: dict[str, Any], status: int, code: str) -> None:
    file = owner.post("/v1/files", {"file": SimpleUploadedFile("a", b"{}"), "purpose": "batch"}).json()["id"]
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | change
    assert error(post(owner, json.dumps(asked)), status) == code
    assert not Batch.objects.exists()


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "1e999", "[" * 100_000, '{"metadata": ' + "[" * 100_000, "\xff"]
)
def test_a_body_that_is_no_object(owner: Person, text: str) -> None:
    assert error(post(owner, text.encode("latin-1")), 400) in {"malformed_request", "missing_parameter"}


def test_a_key_that_stands_twice_is_refused(owner: Person) -> None:
    ask = '{"input_file_id": "a", "endpoint": "/v1/embeddings", "metadata": {"a": "1", "a": "2"}%s}'
    assert error(post(owner, ask % ""), 400) == "duplicate_parameter"
    assert error(post(owner, ask % ', "endpoint": "c"'), 400) == "duplicate_parameter"


def test_nulls_are_as_good_as_nothing(owner: Person, witness: Witness) -> None:
    file = owner.post("/v1/files", {"file": SimpleUploadedFile("a", b"{}"), "purpose": "batch"}).json()["id"]
    nulls = dict.fromkeys(("metadata", "output_expires_after", "on_invalid_line", "max_cost_usd", "max_error_rate"))
    asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **nulls}
    assert post(owner, json.dumps(asked)).json()["metadata"] == {}


def test_the_output_of_a_batch_is_no_input(client: Any, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a")])
    work()
    output = client.batches.retrieve(batch.id).output_file_id
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=str(output), endpoint="/v1/embeddings", completion_window="24h")
    assert caught.value.code == "invalid_input_file"


# --- ends -------------------------------------------------------------------------------------------------------------


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


def test_the_limit_of_batches_is_a_rate_limit_error(client: Any, witness: Witness) -> None:
    Tenant.objects.update(batch_limit=1)
    create(client, [request_line("a")])
    with pytest.raises(openai.RateLimitError) as caught:
        create(client, [request_line("b")])
    assert caught.value.code == "concurrent_batch_limit_exceeded"
    assert int(caught.value.response.headers["retry-after"]) >= 5


# --- sent again -------------------------------------------------------------------------------------------------------


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


def test_the_sdk_sends_again_what_got_no_answer(web_server: str, owner: Person, witness: Witness) -> None:
    http_client = httpx2.Client(transport=LosesAnswers(), base_url=f"{web_server}/v1")
    with openai.OpenAI(
        base_url=f"{web_server}/v1", api_key=owner.key, max_retries=2, http_client=http_client
    ) as client:
        batch = create(client, [request_line("a")])
        client.batches.cancel(batch.id)
    assert list(Batch.objects.values_list("public_id", flat=True)) == [batch.id]
    assert File.objects.filter(purpose="batch").count() == 1
