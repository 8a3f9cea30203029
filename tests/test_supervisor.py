"""The supervisor over small children: deaths, backoff, wedges, the order of a stop, and nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provocative import children
from provocative.children import FIRST_DELAY, GOOD_LIFE, HEALTH_EVERY, LONGEST_DELAY, Child, Process
from provocative.supervisor import INTERRUPTED, Job, StopRequest, Supervisor
from tests.conftest import until

pytestmark = pytest.mark.sqlite_only  # no database in it

SLEEPER = (sys.executable, "-S", "-c", "import time; time.sleep(60)")
FAILING = ("/bin/false",)


def shell(script: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """A supervisor takes the signals of this process: give them back."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def process() -> Iterator[Process]:
    """A child that sleeps, started at the time 0."""
    process = Process(Child("sleeper", SLEEPER))
    process.turn(0)
    yield process
    process.kill()


def die(process: Process) -> int:
    """Kill its main process and wait until that is a fact; the pid it had."""
    pid = process.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


# --- one process -----------------------------------------------------------------------------------------------------


def test_a_dead_child_is_started_again_after_its_delay(process: Process) -> None:
    first = die(process)
    process.turn(1.0)
    assert process.pid is None
    process.turn(1.0 + FIRST_DELAY)
    assert process.pid not in (None, first)


def test_the_delay_doubles_up_to_its_longest_and_starts_anew_after_a_good_life(process: Process) -> None:
    now, delays = 0.0, []
    for _ in range(8):
        die(process)
        process.turn(now)
        delays.append(process.delay)
        now += process.delay
        process.turn(now)
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, LONGEST_DELAY, LONGEST_DELAY]
    die(process)
    process.turn(now + GOOD_LIFE)
    assert process.delay == FIRST_DELAY


def test_a_child_that_cannot_be_started_is_tried_again() -> None:
    process = Process(Child("ghost", ("/nowhere/to/be/found",)))
    process.turn(0)
    assert process.pid is None
    assert process.delay == FIRST_DELAY
    process.turn(FIRST_DELAY)
    assert process.delay == 2 * FIRST_DELAY


def test_a_child_is_wedged_when_its_check_fails_for_all_of_its_patience() -> None:
    answers = iter([False, True, False, False, False])
    process = Process(Child("wedged", SLEEPER, healthy=lambda: next(answers), patience=2 * HEALTH_EVERY))
    process.turn(0)
    first, now = process.pid, 2 * HEALTH_EVERY  # not asked before: it may take its patience to start
    for _ in range(4):
        process.turn(now)
        assert process.pid == first
        now += HEALTH_EVERY
    process.turn(now)
    assert process.delay == FIRST_DELAY
    assert not alive(first or 0)
    process.turn(now + FIRST_DELAY)
    assert process.pid not in (None, first)
    process.kill()


def test_a_check_that_raises_says_nothing_about_the_child() -> None:
    def no_database() -> bool:
        raise ConnectionError

    process = Process(Child("unknown", SLEEPER, healthy=no_database, patience=0))
    for now in range(0, 100, 10):
        process.turn(now)
    assert process.delay == 0
    process.kill()


