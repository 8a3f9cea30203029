"""`manage.py up`: the whole service on this host, in the foreground, under one supervisor."""

import logging
from typing import Any

from django.core.management.base import CommandParser
from django.db import DatabaseError, close_old_connections

from provocative import addresses, embedded, fleet, serving
from provocative.addresses import Address
from provocative.announcing import Announcement
from provocative.children import Child
from provocative.preparing import prepare
from provocative.supervisor import Job

log = logging.getLogger(__name__)


class Command(serving.Serving):
    help = "Migrate, then run web, workers and the embedded model until Ctrl-C or SIGTERM."
    model: Address | None = None

    def add_arguments(self, parser: CommandParser) -> None:
        serving.add_bind(parser)
        serving.add_drain(parser)
        serving.add_runners(parser)
        parser.add_argument("--no-model", action="store_true", help="Do not serve the embedded model.")

    def parts(self, **options: Any) -> tuple[list[Child], list[Job]]:
        web = addresses.claim(addresses.parse(options["bind"]))
        prepare()
        self.check_database()
        self.model = _model(wanted=not options["no_model"])
        announcement = Announcement(web, self.model, self.say)
        return fleet.children(web, self.model, options["drain"]), [
            *serving.workers_jobs(),
            serving.announcing(announcement),
        ]

    def ended(self) -> None:
        try:
            if self.model:
                close_old_connections()
                embedded.retire(f"{self.model.url}/v1")
        except DatabaseError as error:
            log.warning("the embedded model is still registered: %s", error)


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
