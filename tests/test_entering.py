"""How many runners of a host send: as many as may, whoever begins at once, and whoever wakes."""

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from django.db import connection

from batches.engine import entering, leases, runner
from batches.models import Runner
from tests.conftest import Person
from tests.threads import ThreadPoolExecutor


def test_two_runners_that_begin_at_once_do_not_both_find_room(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    both, register = threading.Barrier(2), leases.register

    def when_both_have_looked() -> Runner:
        with suppress(threading.BrokenBarrierError):
            both.wait(0.3)  # the other one is not let so far
        return register()

    monkeypatch.setattr("batches.engine.leases.register", when_both_have_looked)

    def begin() -> Runner | None:
        try:
            return entering.enter(1)
        except entering.Full:
            return None
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        found = [one.result() for one in [pool.submit(begin) for _ in range(2)]]
    assert [row for row in found if row] == list(Runner.objects.all()) and found.count(None) == 1


def test_a_runner_whose_place_was_taken_while_it_slept_hands_in_and_goes(owner: Person, settings: Any) -> None:
    settings.RUNNERS = 1
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        woken = runner.RunnerLoop(loop, stop=lambda: False, idle=5, seconds=600)
        Runner.objects.all().delete()
        successor = leases.register()
        woken._heartbeat()
        assert Runner.objects.count() == 2, "what it has in hand is still to be handed in"
        assert woken._finished()
        woken.run()
    assert list(Runner.objects.all()) == [successor]
