"""`manage.py migrate`: Django's, that waits for no lock while the service runs (provocative/migrating.py)."""

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import OperationalError, connections

from provocative import migrating


class Command(migrate.Command):
    def execute(self, *args: Any, **options: Any) -> str | None:
        try:  # before the checks, which ask it
            connections[options["database"]].ensure_connection()
        except OperationalError as error:
            raise CommandError(f"The database does not answer: check DATABASE_URL. {error}") from None
        return super().execute(*args, **options)

    def handle(self, *args: Any, **options: Any) -> None:
        def run() -> None:
            super(Command, self).handle(*args, **options)

        if options["plan"] or options["check_unapplied"]:  # they only look
            run()
        else:
            migrating.patiently(run, self.stderr.write, options["database"])
