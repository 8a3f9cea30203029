"""The order in which a batch's lines are run, and how it is cut into slices. Pure.

Engines cache shared prompt prefixes, so lines whose prompts share at least PREFIX_BYTES form a chain: neighbours that
are sent one after another while many chains run in parallel. Prompts are compared by hashes of their first 1, 2, 4 …
KiB, so that the plan of 50,000 lines takes a few MB. Lines that share nothing keep the order of the file.
"""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

PREFIX_BYTES = 1024
LEVELS = tuple(PREFIX_BYTES << level for level in range(6))
SLICE_LINES = 256
SLICE_BYTES = 4 * 1024 * 1024
MIN_SLICE_LINES = 16
SPREAD = 8  # a batch is cut into at least so many slices, when they are not tiny: several runners share it
WINDOW = 1024  # lines in a runner's hands: chains are cut so that a window holds one for every slot
FIELDS = 5  # a slice's entry: line number, offset in the slice, length, chain, tokens


class Columns:
    """What is kept of each line between reading and planning: arrays, not objects."""

    def __init__(self) -> None:
        self.numbers, self.offsets, self.lengths = array("I"), array("Q"), array("I")
        self.models, self.tokens = array("I"), array("I")
        self.model_names: dict[str, int] = {}
        self._levels: dict[int, list[int]] = {}  # position -> hashes, of prompts that have a prefix at all

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, number: int, offset: int, length: int, model: str, prefix: bytes, tokens: int) -> None:
        if len(prefix) >= PREFIX_BYTES:
            self._levels[len(self.numbers)] = [hash(prefix[:size]) for size in LEVELS if len(prefix) >= size]
        self.numbers.append(number)
        self.offsets.append(offset)
        self.lengths.append(length)
        self.models.append(self.model_names.setdefault(model, len(self.model_names)))
        self.tokens.append(tokens)

    def prefix_hash(self, position: int, level: int) -> int:
        """The hash of the prompt's first LEVELS[level] bytes; 0 when it is shorter."""
        hashes = self._levels.get(position, ())
        return hashes[level] if level < len(hashes) else 0

    def shared(self, one: int, other: int) -> int:
        """Bytes with which both prompts begin, as far as the levels tell: at least so many."""
        found = 0
        for size, first, second in zip(LEVELS, self._levels.get(one, ()), self._levels.get(other, ()), strict=False):
            if first != second:
                break
            found = size
        return found


class Planned(NamedTuple):
    """One line in planned order: its position in the file's columns, and the chain it is a link of."""

    position: int
    chain: int


class Cut(NamedTuple):
    """A slice: planned lines of one model, in the order they are sent."""

    model: str
    lines: list[Planned]
    tokens: int


def order(columns: Columns) -> list[list[int]]:
    """Chains in planned order: by model, then by shared prefix, groups standing where their first line stood."""
    of_model: list[list[int]] = [[] for _ in columns.model_names]
    for position, model in enumerate(columns.models):
        of_model[model].append(position)
    return [_nested(columns, group, 1) for positions in of_model for group in _groups(columns, positions, 0)]


def _groups(columns: Columns, positions: list[int], level: int) -> Iterable[list[int]]:
    """Positions with an equal hash at `level`, in order of appearance; a line without one stands alone."""
    groups: dict[int, list[int]] = {}
    for position in positions:
        key = columns.prefix_hash(position, level)
        groups.setdefault(key or -1 - position, []).append(position)
    return groups.values()


def _nested(columns: Columns, group: list[int], level: int) -> list[int]:
    """The group with those that share even more made neighbours."""
    if level == len(LEVELS) or len(group) < 3:
        return group
    inner = _groups(columns, group, level)
    return [position for part in inner for position in _nested(columns, part, level + 1)]


