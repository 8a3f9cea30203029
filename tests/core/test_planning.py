"""The plan of a batch: neighbours share their prompts, slices are even, nothing is lost or sent twice."""

import time
from collections.abc import Callable, Iterable
from itertools import chain
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core import planning
from batches.core.planning import PREFIX_BYTES, SLICE_BYTES, SLICE_LINES, SPREAD, WINDOW, Columns, Cut
from tests.core import searched

SHARED = b"s" * (4 * PREFIX_BYTES)


class Item(NamedTuple):
    """One line, as the planner sees it."""

    prefix: bytes = b""
    model: str = "m"
    tokens: int = 100
    length: int = 1000


def columns_of(items: Iterable[Item]) -> Columns:
    columns, offset = Columns(), 0
    for number, item in enumerate(items, 1):
        columns.add(number, offset, item.length, item.model, item.prefix, item.tokens)
        offset += item.length + 1
    return columns


def cuts_of(items: list[Item], slots: int) -> list[Cut]:
    columns = columns_of(items)
    return list(planning.cut(columns, planning.order(columns), {item.model: slots for item in items}))


def prefix(family: int, branch: int, size: int) -> bytes:
    """Two prompts of a family share 3 KiB; of a branch all of the shorter one."""
    return (b"%d" % family * (3 * PREFIX_BYTES) + b"%d" % branch * (40 * PREFIX_BYTES))[:size]


SIZES = (0, 10, 1023, 1024, 1025, 2048, 3000, 4096, 5000, 40_000)
PREFIXES = st.builds(prefix, st.integers(0, 2), st.integers(0, 2), st.sampled_from(SIZES))
LENGTHS = st.sampled_from([2, 1000, SLICE_BYTES // 3, SLICE_BYTES, SLICE_BYTES + 1])
ITEMS = st.builds(Item, PREFIXES, st.sampled_from("abc"), st.integers(1, 10**7), LENGTHS)
BATCHES = st.lists(ITEMS, min_size=1, max_size=40).map(lambda some: some * 3) | st.lists(
    ITEMS, min_size=1, max_size=120
)
LONG = st.builds(lambda some, times: some * times, st.lists(ITEMS, min_size=1, max_size=12), st.integers(1, 80))
SLOTS = st.integers(1, 5) | st.integers(1, 2000)


@given(BATCHES)
@searched
def test_the_order_is_every_line_once(items: list[Item]) -> None:
    positions = list(chain.from_iterable(planning.order(columns_of(items))))
    assert sorted(positions) == list(range(len(items)))


@given(st.lists(st.binary(max_size=1023).map(Item), min_size=1, max_size=60))
@searched
def test_lines_that_share_nothing_keep_the_order_of_the_file(items: list[Item]) -> None:
    assert planning.order(columns_of(items)) == [[position] for position in range(len(items))]


def test_lines_that_share_a_byte_too_little_keep_the_order_of_the_file() -> None:
    items = [Item(SHARED[:1023] + b"%d" % number * 2000) for number in range(9)]
    assert planning.order(columns_of(items)) == [[position] for position in range(9)]


@given(BATCHES)
@searched
def test_lines_of_a_model_that_share_1024_bytes_are_one_chain(items: list[Item]) -> None:
    found = {tuple(sorted(positions)) for positions in planning.order(columns_of(items))}
    families: dict[object, list[int]] = {}
    for position, item in enumerate(items):
        alone = len(item.prefix) < PREFIX_BYTES
        families.setdefault(position if alone else (item.model, item.prefix[:PREFIX_BYTES]), []).append(position)
    assert found == {tuple(positions) for positions in families.values()}


@pytest.mark.parametrize("size", planning.LEVELS)
@given(items=BATCHES)
@searched
def test_within_a_chain_those_that_share_more_stand_together(size: int, items: list[Item]) -> None:
    for positions in planning.order(columns_of(items)):
        starts = [items[p].prefix[:size] if len(items[p].prefix) >= size else p for p in positions]
        runs = [start for index, start in enumerate(starts) if index == 0 or start != starts[index - 1]]
        assert len(runs) == len(set(runs))


@given(BATCHES)
@searched
def test_models_and_groups_stand_where_their_first_line_stood(items: list[Item]) -> None:
    chains = planning.order(columns_of(items))
    heads = [positions[0] for positions in chains]
    models = [items[head].model for head in heads]
    assert list(dict.fromkeys(models)) == list(dict.fromkeys(item.model for item in items))
    for model in set(models):
        own = [head for head in heads if items[head].model == model]
        assert own == sorted(own)
        assert all(head == min(positions) for head, positions in zip(heads, chains, strict=True))


@given(LONG, SLOTS)
@searched
def test_slices_are_every_line_once_in_planned_order(items: list[Item], slots: int) -> None:
    planned = [line.position for cut in cuts_of(items, slots) for line in cut.lines]
    assert planned == list(chain.from_iterable(planning.order(columns_of(items))))


@given(LONG, SLOTS)
@searched
def test_a_slice_is_of_one_model_and_bounded(items: list[Item], slots: int) -> None:
    for cut in cuts_of(items, slots):
        own = [items[line.position] for line in cut.lines]
        assert {item.model for item in own} == {cut.model}
        assert cut.tokens == sum(item.tokens for item in own)
        assert 1 <= len(own) <= SLICE_LINES
        assert len(own) == 1 or sum(item.length for item in own) <= SLICE_BYTES


@given(LONG, SLOTS)
@searched
def test_the_chains_of_a_slice_are_numbered_runs_of_one_prefix(items: list[Item], slots: int) -> None:
    for cut in cuts_of(items, slots):
        numbers = [line.chain for line in cut.lines]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(numbers[-1] + 1))
        for number in set(numbers):
            own = [items[line.position].prefix for line in cut.lines if line.chain == number]
            assert len(own) == 1 or len({(len(text) >= PREFIX_BYTES, text[:PREFIX_BYTES]) for text in own}) == 1
            assert len(own) <= max(1, WINDOW // slots)


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 32, 64, 100, 333, 600, 1024, 5000])
def test_one_prefix_over_all_lines_still_fills_every_slot(slots: int) -> None:
    cuts = cuts_of([Item(SHARED)] * 5000, slots)
    links = [(index, line.chain) for index, cut in enumerate(cuts) for line in cut.lines]
    for start in range(0, len(links) - WINDOW, 97):
        assert len(set(links[start : start + WINDOW])) >= min(slots, WINDOW)


