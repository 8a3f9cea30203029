"""What the fuzzer's targets demand holds for every file of their corpora, and for a few hundred damaged ones."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz import TARGETS, Target, target

pytestmark = pytest.mark.sqlite_only  # no database in it
known = cache(target)


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_as_it_must_be(name: str) -> None:
    assert len(known(name).seeds) > 10
    for file, data in known(name).seeds.items():
        try:
            known(name).check(data)
        except Exception as error:
            raise AssertionError(f"{file}: {data[:300]!r}") from error


def damaged(draw: st.DrawFn, found: Target) -> bytes:
    """A seed of which parts are cut out, and others put in."""
    seeds = sorted(found.seeds.values(), key=len)[: -(-len(found.seeds) * 9 // 10)]  # without the largest
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from((0, 0, 1, 2, 8, 40)))
        data[start:end] = draw(st.sampled_from(found.tokens) | st.binary(max_size=4))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damage_makes_no_difference(name: str, data: st.DataObject) -> None:
    content = data.draw(st.composite(damaged)(known(name)))
    known(name).check(content)
