"""`manage.py hold report | adopt | hand-back | send-again | release | begin`: after a restore, and at any time."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches import marks
from batches.models import Batch
from batches.restored import deciding, finding, reporting
from batches.restored.deciding import NotDecided
from billing.stripe import client
from tenants import holding, trail
from tenants.management.console import VerbCommand, short_text, whole_number

LONGEST = 24 * 30  # hours
Decide = Callable[[Batch], dict[str, Any]]


class Command(VerbCommand):
    help = "While the service holds it sends, charges and deletes nothing: what there is to decide, and the decisions."

    def add_verbs(self) -> None:
        report = self.verb(
            "report", self.report, "What would be sent, what is stored, what Stripe has; in words on stderr."
        )
        report.add_argument("--objects", action="store_true", help="Each object that no row names.")
        self._decision("adopt", self.adopt, "End batches by their stored results: rows and charge, nothing is sent.")
        self._decision("hand-back", self.hand_back, "Cancel what is left of batches: nothing more is sent or charged.")
        again = self._decision("send-again", self.send_again, "Let batches go on: what is left of them will be sent.")
        again.add_argument(
            "--hours", type=whole_number(1, LONGEST + 1), metavar="N", help="To be there within N hours."
        )
        for name, call, text in (
            ("release", self.release, "Work again. Refused while a batch is not decided about."),
            ("begin", self.begin, "Hold: send, charge and delete nothing until `hold release`."),
        ):
            self._reason(self.verb(name, call, text))

    def _decision(self, name: str, call: Callable[..., None], text: str) -> CommandParser:
        parser = self.verb(name, call, text)
        parser.add_argument("ids", nargs="*", metavar="ID", help="Of batches.")
        parser.add_argument("--all", action="store_true", dest="every", help="All that are not decided about.")
        self._reason(parser)
        return parser

    def _reason(self, parser: CommandParser) -> None:
        parser.add_argument("--reason", required=True, type=short_text(200), help="For the trail; tenants read it.")

    def report(self, objects: bool) -> None:
        try:
            documents = []
            for document in reporting.report(objects):
                self.say(document)
                documents.append(document)
        except (OSError, client.Failed) as error:
            raise CommandError(f"The report ends here, since it could not be read: {error}") from None
        for line in reporting.summary(documents):
            self.stderr.write(line)

    def adopt(self, ids: list[str], every: bool, reason: str) -> None:
        batches = self._chosen(ids, every)
        stored = finding.results(finding.unknown(), batches)
        if every:
            batches = [batch for batch in batches if finding.whole(batch, stored.get(batch.pk, []))]
        self._each(batches, lambda batch: deciding.adopt(batch, stored.get(batch.pk, []), trail.OPERATOR, reason))

    def hand_back(self, ids: list[str], every: bool, reason: str) -> None:
        self._each(self._chosen(ids, every), lambda batch: deciding.hand_back(batch, trail.OPERATOR, reason))

    def send_again(self, ids: list[str], every: bool, hours: int | None, reason: str) -> None:
        self._each(self._chosen(ids, every), lambda batch: deciding.send_again(batch, hours, trail.OPERATOR, reason))

    def _chosen(self, ids: list[str], every: bool) -> list[Batch]:
        if every == bool(ids):
            raise CommandError("Name batches by their ids, or say --all.")
        if every:
            return deciding.undecided()
        found = {batch.public_id: batch for batch in deciding.open_batches().filter(public_id__in=ids)}
        if unknown := [each for each in ids if each not in found]:
            raise CommandError(f"{', '.join(unknown)}: of no such batch lines would be sent: see `hold report`.")
        return list(found.values())

    def _each(self, batches: list[Batch], decide: Decide) -> None:
        """One that is refused keeps no other from it."""
        if not batches:
            self.stderr.write("There is no batch left for that: see `hold report`.")
        refused = 0
        for batch in batches:
            try:
                self.say(decide(batch))
            except (NotDecided, OSError) as error:
                refused += 1
                self.stderr.write(f"{batch.public_id}: {error}")
        if refused:
            raise CommandError(f"{refused} of {len(batches)} batches are not decided about.")

    def release(self, reason: str) -> None:
        if left := deciding.undecided():
            names = ", ".join(batch.public_id for batch in left[:5])
            raise CommandError(f"{len(left)} batches are not decided about ({names}…): see `hold report`.")
        try:
            if not marks.release(trail.OPERATOR, reason):
                raise CommandError("The service does not hold.")
        except OSError as error:
            raise CommandError(f"The storage can't be marked: {error}") from None
        self.say({"hold": None, "mark": holding.row().number})

    def begin(self, reason: str) -> None:
        if not holding.hold(holding.Why.OPERATOR, trail.OPERATOR, reason):
            raise CommandError("The service holds already: see `hold report`.")
        self.say({"hold": holding.Why.OPERATOR, "reason": reason})
