"""Files and lists, as OpenAI's SDK uses them."""

import importlib
import io
from typing import Any

import openai
import pytest
from django.apps import apps
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile

from batches import files, sweeping, tasks
from batches.engine import runner
from batches.models import Batch, File
from batches.uploads import Stored
from tenants import clock
from tenants.models import Tenant
from tests.conftest import Person, seal, step
from tests.sdk import Work, client, create, create_of, jsonl, post  # noqa: F401 - client is a fixture
from tests.test_api import error
from tests.test_engine import numbered, submit
from tests.test_uploads import stored
from tests.threads import ThreadPoolExecutor
from tests.witness import Witness, request_line

pytestmark = pytest.mark.postgres_first

# --- lists ------------------------------------------------------------------------------------------------------------


@pytest.mark.sqlite_first
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
        assert (made.status, made.bytes, made.purpose) == ("processed", len(content), "batch")
        assert made.expires_at == made.created_at + 30 * 86_400
        read = client.files.content(made.id)
        assert read.content == content
        assert read.response.headers["content-disposition"].startswith("attachment; filename")
    client.files.create(file=io.BytesIO(b"not even JSON"), purpose="batch")  # a bad line is the batch's news


@pytest.mark.sqlite_first
def test_a_file_is_deleted(client: Any, owner: Person, witness: Witness, work: Work) -> None:
    batch = create(client, [request_line("a"), request_line("b", faults=["400"])])
    with pytest.raises(openai.ConflictError) as caught:
        client.files.delete(batch.input_file_id)
    assert caught.value.code == "file_in_use"
    work()
    seal()
    batch = client.batches.retrieve(batch.id)
    keys = set(File.objects.exclude(purpose="batch_receipts").values_list("storage_key", flat=True))
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


@pytest.mark.sqlite_first
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
    seal()
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
