"""How much a request asks a model to make: choices, and tokens of each. Pure."""

import re
from typing import Any

import msgspec

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
MAX_DIGITS = 7  # of a number of tokens or choices: what asks for more names no limit
_LIMITS = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_tokens",),
    EMBEDDINGS: (),
    RESPONSES: ("max_output_tokens",),
}
_SEVERAL = re.compile(rb'\[\s*["\[]')
ABSENT = msgspec.Raw()  # no JSON value is empty


class Asked(msgspec.Struct):
    """What a body says of its output, as it is written."""

    prompt: msgspec.Raw = ABSENT
    max_tokens: msgspec.Raw = ABSENT
    max_completion_tokens: msgspec.Raw = ABSENT
    max_output_tokens: msgspec.Raw = ABSENT
    n: msgspec.Raw = ABSENT
    best_of: msgspec.Raw = ABSENT


read = msgspec.json.Decoder(Asked).decode


def choices(body: Any, endpoint: str) -> int:
    """How many answers are to be made; `body` has the fields of Asked. None of an embedding."""
    if endpoint in (CHAT, COMPLETIONS):
        prompts = _prompts(body.prompt) if endpoint == COMPLETIONS else 1
        return max(1, _number(body.n) or 1, _number(body.best_of) or 1) * prompts
    return int(endpoint == RESPONSES)


def limit(body: Any, endpoint: str) -> int | None:
    """Tokens of each choice at most; None where the body does not say."""
    numbers = (_number(getattr(body, name)) for name in _LIMITS[endpoint])
    return next((number for number in numbers if number is not None), None)


def _prompts(written: msgspec.Raw) -> int:
    """A completion may have several: strings, or arrays of tokens. One array of tokens is one prompt."""
    several = _SEVERAL.match(bytes(written))
    return len(msgspec.json.decode(written, type=list[msgspec.Raw])) if several else 1


def _number(value: msgspec.Raw) -> int | None:
    written = bytes(value)
    return int(written) if written.isdigit() and len(written) <= MAX_DIGITS else None
