"""What every operator command shares: verbs, one line of JSON an object, and errors that say what to do."""

import json
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, ProgrammingError

from tenants.errors import Refused
from tenants.models import Tenant

COLUMN = 2**31  # what an integer column does not hold any more


class DocumentCommand(BaseCommand):
    """A command that prints documents, and says in a sentence what the database refused."""

    requires_system_checks = ()  # `up` makes them: they load every page, and take longer than the command

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except DatabaseError as error:
            raise CommandError(f"The database can't do it: {_cure(error)}. {error}") from None

    def say(self, document: dict[str, Any]) -> None:
        """One object on one line of stdout."""
        self.stdout.write(json.dumps(document))


class VerbCommand(DocumentCommand):
    """`manage.py NOUN VERB …`: a subclass adds each verb with its arguments and the method that does it."""

    def add_arguments(self, parser: CommandParser) -> None:
        self._verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self.add_verbs()

    def add_verbs(self) -> None:
        raise NotImplementedError

    def verb(self, name: str, call: Callable[..., None], help_text: str) -> CommandParser:
        """A parser for the verb `name`; `call` gets its arguments by keyword."""
        parser: CommandParser = self._verbs.add_parser(name, help=help_text, description=help_text)
        parser.set_defaults(call=call, own=parser)
        return parser

    def handle(self, *args: Any, **options: Any) -> None:
        own: CommandParser = options["own"]
        names = {action.dest for action in own._actions}  # what the verb declared, without Django's own options
        try:
            options["call"](**{name: value for name, value in options.items() if name in names})
        except Refused as refused:
            raise CommandError(refused.message) from None


def _cure(error: DatabaseError) -> str:
    words = "does not exist" if isinstance(error, ProgrammingError) else "no such "
    return "`manage.py migrate` makes its tables" if words in str(error) else "see that it runs, and DATABASE_URL"


def tenant_named(name: str) -> Tenant:
    """The tenant. Raises CommandError with the cure."""
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {name!r}: `tenant list` shows them, `tenant create` makes one.")
    return tenant


def whole_number(least: int, beyond: int = COLUMN) -> Callable[[str], int]:
    """An argument's type: a whole number from `least` up that fits its column, below `beyond`."""
    upper = "up" if beyond == COLUMN else f"to {beyond - 1}"

    def whole(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not least <= int(text) < beyond:
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} {upper}")
        return int(text)

    return whole


def short_text(most: int) -> Callable[[str], str]:
    """An argument's type: 1 to `most` printable characters."""

    def short(text: str) -> str:
        if not 0 < len(text.strip()) <= len(text) <= most or not text.isprintable():
            raise ArgumentTypeError(f"write 1 to {most} printable characters")
        return text

    return short


def month(text: str) -> date:
    """An argument's type: YYYY-MM, as its first day."""
    try:
        return date.fromisoformat(f"{text}-01" if re.fullmatch("2[0-9]{3}-[0-9]{2}", text) else "")
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no month: write 2026-11") from None


def day(text: str) -> date:
    """An argument's type: YYYY-MM-DD."""
    try:
        return date.fromisoformat(text if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text) else "")
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no day: write 2026-11-30") from None


def shown_time(moment: datetime | None) -> str | None:
    """ISO 8601 to the second, or None."""
    return moment.isoformat(timespec="seconds") if moment else None
