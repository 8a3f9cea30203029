"""Whether the tokens that an upstream reports can be all that its choices took. Pure.

Some servers (llama.cpp) report of several choices the tokens of one alone. Without their tokenizer nobody can count
them, so this finds only what can't be true, or hardly: docs/decisions/0015-several-choices.md
"""

from collections.abc import Sequence

import msgspec

from batches.core import asking
from batches.core.asking import ABSENT

MOST_CHARACTERS = 8  # a token, on the average of an answer: prose and code have 3 to 5
_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


class Choice(msgspec.Struct):
    """One of an answer's choices, as it is written."""

    finish_reason: msgspec.Raw = ABSENT
    message: msgspec.Raw = ABSENT
    text: msgspec.Raw = ABSENT


class _Message(msgspec.Struct):
    content: msgspec.Raw = ABSENT


def too_few(endpoint: str, asked: bytes, choices: Sequence[Choice], tokens: int) -> bool:
    """Whether so many completion tokens can't be those of all these choices. `asked` is the request's body."""
    if len(choices) < 2:
        return False
    limit = _limit(endpoint, asked)
    lengths = [_characters(choice) for choice in choices]
    least = sum(
        limit if limit is not None and bytes(choice.finish_reason) == b'"length"' else length > 0
        for choice, length in zip(choices, lengths, strict=True)
    )
    return tokens < least or MOST_CHARACTERS * tokens < sum(lengths)


def _limit(endpoint: str, asked: bytes) -> int | None:
    """Tokens of one choice at most: what one has that ended by its length."""
    try:
        return asking.limit(asking.read(asked), endpoint)
    except _ERRORS:
        return None


def _characters(choice: Choice) -> int:
    """Of its text; 0 where it has another form."""
    try:
        written = choice.text or msgspec.json.decode(choice.message, type=_Message).content
        return len(msgspec.json.decode(written, type=str))
    except _ERRORS:
        return 0
