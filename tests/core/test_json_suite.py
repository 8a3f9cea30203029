"""JSONTestSuite as lines, and within lines: one verdict each, wherever it stands."""

import pytest

from batches.core.requests import Fault, Request, parse, sendable
from tests.core.lines import CHAT, raw
from tests.hostile import is_taken, json_files

FILES = json_files()
PLACES = ("body", "envelope", "messages")
REFUSALS = {"invalid_json_line", "nesting_too_deep"}


def test_the_suite_is_whole() -> None:
    assert len(FILES) == 318
    assert {name[:2] for name in FILES} == {"y_", "n_", "i_"}
    assert sum(map(is_taken, FILES)) == 95 + 10 + 1


@pytest.mark.parametrize("place", PLACES)
def test_the_verdict_within_a_line(place: str) -> None:
    verdicts = {name: parse(raw(content, place), CHAT) for name, content in FILES.items()}
    assert {name for name, found in verdicts.items() if isinstance(found, Request)} == set(filter(is_taken, FILES))
    empty = {"invalid_body"} if place == "messages" else set()  # of files without a value: no message is left
    assert {found.code for found in verdicts.values() if isinstance(found, Fault)} == REFUSALS | empty


def test_what_is_taken_is_sent_as_it_came() -> None:
    for name in filter(is_taken, FILES):
        assert b'"more":%b}' % FILES[name] in bytes(sendable(raw(FILES[name])).body), name


def test_none_is_a_request_of_its_own() -> None:
    for name, content in FILES.items():
        found = parse(content, CHAT)
        assert isinstance(found, Fault), name
        an_object = name.startswith("y_") and content.lstrip().startswith(b"{")
        assert (found.code == "missing_custom_id") == an_object or name.startswith("i_"), (name, found)
        assert found.code in REFUSALS | {"missing_custom_id"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", [b"9" * 5000, b"-" + b"9" * 5000, b"9" * 5000 + b"e" + b"9" * 5000])
def test_numbers_have_any_size(value: bytes, place: str) -> None:
    assert isinstance(parse(raw(value, place), CHAT), Request)
    assert value in bytes(sendable(raw(value)).body)
