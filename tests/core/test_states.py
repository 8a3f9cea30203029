"""The states of a batch: the drawing is the truth, and no way leads out of an end."""

import re
from itertools import pairwise

import pytest

from batches.core import states
from batches.core.states import ACTIVE, CLOSING, NATIVE, STEPS, TAKING, TERMINAL, Status, before, ending

NAME = re.compile(r"[a-z_]+")
DOCUMENTED = {"validating", "in_progress", "completed", "failed", "cancelling", "cancelled"}


def names_on(line: str) -> list[re.Match[str]]:
    return list(NAME.finditer(line.split("(", maxsplit=1)[0]))


def drawn() -> set[tuple[str, str]]:
    """The arrows of the docstring's drawing; a branch begins at the name of the first line it hangs from."""
    first, *branches = [line for line in (states.__doc__ or "").splitlines() if line.startswith("    ")]
    trunk = names_on(first)
    arrows = {(a.group(), b.group()) for a, b in pairwise(trunk)}
    for branch in branches:
        names = names_on(branch)
        hangs_at = re.search(r"[|'](?=-+>|\s+->)", branch)
        assert hangs_at, branch
        stem = next(name for name in trunk if name.start() <= hangs_at.start() < name.end())
        arrows |= {(a.group(), b.group()) for a, b in pairwise(names)} | {(stem.group(), names[0].group())}
        also = re.search(r"\((\w+) too\)", branch)
        arrows |= {(also.group(1), names[0].group())} if also else set()
    return arrows


def test_the_drawing_is_what_the_table_says() -> None:
    assert drawn() == {(source, target) for source, targets in STEPS.items() for target in targets}


def test_the_drawing_is_the_one_that_was_decided() -> None:
    assert drawn() == {
        ("validating", "in_progress"), ("validating", "failed"), ("validating", "cancelling"), ("validating", "expiring"),
        ("in_progress", "finalizing"), ("in_progress", "cancelling"), ("in_progress", "expiring"),
        ("cancelling", "finalizing"), ("expiring", "finalizing"),
        ("finalizing", "completed"), ("finalizing", "cancelled"), ("finalizing", "expired"),
    }  # fmt: skip


def test_every_status_has_its_steps() -> None:
    assert set(STEPS) == set(Status)
    assert all(len(set(targets)) == len(targets) and source not in targets for source, targets in STEPS.items())


def test_an_end_is_an_end() -> None:
    assert set(TERMINAL) == {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED}
    assert all(STEPS[status] == () for status in TERMINAL)
    assert set(ACTIVE) | set(TERMINAL) == set(Status)
    assert not set(ACTIVE) & set(TERMINAL)


@pytest.mark.parametrize("target", Status)
def test_before_is_the_table_read_backwards(target: Status) -> None:
    assert {(source, target) for source in before(target)} == {
        (source, to) for source, targets in STEPS.items() for to in targets if to == target
    }


def reached_from(status: Status) -> set[Status]:
    found: set[Status] = set()
    waiting = [status]
    while waiting:
        for following in STEPS[waiting.pop()]:
            if following not in found:
                found.add(following)
                waiting.append(following)
    return found


def test_a_batch_can_get_everywhere_and_from_everywhere_to_an_end_and_never_back() -> None:
    assert reached_from(Status.VALIDATING) == set(Status) - {Status.VALIDATING}
    for status in ACTIVE:
        assert reached_from(status) & set(TERMINAL)
    assert all(status not in reached_from(status) for status in Status)


def test_cancel_and_expiry_start_only_while_lines_may_still_be_sent() -> None:
    for closing in CLOSING:
        assert set(before(closing)) == {Status.VALIDATING, Status.IN_PROGRESS}
    assert set(TAKING) == {Status.IN_PROGRESS, *CLOSING}
    assert Status.FINALIZING not in TAKING


@pytest.mark.parametrize(
    ("cancelled", "expired", "end"),
    [
        (False, False, Status.COMPLETED),
        (True, False, Status.CANCELLED),
        (False, True, Status.EXPIRED),
        (True, True, Status.CANCELLED),
    ],
)
def test_the_end_is_told_by_what_was_before(cancelled: bool, expired: bool, end: Status) -> None:
    assert ending(cancelled, expired) == end
    assert end in STEPS[Status.FINALIZING]


def test_the_native_surface_shows_documented_states_alone() -> None:
    assert set(NATIVE) == set(Status)
    assert set(NATIVE.values()) == DOCUMENTED
    assert {status for status in Status if NATIVE[status] != status} == {
        Status.EXPIRING,
        Status.FINALIZING,
        Status.EXPIRED,
    }
    assert NATIVE[Status.EXPIRED] == "failed"
    assert NATIVE[Status.EXPIRING] == NATIVE[Status.FINALIZING] == "in_progress"


def test_a_client_stops_waiting_exactly_when_the_batch_has_ended() -> None:
    ends = {NATIVE[status] for status in TERMINAL}
    assert ends == {"completed", "failed", "cancelled"}
    assert not ends & {NATIVE[status] for status in ACTIVE}
