"""Input and output lines for people to read: indented, cut, who says what, what a failure says. Pure; all is text."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from batches.core.rendering import outcome

SHOWN = 64 * 1024  # characters of a text on a page
MESSAGE = 300  # characters
DEPTH = 3  # of what is said within a message: its parts
TURNS, TURN = 40, 8 * 1024  # of a conversation, and characters of each
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.", re.DOTALL)
_MESSAGE = re.compile(rb'"(?:message|detail|error|error_message)"\s*:\s*"((?:[^"\\]|\\.)*+)')
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)')
_NAMES = re.compile(r"\w*\d\w*(?:[-.:]\w*\d\w*)*")


class Said(NamedTuple):
    """A turn of a conversation."""

    who: str
    text: str


def conversation(line: bytes) -> list[Said]:
    """What an input or output line has of words: its prompt, or its answers. Nothing of an unknown shape."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
    body = _within(found, "body") or _within(_within(found, "response"), "body")
    turns = (turn for turn in _turns(body) if turn.text)
    return [turn if len(turn.text) <= TURN else Said(turn.who, turn.text[:TURN] + "…") for turn in islice(turns, TURNS)]


def _turns(body: Any) -> Iterator[Said]:
    yield Said("instructions", _words(_within(body, "instructions")))
    for name in ("messages", "input", "output", "choices"):
        turns = _within(body, name)
        for turn in turns if isinstance(turns, list) else [turns]:
            said = _within(turn, "message") or turn
            who = _within(said, "role") or ("prompt" if name == "input" else "answer")
            yield Said(who if isinstance(who, str) else "", _words(said))
    yield Said("prompt", _words(_within(body, "prompt")))


def _within(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _words(value: Any, depth: int = DEPTH) -> str:
    """Of a text, a message, a part of one, or a list of those."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_words(each, depth) for each in value if isinstance(each, dict | str))
    if not isinstance(value, dict) or not depth:
        return ""
    words = value.get("text") or value.get("content")
    return _words(words, depth - 1) if isinstance(words, str | list) else ""


def pretty(data: bytes) -> str:
    """JSON indented, its numbers as they were written, letters for their escapes; anything else as it is."""
    try:
        text = msgspec.json.format(data, indent=2).decode()
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return data.decode(errors="replace")
    return _ESCAPE.sub(_letters, text) if "\\u" in text else text


def _letters(match: re.Match[str]) -> str:
    """What escapes stand for, where that can be printed and would not end the string."""
    if not match[0].startswith("\\u"):
        return match[0]
    try:
        found: str = msgspec.json.decode(f'"{match[0]}"', type=str)
    except msgspec.DecodeError:  # half a pair
        return match[0]
    return found if found.isprintable() and not {'"', "\\"} & set(found) else match[0]


def message(line: bytes) -> str:
    """What the start of an output line says of its failure: the upstream's words, or ours."""
    rest = line[outcome(line).start :]
    match = _STRING.match(rest) or _MESSAGE.search(rest)
    text = _text(match[1]) if match else rest.decode(errors="replace")
    return text if len(text) <= MESSAGE else text[:MESSAGE] + "…"


def _text(written: bytes) -> str:
    """A JSON string's, which may be cut."""
    try:
        return msgspec.json.decode(b'"%b"' % written, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return written.decode(errors="replace")


def kind_of(text: str) -> str:
    """The message without its numbers and ids: messages of one kind are alike."""
    return _NAMES.sub("#", text)
