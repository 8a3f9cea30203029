"""The soak's books have teeth: one wrong figure in any of the ledgers is found. The soak itself: `make soak`."""

import random
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.soak.asking import Asked, Read, ask, cost
from tests.soak.books import Row, Stored, batch_findings, hook_findings, sent_again, submissions_findings
from tests.soak.faults import CRASHES, DECK, schedule
from tests.soak.watching import growths
from tests.soak.world import TENANTS

pytestmark = pytest.mark.sqlite_only  # it asks no database
PRICE = (1, 2)
THEN = 1_000_000.0


class Books(NamedTuple):
    """A batch of four lines whose last always fails, in all of the ledgers."""

    asked: Asked
    stored: Stored
    heard: dict[int, tuple[int, float]]

    def findings(self) -> list[str]:
        return [
            *batch_findings(self.asked, self.stored, self.heard, PRICE, [(THEN + 50, THEN + 60)]),
            *submissions_findings([self.asked], [self.stored]),
        ]


@pytest.fixture
def books() -> Books:
    asked = Asked(7, "acme", "steady", doomed={4}, ids={"batch_1"}, status="completed")
    asked.sizes.extend([100, 200, 300, 400])
    costs = {line: cost(size, PRICE) for line, size in enumerate(asked.sizes[:3], 1)}
    total = sum(costs.values())
    asked.read = Read(4, 3, total, True)
    rows = {line: Row(True, due, THEN) for line, due in costs.items()} | {4: Row(False, 0, THEN)}
    stored = Stored("batch_1", 7, "completed", 4, 3, 1, total, rows, [total])
    return Books(asked, stored, {line: (int(line < 4), THEN - 1) for line in rows})


def test_books_that_agree_are_well(books: Books) -> None:
    assert books.findings() == []
    assert cost(100, PRICE) == 25 * 500_000 + 7 * 1_000_000  # by hand: 25 tokens in, 5 + 100 % 7 out


@pytest.mark.parametrize(("tenant", "wrong"), [("shared-4", 0), ("acme", 1)])
def test_who_has_a_limit_of_tokens_may_reach_it(books: Books, tenant: str, wrong: int) -> None:
    books.asked.tenant, books.asked.read = tenant, None
    refused = '{"data": [], "counts": {"token_limit_exceeded": 1}}'
    failed = Stored("batch_1", 7, "failed", 4, 0, 0, 0, errors=refused)
    assert len(books._replace(stored=failed, heard={}).findings()) == wrong


def without(books: Books, line: int) -> None:
    del books.stored.rows[line]


def disown(books: Books) -> None:
    books.asked.ids.clear()
    books.stored.number = None


WRONG: dict[str, tuple[str, Callable[[Books], Any]]] = {
    "a lost line": ("lines were lost", lambda books: without(books, 2)),
    "a counter": ("4 results", lambda books: setattr(books.stored, "completed", 2)),
    "a line nobody sent": ("never were sent", lambda books: books.stored.rows.update({9: books.stored.rows[4]})),
    "an answer nobody gave": ("no upstream answered", lambda books: books.heard.update({1: (0, THEN - 1)})),
    "an answer that was lost": ("answers were lost", lambda books: books.heard.update({4: (1, THEN - 1)})),
    "a finished line that is sent": ("sent again", lambda books: books.heard.update({1: (2, THEN + 5)})),
    "a line that fails": ("nothing was wrong with", lambda books: books.asked.doomed.clear()),
    "a pico-USD of a line": ("cost something else", lambda books: books.stored.rows.update({1: Row(True, 1, THEN)})),
    "a pico-USD of the batch": ("its answers", lambda books: setattr(books.stored, "cost", 1)),
    "no charge": ("charged []", lambda books: books.stored.charges.clear()),
    "two charges": ("charged [", lambda books: books.stored.charges.append(books.stored.cost)),
    "an output cut off": ("lines of 4", lambda books: setattr(books.asked, "read", Read(3, 3, books.stored.cost, True))),
    "an output out of order": ("order", lambda books: setattr(books.asked, "read", Read(4, 3, books.stored.cost, False))),
    "an output of others": ("served were", lambda books: setattr(books.asked, "read", Read(4, 3, 5, True))),
    "a batch that goes on": ("has not ended", lambda books: setattr(books.stored, "status", "finalizing")),
    "a wrong file that runs": ("its file is wrong", lambda books: setattr(books.asked, "wrong", "invalid_json_line")),
    "a batch that is not there": ("is not there", lambda books: books.asked.ids.add("batch_2")),
    "a refusal that is there": ("refused, and is", lambda books: books.asked.ids.clear()),
    "a batch of nobody": ("is nobody's", disown),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_figure_is_found(name: str, books: Books) -> None:
    wanted, spoil = WRONG[name]
    spoil(books)
    assert [finding for finding in books.findings() if wanted in finding], books.findings()


def test_a_submission_that_became_two_batches_is_found(books: Books) -> None:
    twin = Stored("batch_2", 7, "completed", 4, 3, 1, 0)
    assert "is 2 batches" in " ".join(submissions_findings([books.asked], [books.stored, twin]))


def test_who_slept_may_send_what_is_finished(books: Books) -> None:
    books.heard[1] = (2, THEN + 55)
    assert books.findings() == []
    assert sent_again({"line:7-1": (2, THEN), "line:7-2": (1, THEN), "line:7-4": (0, THEN)}) == 1


def test_an_end_that_was_not_told_is_found() -> None:
    ended = {"batch_1": "completed", "batch_2": "cancelled", "batch_3": "completed"}
    told = {"batch_1": {"batch.completed"}, "batch_3": {"batch.completed", "batch.failed"}}
    assert [finding.split(":")[0] for finding in hook_findings(ended, told)] == ["batch_2", "batch_3"]


@pytest.mark.parametrize(("an_hour", "flat"), [(0.0, True), (12.0, True), (120.0, False)])
def test_what_grows_is_found(an_hour: float, flat: bool) -> None:
    samples = [{"at": at, "web: MB of the largest": 100 + an_hour * at / 3600} for at in range(0, 3600, 10)]
    [growth] = growths(samples, 3600)
    assert (growth.flat, round(growth.an_hour)) == (flat, an_hour)


def test_a_seed_gives_the_same_faults_and_files() -> None:
    hour = list(schedule(5, 3600))
    assert hour == list(schedule(5, 3600)) != list(schedule(6, 3600))
    names = {name for _, name in hour}
    assert names == {*DECK, "crash PostgreSQL"}, "an hour has a fault of every kind"
    assert [name for _, name in schedule(5, 180)].count("crash PostgreSQL") == len(CRASHES)
    first, second = (ask(1, TENANTS[0], random.Random(3)) for _ in range(2))
    assert first == second
    assert first[1].count(b"\n") == len(first[0].sizes)
