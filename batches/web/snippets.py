"""Commands to copy for one batch: curl, and Python with OpenAI's client."""

from typing import Any

from django.http import HttpRequest

CURL = """\
# its state and its numbers
curl {base}/batch/{id} \\
  -H "Authorization: Bearer $PROVOCATIVE_API_KEY"

# its output, a line for each line of the input
curl {base}/batch/{id}/output \\
  -H "Authorization: Bearer $PROVOCATIVE_API_KEY" \\
  -o {id}_output.jsonl"""
PYTHON = """\
import os

from openai import OpenAI

client = OpenAI(
    base_url="{base}",
    api_key=os.environ["PROVOCATIVE_API_KEY"],
)
batch = client.batches.retrieve("{id}")
print(batch.status, batch.request_counts)
if batch.output_file_id:
    client.files.content(batch.output_file_id).write_to_file("{id}_output.jsonl")"""


def of(request: HttpRequest, batch: Any) -> list[tuple[str, str, str]]:
    """Each one's name, the id of its element, and its text. The key is in the reader's environment."""
    named = {"base": request.build_absolute_uri("/v1"), "id": batch.public_id}
    return [("curl", "snippet-curl", CURL.format(**named)), ("Python", "snippet-python", PYTHON.format(**named))]
