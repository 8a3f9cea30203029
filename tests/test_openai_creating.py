"""What `POST /v1/batches` takes and refuses."""

import json
from typing import Any

import openai
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from batches.models import Batch
from tests.conftest import Person
from tests.sdk import Work, client, create, create_of, jsonl, post  # noqa: F401 - client is a fixture
from tests.test_api import error
from tests.witness import Witness, request_line

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
        ({"endpoint": ""}, 400, "invalid_endpoint"),
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
