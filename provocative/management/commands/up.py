"""`manage.py up`: the whole service on this host, in the foreground, under one supervisor."""

import argparse
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.checks import Tags
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, OperationalError, close_old_connections

from batches import identity, tasks
from batches.engine import leases
from provocative import addresses, embedded
from provocative.addresses import Address, BadAddress
from provocative.fleet import children
from provocative.preparing import prepare
from provocative.supervisor import Job, StopRequest, Supervisor

log = logging.getLogger(__name__)

TICK, BURY, ANNOUNCE = 5.0, 0.5, 0.2  # seconds between two calls
MODEL_STARTS_WITHIN = 60.0  # seconds; later `ready` does not wait for it any more


class Command(BaseCommand):
    help = "Migrate, then run web, workers and the embedded model until Ctrl-C or SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1:8000", help="HOST:PORT; port 0 takes a free one.")
        parser.add_argument("--runners", type=_positive, default=settings.RUNNERS, help="Runner processes.")
        parser.add_argument("--no-model", action="store_true", help="Do not serve the embedded model.")

    def handle(self, *args: Any, **options: Any) -> None:
        stop = StopRequest()
        stop.listen()
        settings.RUNNERS = options["runners"]  # the sweep of this process counts with it too
        try:
            web = addresses.claim(addresses.parse(options["bind"]))
            prepare()
            self.check(tags=[Tags.database], databases=["default"])
            model = _model(wanted=not options["no_model"])
        except BadAddress as error:
            raise CommandError(str(error)) from None
        except OperationalError as error:
            raise CommandError(f"the database does not answer: check DATABASE_URL. {error}") from None
        announcement = Announcement(web, model, self._say)
        status = Supervisor(children(web, model), [*_jobs(), Job("start", ANNOUNCE, announcement)], stop).run()
        _retire(model)
        sys.exit(status)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _model(wanted: bool) -> Address | None:
    """A free port for the embedded model; None, and the model is out of service, when unwanted or not installed."""
    try:
        if wanted:
            embedded.weights()
            return addresses.claim(Address("127.0.0.1", 0))
    except embedded.ModelMissing as error:
        log.warning("no embedded model: %s", error)
    embedded.retire()
    return None


def _retire(model: Address | None) -> None:
    try:
        if model:
            close_old_connections()
            embedded.retire(f"{model.url}/v1")
    except DatabaseError as error:
        log.warning("the embedded model is still registered: %s", error)


def _jobs() -> list[Job]:
    return [Job("sweep", TICK, _sweep), Job("burial of dead runners", BURY, _bury)]


def _sweep() -> None:
    close_old_connections()
    tasks.tick()


def _bury() -> None:
    close_old_connections()
    leases.bury(identity.HOST, lambda pid, ticks: identity.start_time(pid) == ticks)


@dataclass
class Announcement:
    """Each call brings the start one step on: register the model once it answers, say `ready` once the web does."""

    web: Address
    model: Address | None
    say: Callable[[str], None]
    ready: bool = False
    model_due: float = field(default_factory=lambda: time.monotonic() + MODEL_STARTS_WITHIN)

    def __call__(self) -> None:
        waiting = self._register() and time.monotonic() < self.model_due
        if not self.ready and not waiting and addresses.answers(self.web, "/readyz"):
            self.ready = True
            self.say(f"ready {self.web.url}")

    def _register(self) -> bool:
        """Make the model known as soon as it answers; whether it is still to come."""
        if self.model and addresses.answers(self.model, "/health"):
            close_old_connections()
            embedded.register(f"{self.model.url}/v1")
            self.model = None
        return self.model is not None