@pytest.mark.parametrize("lines", [64, 100, 500, 900])
def test_one_prefix_over_a_small_batch_fills_every_slot_too(lines: int) -> None:
    cuts = cuts_of([Item(SHARED)] * lines, 32)
    assert len({(index, line.chain) for index, cut in enumerate(cuts) for line in cut.lines}) >= 32


@pytest.mark.parametrize(
    "shared",
    [b"", SHARED],
)
def test_a_batch_that_is_not_tiny_is_cut_for_several_runners(shared: bytes) -> None:
    assert len(cuts_of([Item(shared)] * 256, 4)) >= SPREAD


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50), st.integers(1, 60))
@searched
def test_token_work_is_about_equal_where_nothing_is_shared(tokens: list[int], times: int) -> None:
    items = [Item(tokens=count) for count in tokens for _ in range(times)]  # the heavy ones stand together
    lines = min(SLICE_LINES, max(planning.MIN_SLICE_LINES, -(-len(items) // SPREAD)))
    average = sum(item.tokens for item in items) / len(items)
    for cut in cuts_of(items, 32):
        assert len(cut.lines) <= lines
        assert len(cut.lines) == 1 or cut.tokens <= 2 * average * lines + 1


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100, 2048, 2049, 5000])
def test_equal_lines_make_equal_slices(count: int) -> None:
    sizes = [len(cut.lines) for cut in cuts_of([Item()] * count, 8)]
    assert len(set(sizes[:-1])) <= 1
    assert sizes[-1] <= sizes[0]


def test_a_chain_of_heavy_lines_is_not_all_in_one_slice() -> None:
    items = [Item(SHARED, tokens=10_000)] * 256 + [Item(tokens=10)] * 2000
    assert max(cut.tokens for cut in cuts_of(items, 4)) <= sum(item.tokens for item in items) / 2


def test_a_chain_is_not_cut_without_need() -> None:
    cuts = cuts_of([Item(SHARED)] * 5000, 4)
    assert sum(cut.lines[-1].chain + 1 for cut in cuts) == -(-5000 // SLICE_LINES)


def test_a_chain_longer_than_a_slice_is_cut_though_there_is_but_one_slot() -> None:
    sizes = [len(cut.lines) for cut in cuts_of([Item(SHARED, length=2)] * 1500, 1)]
    assert sum(sizes) == 1500
    assert max(sizes) <= SLICE_LINES


def test_a_line_larger_than_a_slice_is_a_slice() -> None:
    huge = SLICE_BYTES * 2
    cuts = cuts_of([Item(SHARED), Item(SHARED, length=huge), Item(SHARED)], 1)
    assert [[line.position for line in cut.lines] for cut in cuts] == [[0], [1], [2]]


def test_the_prefix_of_another_model_makes_no_neighbour() -> None:
    items = [Item(SHARED, model="ab"[number % 2]) for number in range(6)]
    assert planning.order(columns_of(items)) == [[0, 2, 4], [1, 3, 5]]


NUMBERS = st.integers(0, 2**32 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=30))
@searched
def test_packed_entries_come_back(entries: list[tuple[int, int, int, int, int]]) -> None:
    packed = planning.pack(entries)
    assert len(packed) == 20 * len(entries)
    assert list(planning.unpack(packed)) == entries


@pytest.mark.parametrize("families", [1, 700, 50_000])
def test_fifty_thousand_lines_are_planned(families: int, record_property: Callable[[str, object], None]) -> None:
    columns = columns_of(Item(b"%d" % (number % families) * 1100) for number in range(50_000))
    began = time.perf_counter()
    cuts = list(planning.cut(columns, planning.order(columns), {"m": 32}))
    record_property("seconds", round(time.perf_counter() - began, 3))
    assert sum(len(cut.lines) for cut in cuts) == 50_000
    assert len(cuts) < 1000


def test_how_much_neighbours_share() -> None:
    for prefixes, shared in (
        ([SHARED, SHARED], 4096),
        ([SHARED + b"a" * 5000, SHARED + b"b" * 5000, SHARED + b"a" * 5000], 8192 + 4096),
        ([SHARED[:1023], SHARED[:1023]], 0),
        ([SHARED, b"t" * 4096], 0),
        ([SHARED], 0),
    ):
        columns = columns_of(Item(prefix) for prefix in prefixes)
        cuts = list(planning.cut(columns, planning.order(columns), {"m": 1}))
        assert planning.shared_bytes(columns, cuts) == shared


def test_what_is_sent_at_once_shares_nothing() -> None:
    columns = columns_of(Item(SHARED) for _ in range(8))
    cuts = list(planning.cut(columns, planning.order(columns), {"m": 4}))
    assert planning.shared_bytes(columns, cuts) == 4 * len(SHARED)
