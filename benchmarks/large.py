"""A file as large as one may be: 50,000 lines, 100 MB of text."""

import json
from pathlib import Path

from benchmarks import llama

LINES, LINE_CHARACTERS = 50_000, 2_000  # escapes and two-byte letters make it 2,090 bytes


def written(path: Path, count: int = LINES) -> Path:
    """Lines of about LINE_CHARACTERS, each with other words, some of them escaped; nobody shares a prefix."""
    words = llama.text("large", 100_000).replace("stone ", 'stone.\n"Grüße"')
    empty = len(_line(0, ""))
    with open(path, "w") as file:
        for number in range(count):
            start = number * 7 % (len(words) - LINE_CHARACTERS)
            file.write(_line(number, words[start : start + LINE_CHARACTERS - empty]))
    return path


def _line(number: int, text: str) -> str:
    body = {"model": "bench", "messages": [{"role": "user", "content": f"{number} {text}"}], "max_tokens": 16}
    line = {"custom_id": f"line:{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(line, ensure_ascii=False) + "\n"
