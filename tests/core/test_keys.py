"""API keys: enough chance in them, and a typing error is seen without a query."""

import math
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenants.keys import ALPHABET, CHECK_LENGTH, LENGTH, PREFIX, RANDOM_LENGTH, checksum, digest, generate, well_formed
from tests.core import searched

OTHER = "-_ .é\0\n"


def test_generated_keys_are_well_formed_and_all_different() -> None:
    keys = [generate() for _ in range(2000)]
    assert all(well_formed(key) for key in keys)
    assert len(set(keys)) == 2000
    assert {len(key) for key in keys} == {LENGTH}
    assert all(key.startswith("pk-prov-") for key in keys)


def test_a_key_has_at_least_160_random_bits() -> None:
    assert len(set(ALPHABET)) == len(ALPHABET) == 62
    assert RANDOM_LENGTH * math.log2(len(ALPHABET)) >= 160
    bodies = [generate()[len(PREFIX) : -CHECK_LENGTH] for _ in range(2000)]
    for place in range(RANDOM_LENGTH):
        assert {body[place] for body in bodies} == set(ALPHABET)


def test_a_key_is_made_of_letters_and_digits_alone() -> None:
    assert set(generate().removeprefix(PREFIX)) <= set(string.ascii_letters + string.digits)


def test_any_other_character_anywhere_is_refused() -> None:
    key = generate()
    for place in range(LENGTH):
        for character in ALPHABET + OTHER:
            if character != key[place]:
                assert not well_formed(key[:place] + character + key[place + 1 :])


def test_characters_left_out_added_or_swapped_are_refused() -> None:
    key = generate()
    for place in range(LENGTH):
        assert not well_formed(key[:place] + key[place + 1 :])
        for character in ALPHABET + OTHER:
            assert not well_formed(key[:place] + character + key[place:])
        swapped = key[:place] + key[place : place + 2][::-1] + key[place + 2 :]
        assert swapped == key or not well_formed(swapped)


@given(st.text(max_size=60) | st.text(ALPHABET, min_size=34, max_size=34).map(PREFIX.__add__))
@searched
def test_no_text_passes_by_chance_or_makes_it_raise(text: str) -> None:
    assert not well_formed(text)
    assert len(digest(text.encode(errors="ignore").decode())) == 64


@pytest.mark.parametrize(
    "key", ["", PREFIX, PREFIX + "x" * 34, "Bearer x", "sk-" + "x" * 39, "x" * LENGTH, "é" * LENGTH]
)
def test_strangers_keys_are_refused(key: str) -> None:
    assert not well_formed(key)


@pytest.mark.parametrize("change", [str.upper, str.lower, str.swapcase, " {}".format, "{}\n".format, '"{}"'.format])
def test_a_key_is_taken_only_as_it_was_given(change: object) -> None:
    assert callable(change)
    assert not well_formed(change(generate()))


@pytest.mark.parametrize("character", ["\0", "-", " "])
def test_a_key_of_other_characters_is_refused_though_its_checksum_is_right(character: str) -> None:
    body = PREFIX + character * RANDOM_LENGTH
    assert not well_formed(body + checksum(body))


def test_the_checksum_is_six_characters_and_always_the_same() -> None:
    sums = [checksum(str(number)) for number in range(5000)]
    assert {len(found) for found in sums} == {CHECK_LENGTH}
    assert len(set(sums)) == 5000
    assert set("".join(sums)) == set(ALPHABET)
    assert checksum("pk-prov-" + "0" * 28) == checksum("pk-prov-" + "0" * 28)
