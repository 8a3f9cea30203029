"""JSON as RFC 8259 has it, read by Python's own reader: the other reading that targets compare with."""

import json
from json.decoder import JSONDecoder
from typing import Any


class Deep(Exception):
    """It is nested too deeply for this reader; whether it is JSON is not known."""


class Object(tuple[tuple[str, Any], ...]):
    """The members of an object, in order, also those that stand twice; the last of these counts."""

    __slots__ = ()

    def twice(self, names: frozenset[str]) -> bool:
        """Whether one of these names stands twice."""
        found = [name for name, _ in self if name in names]
        return len(found) > len(set(found))


def read(data: bytes) -> Any:
    """The value; numbers are their text. Raises ValueError for what is not JSON, or no Unicode text; Deep."""
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=Object, parse_constant=_refuse, parse_int=_number, parse_float=_number
        )
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate is no text
    except RecursionError:
        raise Deep from None
    return value


class Number(str):
    """A number as it was written: not the same as the string."""

    __slots__ = ()


def _number(text: str) -> Number:
    return Number(text)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def depth(value: Any) -> int:
    """How deep it is nested: 0 of a scalar."""
    level, found = [value], 0
    while level := [each for each in level if isinstance(each, list | Object)]:
        found += 1
        level = [inner for each in level for inner in _inside(each)]
    return found


def _inside(value: Any) -> list[Any]:
    return [inner for _, inner in value] if isinstance(value, Object) else list(value)


def members(data: bytes) -> list[tuple[str, str]]:
    """The members of a JSON object: each name, and its value as it is written."""
    text, found = data.decode(), []
    decoder = JSONDecoder(parse_int=Number)
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)
        end = decoder.raw_decode(text, start)[1]
        found.append((name, text[start:end]))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _skip(text: str, at: int) -> int:
    """Past the white space."""
    while text[at : at + 1] in {" ", "\t", "\n", "\r"}:
        at += 1
    return at
