"""The embedded model, for real: the service as `make run` starts it, three questions, three answers, a charge."""

import importlib.util
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.service import Service, ended, output, running, upload

MODEL = "smollm2-135m"

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="`make setup` brings the model"),
]


def question(number: int, text: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 12, "temperature": 0}
    return {"custom_id": f"q{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def test_three_questions_to_the_real_model() -> None:
    with running("--runners", "1") as service:
        client = service.tenant("asker")
        batch = upload(
            client, [question(n, text) for n, text in enumerate(("What is 2+2?", "Say hi.", "Name a bird."))]
        )
        done = ended(client, batch["id"])
        assert (done["status"], done["completed_count"]) == ("completed", 3)
        lines = output(client, batch["id"])
        assert [line["custom_id"] for line in lines] == ["q0", "q1", "q2"]
        assert all(line["response"]["body"]["choices"][0]["message"]["content"].strip() for line in lines)
        used = sum(line["response"]["body"]["usage"]["total_tokens"] for line in lines)
        assert done["usage"]["total_tokens"] == used > 3
        assert Decimal(done["cost"]["usd"]) > 0
        what_other_endpoints_report_is_counted(client)
        of_two_choices_it_counts_one(client, service)
        assert service.stop() == 0


def what_other_endpoints_report_is_counted(client: httpx.Client) -> None:
    asked: dict[str, dict[str, object]] = {
        "/v1/completions": {"prompt": "Birds are", "max_tokens": 6, "temperature": 0},
        "/v1/responses": {"input": "Say hi.", "max_output_tokens": 6, "temperature": 0},
    }
    for endpoint, body in asked.items():
        line = {"custom_id": "a", "body": {"model": MODEL, **body}}
        done = ended(client, upload(client, [line], endpoint=endpoint)["id"])
        (answer,) = output(client, done["id"])
        usage = answer["response"]["body"]["usage"]
        written = usage.get("completion_tokens", usage.get("output_tokens"))
        assert done["usage"]["total_tokens"] == usage["total_tokens"] > written
        assert done["usage"]["output_tokens"] == written and 1 <= written <= 6, "it may end before its limit"


def of_two_choices_it_counts_one(client: httpx.Client, service: Service) -> None:
    """Should llama.cpp count both one day, the flag goes, and this test with it."""
    line = question(0, "Name many birds.")
    line["body"] |= {"n": 2, "max_tokens": 8}
    done = ended(client, upload(client, [line])["id"])
    (answer,) = output(client, done["id"])
    assert [choice["finish_reason"] for choice in answer["response"]["body"]["choices"]] == ["length"] * 2
    assert done["usage"]["output_tokens"] == answer["response"]["body"]["usage"]["completion_tokens"] == 8
    assert service.sql("SELECT flag FROM batches_result WHERE flag <> ''") == [("usage_low",)]
