"""`manage.py worker`: runners and chores, on a host of many."""

from typing import Any

from django.core.management.base import CommandParser

from batches import identity
from provocative import fleet, serving
from provocative.children import Child
from provocative.preparing import prepare_worker
from provocative.supervisor import Job


class Command(serving.Serving):
    help = "Validate, run and finalize batches until Ctrl-C or SIGTERM; what is in flight then is finished."

    def add_arguments(self, parser: CommandParser) -> None:
        serving.add_runners(parser)

    def parts(self, **options: Any) -> tuple[list[Child], list[Job]]:
        prepare_worker()
        self.check_database()
        return fleet.workers(), [*serving.workers_jobs(), Job("start", float("inf"), self._ready)]

    def _ready(self) -> None:
        """Called once, after the children were started and the first sweep was made."""
        self.say(f"ready {identity.HOST}")
