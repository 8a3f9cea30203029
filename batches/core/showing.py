"""Input and output lines for people to read: indented, cut, and what a failure says. Pure; all of it is text."""

import re

import msgspec

from batches.core.rendering import outcome

SHOWN = 64 * 1024  # characters of a text on a page
MESSAGE = 300  # characters
_ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.", re.DOTALL)
_MESSAGE = re.compile(rb'"(?:message|detail|error|error_message)"\s*:\s*"((?:[^"\\]|\\.)*+)')
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*+)')
_NAMES = re.compile(r"\w*\d\w*(?:[-.:]\w*\d\w*)*")


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
