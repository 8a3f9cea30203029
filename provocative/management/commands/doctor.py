"""`manage.py doctor`: look at the whole deployment, and say what to fix. Changes nothing that lasts."""

import os
import sys
from dataclasses import replace
from typing import Any

from django.core.management.base import CommandParser

from provocative.doctor import network
from provocative.doctor.findings import Check, Level
from provocative.doctor.registry import CHECKS
from provocative.doctor.running import Told, run
from tenants.management.console import DocumentCommand


class Command(DocumentCommand):
    help = "Check this deployment, and say what to fix. Exit code 1 when something is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        names = [check.name for check in CHECKS]
        parser.add_argument("--json", action="store_true", help="One object a line, for programs.")
        parser.add_argument("--mail", metavar="TO", help="Also send a mail there.")
        parser.add_argument("--only", nargs="+", choices=names, metavar="CHECK", help=f"Of {', '.join(names)}.")

    def handle(self, *args: Any, **options: Any) -> None:
        checks = [_with_mail(check, options["mail"]) for check in CHECKS if _wanted(check, options["only"])]
        failed = hangs = False
        for told in run(checks):
            failed, hangs = failed or told.finding.level is Level.ERROR, hangs or told.hangs
            self._tell(told, options["json"])
        if hangs:  # what a check left behind would keep the process: a thread of a library that waits for a name
            os._exit(1)
        if failed:
            sys.exit(1)

    def _tell(self, told: Told, as_json: bool) -> None:
        level, seen, cure = told.finding
        if as_json:
            self.say({"check": told.name, "level": level, "seen": seen, "cure": cure})
        else:
            self.stdout.write(f"{level:<8} {told.name:<12} {seen}{' Cure: ' + cure if cure else ''}")
        self.stdout.flush()


def _wanted(check: Check, only: list[str] | None) -> bool:
    return only is None or check.name in only


def _with_mail(check: Check, address: str | None) -> Check:
    return replace(check, look=network.mail_to(address)) if check.name == "mail" and address else check
