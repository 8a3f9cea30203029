"""What goes wrong, and when: a seeded schedule, and the hands that do it. Each fault says what it may cost."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Thread

import psycopg

from tests.soak.clients import dealt
from tests.soak.world import FLUSH, LEASE, RUNNERS, SLOTS, World

DECK = {
    "kill a worker host": 3, "replace a worker host": 2, "kill a runner": 4, "kill a chore": 3, "replace the web": 1,
    "kill the web": 1, "empty the queue": 2, "drop connections": 2, "let a runner sleep": 2, "an upstream is down": 2,
    "an upstream storms": 2, "files are late": 2, "a deadline comes": 1,
}  # fmt: skip
CALM = ("empty the queue", "an upstream is down", "an upstream storms", "files are late", "a deadline comes")
STILL = (0.5, 0.7)  # of the time: no process is killed, so that what grows can grow
CRASHES = (0.3, 0.8)  # of the time: PostgreSQL stops at once
LATEST = 0.93  # of the time: the last fault
EVERY = (8.0, 45.0)  # seconds between two, at the least and at the most
DISTURBING = ("drop connections", "crash PostgreSQL", "replace the web", "kill the web")  # what clients notice
AFTER = 30.0  # seconds for which they may, then: who waits for a connection to the database gives up after ten


@dataclass
class Happened:
    """A fault that was: from when to when (unix time), and how many lines it may have sent again."""

    name: str
    begin: float
    end: float = 0.0
    allowed: int = 0
    detail: str = ""


def schedule(seed: int, seconds: float) -> Iterator[tuple[float, str]]:
    """Seconds from the start, and what happens then; in order."""
    dice = random.Random(f"faults {seed}")
    deck, calm = dealt(dice, DECK), dealt(dice, dict.fromkeys(CALM, 1))
    step = min(max(seconds / 30, EVERY[0]), EVERY[1])
    crashes = [share * seconds for share in CRASHES]
    at = step
    while at < LATEST * seconds:
        if crashes and at >= crashes[0]:
            yield crashes.pop(0), "crash PostgreSQL"
        still = STILL[0] * seconds < at < STILL[1] * seconds
        yield at, next(calm if still else deck)
        at += step * dice.uniform(0.6, 1.4)


@dataclass
class Faults:
    """Does what the schedule says to a world, one after the other, in a thread of its own."""

    world: World
    seed: int
    seconds: float
    happened: list[Happened] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dice = random.Random(f"hands {self.seed}")
        self.stop = Event()
        self.thread = Thread(target=self._run, name="faults", daemon=True)

    def _run(self) -> None:
        begun = time.monotonic()
        for at, name in schedule(self.seed, self.seconds):
            if self.stop.wait(max(0.0, begun + at - time.monotonic())):
                return
            self.do(name)

    def do(self, name: str) -> None:
        one = Happened(name, time.time())
        self.happened.append(one)
        try:
            getattr(self, name.replace(" ", "_").replace("PostgreSQL", "postgres"))(one)
        except (psycopg.Error, ProcessLookupError) as error:  # the fault before it is not over
            one.detail += f" not done: {type(error).__name__}"
        except Exception as error:
            self.findings.append(f"{name} could not be done: {type(error).__name__}: {error}"[:400])
        one.end = time.time()
        print(f"  {time.strftime('%H:%M:%S')} {name}: {one.detail.strip()} ({one.end - one.begin:.1f} s)", flush=True)

    # --- processes --------------------------------------------------------------------------------------------------

    def kill_a_worker_host(self, one: Happened) -> None:
        host = self.dice.choice(self.world.workers)
        one.allowed, away = SLOTS + RUNNERS * FLUSH, self.dice.choice((0.0, 5.0, LEASE + 8))
        self.world.killed(host)
        one.detail = f"{host.home.name}, away for {away:.0f} s"
        self.stop.wait(away)
        host.start()

    def replace_a_worker_host(self, one: Happened) -> None:
        host = self.dice.choice(self.world.workers)
        one.detail = f"{host.home.name}, exit code {self.world.stopped(host)}"
        host.start()

    def kill_a_runner(self, one: Happened) -> None:
        one.allowed, one.detail = SLOTS + RUNNERS * FLUSH, self._kill("runners")  # or all, when it is their main one

    def kill_a_chore(self, one: Happened) -> None:
        one.detail = self._kill("chores")

    def _kill(self, role: str) -> str:
        found = self.world.processes(role)
        if not found:
            return "none is there"
        process = self.dice.choice(found)
        process.send(signal.SIGKILL)
        return f"pid {process.pid} of {len(found)}"

    def replace_the_web(self, one: Happened) -> None:
        one.detail = f"exit code {self.world.stopped(self.world.web)}"
        self.world.web.start()

    def kill_the_web(self, one: Happened) -> None:
        self.world.killed(self.world.web)
        self.world.web.start()

    def let_a_runner_sleep(self, one: Happened) -> None:
        """One that holds a lease, beyond it; it wakes beside who took over."""
        pids = {pid for (pid,) in self.world.service.sql("SELECT pid FROM batches_runner")}
        found = [process for process in self.world.processes("runners") if process.pid in pids]
        if not found:
            one.detail = "none runs"
            return
        process = self.dice.choice(found)
        one.allowed = SLOTS + FLUSH
        process.send(signal.SIGSTOP)
        try:
            self.stop.wait(LEASE + self.dice.uniform(3, 10))
        finally:
            process.send(signal.SIGCONT)
        one.detail = f"pid {process.pid}"

    # --- what they stand on -----------------------------------------------------------------------------------------

    def empty_the_queue(self, one: Happened) -> None:
        end, lost = time.monotonic() + 3, 0
        while time.monotonic() < end:
            lost += self.world.service.lose_tasks()
            time.sleep(0.05)
        one.detail = f"{lost} tasks lost"

    def drop_connections(self, one: Happened) -> None:
        one.allowed = SLOTS + FLUSH + 64
        dropped = 0
        for _ in range(self.dice.randint(1, 5)):
            dropped += self.world.server.drop_connections()
            time.sleep(1.0)
        one.detail = f"{dropped} dropped"

    def crash_postgres(self, one: Happened) -> None:
        one.allowed = SLOTS + FLUSH + 64
        self.world.server.stop()
        time.sleep(self.dice.uniform(1, 4))
        self.world.server.start()

    def an_upstream_is_down(self, one: Happened) -> None:
        one.allowed = SLOTS  # answers on their way when the connection goes
        self._for_a_while({"down": True}, {"down": False})

    def an_upstream_storms(self, one: Happened) -> None:
        kind = self.dice.choice(("503", "500", "429", "reset"))
        one.detail = kind
        self._for_a_while({"fault_rates": {kind: 1.0}}, {"fault_rates": self.world.rates["unsteady"]})

    def _for_a_while(self, first: dict[str, object], then: dict[str, object]) -> None:
        witness = self.world.witnesses["unsteady"]
        witness.configure(**first)
        try:
            self.stop.wait(self.dice.uniform(8, 20))
        finally:
            witness.configure(**then)

    # --- time -------------------------------------------------------------------------------------------------------

    def files_are_late(self, one: Happened) -> None:
        """Of tenants that keep them for a short time, what ended a while ago."""
        one.detail = f"{self.world.age_files()} files"

    def a_deadline_comes(self, one: Happened) -> None:
        one.detail = f"{self.world.end_time(self.dice.random())} batches"


def disturbed(happened: list[Happened]) -> Callable[[float], bool]:
    """Whether clients may see errors at a moment: something they stand on was gone, or has just come back."""
    spans = [(one.begin - 1, one.end + AFTER) for one in happened if one.name in DISTURBING]
    return lambda at: any(begin <= at <= end for begin, end in spans)


def asleep(happened: list[Happened]) -> list[tuple[float, float]]:
    """When runners slept beyond their leases, and woke beside others."""
    return [(one.begin, one.end + 5) for one in happened if one.name == "let a runner sleep"]


def wake(world: World) -> None:
    """Nothing stays stopped, whatever was going on at the end."""
    for role in ("runners", "chores"):
        for process in world.processes(role):
            with suppress(ProcessLookupError):
                process.send(signal.SIGCONT)
