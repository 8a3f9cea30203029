"""`manage.py metrics --bind HOST:PORT`: the server of `/metrics`, a child of `up`, `web` and `worker`."""

import os
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from batches import measures
from provocative import addresses
from provocative.exposition.server import Server
from provocative.processes import die_with_parent


class Command(BaseCommand):
    requires_system_checks = ()  # the supervisor made them
    help = "Serve Prometheus in the foreground; --metrics of `up`, `web` and `worker` starts this itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        folder = os.environ.get(measures.FOLDER)
        if not (settings.ROLE and folder):
            raise CommandError("--metrics HOST:PORT of `up`, `web` and `worker` starts this: alone it has no figures.")
        die_with_parent()
        with Server(addresses.parse(options["bind"]), Path(folder)) as server:
            server.serve_forever()
