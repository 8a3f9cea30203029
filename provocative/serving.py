"""What `up`, `web` and `worker` share: the part of the service a host takes, under one supervisor, until a stop.

`up` is all of it on one machine. With several, `web` and `worker` run on as many as are needed; none is special:
every worker sweeps, and what one holds is a lease that the others take over when it is gone.
"""

import argparse
import sys
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, close_old_connections

from batches import identity, measures, tasks
from batches.engine import leases
from provocative import addresses, fleet
from provocative.addresses import Address, BadAddress
from provocative.children import Child
from provocative.exposition import counted
from provocative.supervisor import Job, StopRequest, Supervisor

TICK, BURY, ANNOUNCE = 5.0, 0.5, 0.2  # seconds between two calls


class Serving(BaseCommand):
    """A command that runs until Ctrl-C or SIGTERM."""

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """With the option that all of them have."""
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        add_metrics(parser)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        stop = StopRequest()
        stop.listen()
        settings.RUNNERS = options.get("runners", settings.RUNNERS)  # the sweep of this process counts with it too
        try:
            at = exposed(options["metrics"])
            children, jobs = self.parts(**options)
            children = [*children, *([fleet.metrics(at)] if at else [])]
        except BadAddress as error:
            raise CommandError(str(error)) from None
        except OperationalError as error:
            raise CommandError(f"the database does not answer: check DATABASE_URL. {error}") from None
        status = Supervisor(children, jobs, stop, fleet.leave).run()
        fleet.leaving().unlink(missing_ok=True)
        self.ended()
        sys.exit(status)

    def parts(self, **options: Any) -> tuple[list[Child], list[Job]]:
        """What this host runs, and what its supervisor calls. Raises BadAddress, OperationalError, CommandError."""
        raise NotImplementedError

    def ended(self) -> None:
        """After the last child has stopped."""

    def check_database(self) -> None:
        self.check(tags=[Tags.database], databases=["default"])

    def say(self, line: str) -> None:
        """To whom waits for it on stdout."""
        self.stdout.write(line)
        self.stdout.flush()


def add_bind(parser: CommandParser) -> None:
    parser.add_argument("--bind", default="127.0.0.1:8000", help="HOST:PORT; port 0 takes a free one.")


def add_drain(parser: CommandParser) -> None:
    parser.add_argument("--drain", type=_seconds, default=0, help="Seconds at a stop for which /readyz answers 503.")


def add_metrics(parser: CommandParser) -> None:
    parser.add_argument("--metrics", metavar="HOST:PORT", help="Serve Prometheus there; not where strangers reach it.")


def exposed(bind: str | None) -> Address | None:
    """Where to serve metrics; from here on this process and its children count for it. Raises BadAddress."""
    if not bind:
        return None
    at = addresses.claim(addresses.parse(bind))
    folder = settings.HOME / "metrics" / str(at.port)
    counted.begin(folder)
    measures.share(folder)
    return at


def add_runners(parser: CommandParser) -> None:
    parser.add_argument("--runners", type=_positive, default=settings.RUNNERS, help="Runner processes.")


def announcing(announce: Callable[[], object]) -> Job:
    """Calls until the start is announced, and after."""
    return Job("start", ANNOUNCE, announce)


def workers_jobs() -> list[Job]:
    """What every host with workers does besides running them."""
    return [Job("sweep", TICK, _sweep), Job("burial of dead runners", BURY, _bury)]


def _sweep() -> None:
    close_old_connections()
    tasks.tick()


def _bury() -> None:
    close_old_connections()
    leases.bury(identity.HOST, lambda pid, ticks: identity.start_time(pid) == ticks)


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds")
    return int(text)


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)
