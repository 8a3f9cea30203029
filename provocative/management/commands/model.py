"""`manage.py model --port P`: the embedded model's server, a child of `up`."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from provocative.embedded import SLOTS, ModelMissing, serve
from provocative.processes import die_with_parent


class Command(BaseCommand):
    requires_system_checks = ()  # `up` made them
    help = "Serve the embedded model on 127.0.0.1 in the foreground; `up` starts this itself."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, required=True)
        parser.add_argument("--slots", type=int, default=SLOTS, help="Requests answered at once.")

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.ROLE:
            die_with_parent()
        try:
            serve(options["port"], options["slots"])
        except (ModelMissing, RuntimeError) as error:
            raise CommandError(f"the embedded model can't be served: {error}") from None
