"""`manage.py migrate`: Django's, that waits for no lock while the service runs (provocative/migrating.py)."""

from typing import Any

from django.core.management.commands import migrate

from provocative import migrating


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        def run() -> None:
            super(Command, self).handle(*args, **options)

        if options["plan"] or options["check_unapplied"]:  # they only look
            run()
        else:
            migrating.patiently(run, self.stderr.write, options["database"])
