"""The embedded model, for real: the service as `make run` starts it, three questions, three answers, a charge."""

import importlib.util
from decimal import Decimal

import pytest

from tests.service import ended, output, running, upload

MODEL = "smollm2-135m"

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None, reason="`make setup` brings the model"),
]


def question(number: int, text: str) -> dict[str, object]:
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
        assert service.stop() == 0