def test_what_a_dead_child_leaves_behind_is_killed_before_it_is_started_again(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    process = Process(Child("parent", shell(f"sleep 60 & echo $! > {told}.new; mv {told}.new {told}; wait")))
    process.turn(0)
    orphan = int(until(lambda: told.exists() and told.read_text()))
    assert alive(orphan)
    die(process)
    process.turn(1)
    until(lambda: not alive(orphan))


def test_a_child_has_a_session_of_its_own_and_its_output_goes_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    process = Process(Child("talker", shell("echo $WORD; exec sleep 60"), env={"WORD": "spoken"}))
    process.turn(0)
    pid = process.pid or 0
    assert os.getsid(pid) == pid
    said = silent = ""
    while "spoken" not in said:
        heard = capfd.readouterr()
        said, silent = said + heard.err, silent + heard.out
    assert silent == ""
    process.kill()


def test_children_die_with_their_supervisor_at_once() -> None:
    program = """
        import time
        from provocative.children import Child, Process
        process = Process(Child("sleeper", ("/bin/sleep", "60")))
        process.turn(0)
        print(process.pid, flush=True)
        time.sleep(60)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    until(lambda: not alive(child))


def test_a_child_whose_parent_died_before_it_was_tied_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(children, "die_with_parent", lambda: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    children._tie_to(os.getppid())
    children._tie_to(os.getpid())


# --- the loop --------------------------------------------------------------------------------------------------------


def polite(name: str, log: Path) -> Child:
    """A child that says when it is up and when it was told to stop."""
    script = f"trap 'echo {name} >> {log}; exit 0' TERM; touch {log}.{name}; while :; do sleep 0.02; done"
    return Child(name, shell(script))


def when_up(log: Path, names: str, *signals: int) -> Job:
    """Sends signals to this process once all the named children are up."""

    def send() -> None:
        if all(Path(f"{log}.{name}").exists() for name in names):
            for number in signals:
                os.kill(os.getpid(), number)

    return Job("signal", 0.05, send)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_children_in_the_reverse_order_of_their_start(tmp_path: Path, number: int) -> None:
    log = tmp_path / "log"
    signal.signal(number, signal.SIG_DFL)  # under nohup the tests inherit an ignored SIGHUP
    supervisor = Supervisor([polite(name, log) for name in "abc"], [when_up(log, "abc", number)])
    assert supervisor.run() == 0
    assert log.read_text().split() == ["c", "b", "a"]
    assert all(process.pid is None for process in supervisor.processes)


def test_children_of_one_group_stop_together_and_one_that_lingers_stays(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"trap 'echo X >> {log}; touch {log}.told.X; until [ -e {log}.told.Y ]; do sleep 0.02; done; exit' TERM;"
    loop = "while :; do sleep 0.02; done"
    pair = [
        Child("b", shell(script.replace("X", "b").replace("Y", "c") + f"touch {log}.b; {loop}"), with_next=True),
        Child("c", shell(script.replace("X", "c").replace("Y", "b") + f"touch {log}.c; {loop}")),
    ]
    web, left = replace(polite("a", log), lingers=0.6), []
    start = time.monotonic()
    supervisor = Supervisor(
        [web, *pair],
        [when_up(log, "abc", signal.SIGTERM)],
        leave=lambda: left.append((time.monotonic(), log.exists() and log.read_text())),
    )
    assert supervisor.run() == 0
    ((asked, told_before),) = left
    assert not told_before, "it leaves before the first is told"
    assert sorted(log.read_text().split()[:2]) == ["b", "c"] and log.read_text().split()[2:] == ["a"]
    assert time.monotonic() - asked >= web.lingers and asked > start


def test_a_second_sigterm_changes_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    job = when_up(log, "ab", signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
    assert Supervisor([polite(name, log) for name in "ab"], [job]).run() == 0
    assert log.read_text().split() == ["b", "a"]


def test_a_child_that_does_not_stop_is_killed_after_its_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    deaf = Child("deaf", shell(f"trap '' TERM; touch {log}.d; while :; do sleep 0.02; done"), grace=0.3)
    supervisor = Supervisor([polite("a", log), deaf], [when_up(log, "ad", signal.SIGTERM)])
    start = time.monotonic()
    assert supervisor.run() == 0
    assert time.monotonic() - start >= deaf.grace
    assert log.read_text().split() == ["a"]


def test_a_second_sigint_kills_at_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = f"trap 'kill -INT $PPID' TERM; touch {log}.d; while :; do sleep 0.02; done"
    supervisor = Supervisor(
        [polite("a", log), Child("d", shell(script), grace=60)], [when_up(log, "ad", signal.SIGINT)]
    )
    assert supervisor.run() == INTERRUPTED
    assert all(process.pid is None for process in supervisor.processes)
    assert not log.exists() or log.read_text().split() == ["a"]


def test_a_child_killed_under_the_loop_comes_back(tmp_path: Path) -> None:
    log = tmp_path / "log"
    supervisor = Supervisor([polite("a", log)])
    stop, pids = StopRequest(), set[int]()
    supervisor._stop = stop

    def kill_three_times() -> None:
        pid = supervisor.processes[0].pid
        if pid and pid not in pids:
            pids.add(pid)
            os.kill(pid, signal.SIGKILL)
        stop.asked = len(pids) == 3

    supervisor._jobs.append(Job("kill", 0.0, kill_three_times))
    assert supervisor.run() == 0
    assert not any(alive(pid) for pid in pids)


def test_a_job_that_raises_is_logged_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    stop, calls = StopRequest(), []

    def fail() -> None:
        calls.append(1)
        stop.asked = len(calls) == 3
        raise RuntimeError("no luck")

    assert Supervisor([], [Job("luck", 0.0, fail)], stop).run() == 0
    assert len(calls) == 3
    assert [record.message for record in caplog.records if "luck" in record.message] == [
        "luck failed; it is tried again every 0.0 s"
    ]


def test_a_stop_asked_for_before_the_start_starts_nothing() -> None:
    stop = StopRequest()
    stop.asked = True
    supervisor = Supervisor([Child("never", FAILING)], stop=stop)
    assert supervisor.run() == 0
    assert supervisor.processes[0].delay == 0


def test_a_sighup_that_was_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    StopRequest().listen()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
