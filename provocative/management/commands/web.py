"""`manage.py web`: the API, the dashboard and the console, on a host of many."""

from typing import Any

from django.core.management.base import CommandParser

from provocative import addresses, fleet, serving
from provocative.announcing import Announcement
from provocative.children import Child
from provocative.preparing import require_migrated
from provocative.supervisor import Job


class Command(serving.Serving):
    help = "Serve the API, the dashboard and the console until Ctrl-C or SIGTERM; the work is done by `worker`."

    def add_arguments(self, parser: CommandParser) -> None:
        serving.add_bind(parser)
        serving.add_drain(parser)

    def parts(self, **options: Any) -> tuple[list[Child], list[Job]]:
        at = addresses.claim(addresses.parse(options["bind"]))
        require_migrated()
        self.check_database()
        return [fleet.web_server(at, options["drain"])], [serving.announcing(Announcement(at, None, self.say))]
