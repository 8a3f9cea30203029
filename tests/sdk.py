"""OpenAI's SDK on the real web server: what its tests share."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from tests.conftest import Person

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
