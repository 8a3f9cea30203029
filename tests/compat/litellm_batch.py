"""LiteLLM's files and batches calls; run in the environment of the tools. Prints one line of JSON: what came of it."""

import json
import os
import time
from importlib.metadata import version
from typing import Any

import litellm
import openai

WHERE: dict[str, Any] = {
    "custom_llm_provider": "openai",
    "api_base": os.environ["BASE_URL"],
    "api_key": os.environ["API_KEY"],
}
LINES = 30

lines = [
    {
        "custom_id": f"c{n}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": os.environ["MODEL"],
            "messages": [{"role": "user", "content": f"line:l{n}"}],
            "max_tokens": 16,
        },
    }
    for n in range(LINES)
]
content = "".join(json.dumps(line) + "\n" for line in lines).encode()
file = litellm.create_file(file=("upload.jsonl", content), purpose="batch", **WHERE)
batch = litellm.create_batch(
    completion_window="24h",
    endpoint="/v1/chat/completions",
    input_file_id=file.id,
    metadata={"tool": "litellm"},
    **WHERE,
)
end = time.monotonic() + 60
while (found := litellm.retrieve_batch(batch_id=batch.id, **WHERE)).status not in {"completed", "failed"}:
    assert time.monotonic() < end, found
    time.sleep(0.3)
output = litellm.file_content(file_id=found.output_file_id, **WHERE)
listed = litellm.list_batches(limit=10, **WHERE)
kept = litellm.file_retrieve(file_id=file.id, **WHERE)
gone = litellm.file_delete(file_id=file.id, **WHERE)
slow = content.replace(b'"line:', b'"fault:sleep-5000 line:')
other = litellm.create_file(file=("upload.jsonl", slow), purpose="batch", **WHERE)
cancelled = litellm.create_batch(
    completion_window="24h", endpoint="/v1/chat/completions", input_file_id=other.id, **WHERE
)
try:
    litellm.create_batch(completion_window="24h", endpoint="/v1/chat/completions", input_file_id="file-none", **WHERE)
    refused = ""
except openai.NotFoundError as error:
    refused = str(error)
print(
    json.dumps(
        {
            "version": version("litellm"),
            "status": found.status,
            "lines": [json.loads(line)["custom_id"] for line in output.text.splitlines()],
            "metadata": found.metadata,
            "listed": [each.id for each in listed.data] == [batch.id],
            "bytes": kept.bytes == len(content),
            "deleted": gone.deleted,
            "cancelling": litellm.cancel_batch(batch_id=cancelled.id, **WHERE).status,
            "refused": "There is no file with this id" in refused,
        }
    )
)
