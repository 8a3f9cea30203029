"""Which batches a list shows: searched and filtered by the indexes alone, however many there are."""

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from batches import expecting
from batches.console import troubles
from batches.core.states import ACTIVE, Status
from batches.models import Batch, File
from tenants import clock
from tenants.console import searching

HELP = (
    "A batch's id or how it begins; the whole id of a file; a tenant's name or a part of it; the whole name of a model,"
    " for the batches that are active."
)
BATCH, FILE = "batch_", "file-"
NAMED = ("input_file", "output_file", "error_file", "results_file")


def matching(term: str) -> Q:
    """Batches that a search finds."""
    term = term.strip()
    if not term:
        return Q()
    if term.startswith(BATCH):
        return Q(public_id__startswith=term)
    if term.startswith(FILE):
        file = File.objects.filter(public_id=term).values_list("pk", flat=True).first()
        wanted = Q(pk__in=[])
        for name in NAMED if file else ():
            wanted |= Q(**{f"{name}_id": file})
        return wanted
    return searching.matching(Batch, searching.TENANT, term) | Q(status__in=ACTIVE, model=term)


def paused() -> Q:
    return Q(status=Status.IN_PROGRESS) & ~Q(paused_reason="")


class Trouble(admin.SimpleListFilter):
    """What a shift looks for."""

    title, parameter_name = "trouble", "trouble"
    wanted: ClassVar[dict[str, tuple[str, Callable[[], Q]]]] = {
        "late": ("Deadline at risk", lambda: expecting.at_risk(clock.now())),
        "stuck": ("Stuck: nothing for 15 minutes", lambda: troubles.stuck(clock.now())),
        "paused": ("Paused", paused),
        "raised": ("Raised", lambda: Q(status__in=ACTIVE, raised=True)),
        "missed": ("24 hours missed", lambda: Q(sla_met=False)),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, words) for name, (words, _) in self.wanted.items()]

    def queryset(self, request: HttpRequest, rows: QuerySet[Batch]) -> QuerySet[Batch]:
        found = self.wanted.get(self.value() or "")
        return rows.filter(found[1]()) if found else rows
