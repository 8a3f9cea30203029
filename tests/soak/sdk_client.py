"""A tenant's program that uses OpenAI's SDK as it comes, with its own retries."""

import json
import time
from typing import Any

import openai

from tests.soak.asking import Asked
from tests.soak.clients import Client, NoAnswer, weigh

RETRIES = 8


class SDKClient(Client):
    """Files and batches through `openai`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=RETRIES, timeout=30)

    def submit(self) -> None:
        asked, content = self.draw()
        self.asked.append(asked)
        extra = {"extra_body": asked.fields} if asked.fields else {}
        try:
            file = self.openai.files.create(file=("upload", content), purpose="batch")
            made = self.openai.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"soak": str(asked.number)},
                **extra,  # type: ignore[arg-type]
            )
        except openai.RateLimitError:
            return
        except openai.APIError as error:
            self.faults.append((time.time(), f"sdk: {type(error).__name__}"))
            asked.uncertain = True
            return
        asked.ids.add(made.id)

    def receive(self, asked: Asked, batch: dict[str, Any]) -> None:
        """Its two files, which hold every line once between them."""
        try:
            shown = self.openai.batches.retrieve(batch["id"])
            files = [file for file in (shown.output_file_id, shown.error_file_id) if file]
            parts = [self.openai.files.content(file).read().splitlines() for file in files]
        except openai.APIConnectionError as error:
            self.faults.append((time.time(), f"sdk: {type(error).__name__}"))
            asked.status = ""  # it looks again
            raise NoAnswer from error
        lines = sorted(
            (line for part in parts for line in part), key=lambda line: int(json.loads(line)["custom_id"][1:])
        )
        asked.read = weigh(lines, self.price[asked.model])