def cut(columns: Columns, chains: list[list[int]], slots: dict[str, int]) -> Iterator[Cut]:
    """Cut planned order into slices of about equal token work, chains whole where they fit.

    `slots` is how many requests of each model may be in flight: chains are cut so that they can all be busy.
    """
    names = list(columns.model_names)
    totals = _model_totals(columns)
    current: list[Planned] = []
    chain = tokens = size = 0
    model = -1
    for part in _parts(columns, chains, _links(columns, [slots.get(name, 1) for name in names]), totals):
        work = sum(columns.tokens[position] for position in part)
        length = sum(columns.lengths[position] for position in part)
        lines, share = totals[columns.models[part[0]]]
        full = len(current) + len(part) > lines or tokens + work > share or size + length > SLICE_BYTES
        if current and (full or columns.models[part[0]] != model):
            yield Cut(names[model], current, tokens)
            current, tokens, size, chain = [], 0, 0, 0
        model = columns.models[part[0]]
        current += [Planned(position, chain) for position in part]
        chain, tokens, size = chain + 1, tokens + work, size + length
    if current:
        yield Cut(names[model], current, tokens)


def _links(columns: Columns, slots: list[int]) -> list[int]:
    """For each model: how long a chain may be, so that the lines in a runner's hands hold one for every slot."""
    counts = Counter(columns.models)
    return [max(1, min(WINDOW, counts[model]) // max(1, free)) for model, free in enumerate(slots)]


def _parts(
    columns: Columns, chains: list[list[int]], links: list[int], totals: list[tuple[int, int]]
) -> Iterator[list[int]]:
    """Chains cut to their links, and to a slice's lines, tokens and bytes."""
    for positions in chains:
        model = columns.models[positions[0]]
        lines, share = totals[model]
        longest = min(links[model], lines)
        part: list[int] = []
        size = work = 0
        for position in positions:
            length, tokens = columns.lengths[position], columns.tokens[position]
            if part and (len(part) >= longest or size + length > SLICE_BYTES or work + tokens > share):
                yield part
                part, size, work = [], 0, 0
            part.append(position)
            size, work = size + length, work + tokens
        yield part


def _model_totals(columns: Columns) -> list[tuple[int, int]]:
    """For each model: lines a slice at most, and tokens a slice at most."""
    counts, work = [0] * len(columns.model_names), [0] * len(columns.model_names)
    for index, tokens in zip(columns.models, columns.tokens, strict=True):
        counts[index] += 1
        work[index] += tokens
    totals = []
    for count, tokens in zip(counts, work, strict=True):
        lines = min(SLICE_LINES, max(MIN_SLICE_LINES, -(-count // SPREAD)))
        totals.append((lines, 2 * tokens * lines // count + 1))
    return totals


def shared_bytes(columns: Columns, cuts: Iterable[Cut]) -> int:
    """Prompt bytes that were sent just before, with the line's neighbour in its chain: at least so many."""
    return sum(
        columns.shared(before.position, line.position)
        for cut in cuts
        for before, line in pairwise(cut.lines)
        if before.chain == line.chain
    )


def pack(entries: Iterable[tuple[int, int, int, int, int]]) -> bytes:
    """A slice's entries as bytes: five unsigned 32-bit numbers a line."""
    packed = array("I")
    for entry in entries:
        packed.extend(entry)
    return packed.tobytes()


def unpack(data: bytes) -> Iterator[tuple[int, ...]]:
    """What `pack` took: line number, offset in the slice, length, chain, tokens."""
    packed = array("I")
    packed.frombytes(data)
    fields = iter(packed)
    return zip(*[fields] * FIELDS, strict=True)


def place(data: bytes, number: int) -> tuple[int, int] | None:
    """The offset in its slice and the length of the line with this number, if it is one of these entries."""
    packed = array("I")
    packed.frombytes(data)
    try:
        at = packed[::FIELDS].index(number) * FIELDS
    except ValueError:
        return None
    return packed[at + 1], packed[at + 2]


def numbers(data: bytes) -> "array[int]":
    """The numbers of the lines of these entries."""
    packed = array("I")
    packed.frombytes(data)
    return packed[::FIELDS]
