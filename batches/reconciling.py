"""What must be true of ended batches: results, counters, usage and the ledger's charge are the same figures, and each
line costs what its tokens do at the frozen rates. Nothing is changed."""

from collections.abc import Iterator
from datetime import date

import msgspec
from django.db.models import Sum

from batches import metering
from batches.core.answers import UNCHARGED
from batches.core.states import TERMINAL, Status
from batches.models import Batch, Manifest, Result, Usage
from billing import money
from billing.ledger import Kind
from billing.models import LedgerEntry
from billing.reconciling import CHUNK, Finding
from tenants import clock
from tenants.paging import by_pk

_rates = msgspec.json.Decoder(dict[str, money.Rates])
SIGNED = {"delivered": "completed", **{name: name for name in metering.MEASURES[2:5]}, "cost_pico": "cost"}
Sums = dict[str, int]


def findings(since: date | None = None) -> Iterator[Finding]:
    """Every batch that ended, on this day (UTC) or later, and every charge of one that is not there."""
    batches = Batch.objects.filter(status__in=TERMINAL)
    if since:
        batches = batches.filter(ended_at__gte=clock.midnight(since))
    for batch in by_pk(batches, CHUNK):
        yield from _batch(batch)
    charges = LedgerEntry.objects.filter(kind=Kind.BATCH_CHARGE)
    ended = Batch.objects.filter(status__in=set(TERMINAL) - {Status.FAILED})
    for entry in charges.exclude(reference__in=ended.values("public_id")).order_by("pk"):
        yield Finding("charge_without_batch", entry.reference, None, entry.amount)


def _batch(batch: Batch) -> Iterator[Finding]:
    counted = {name: int(getattr(batch, name)) for name in metering.MEASURES}
    sums = dict.fromkeys(metering.MEASURES, 0)
    yield from _results(batch, sums)
    yield from _differences("results", batch, counted, sums)
    usage = Usage.objects.filter(batch=batch).aggregate(**{name: Sum(name) for name in metering.MEASURES})
    metered = {name: int(usage[name] or 0) for name in metering.MEASURES}
    metered["failed"] = counted["failed"]  # those that were skipped were not run
    yield from _differences("usage", batch, counted, metered)
    if batch.status != Status.FAILED:
        yield from _charge(batch)
        yield from _promise(batch)
        yield from _manifest(batch)


def _differences(what: str, batch: Batch, expected: Sums, found: Sums) -> Iterator[Finding]:
    for name, value in expected.items():
        if found[name] != value:
            yield Finding(f"{what}_{name}", batch.public_id, value, found[name])


def _results(batch: Batch, sums: Sums) -> Iterator[Finding]:
    """Add every line to `sums`; those that cost something else than their tokens do are findings."""
    rates = list(_rates.decode(batch.rates).values())
    rows = Result.objects.filter(batch=batch).order_by("line")
    for line, error, flag, *tokens, cost in rows.values_list(
        "line", "error_code", "flag", "input_tokens", "cached_tokens", "output_tokens", "cost"
    ).iterator(CHUNK):
        charged = not error and flag != UNCHARGED
        costs = {money.cost(rate, *tokens) for rate in rates} if charged else {0}  # a row does not say which model's
        if cost not in costs:
            yield Finding("line_cost", f"{batch.public_id} line {line}", " or ".join(map(str, sorted(costs))), cost)
        sums["failed" if error else "completed"] += 1
        sums["cost"] += cost
        if charged:
            for name, value in zip(metering.MEASURES[2:5], tokens, strict=True):
                sums[name] += value


def _charge(batch: Batch) -> Iterator[Finding]:
    entry = LedgerEntry.objects.filter(kind=Kind.BATCH_CHARGE, reference=batch.public_id).first()
    if entry is None:
        yield Finding("not_charged", batch.public_id, int(batch.cost), None)
        return
    if (entry.tenant_id, entry.amount) != (batch.tenant_id, batch.cost):
        yield Finding("charge", batch.public_id, int(batch.cost), entry.amount)
    measures = ("model", "day", "requests", "input_tokens", "cached_tokens", "output_tokens", "amount")
    charged = sorted(entry.lines.values_list(*measures))
    taken = sorted(map(tuple, metering.taken(batch.pk)))
    if charged != taken:
        yield Finding("charge_lines_of_usage", batch.public_id, str(taken), str(charged))


def _promise(batch: Batch) -> Iterator[Finding]:
    credited = LedgerEntry.objects.filter(kind=Kind.SLA_CREDIT, reference=batch.public_id).first()
    if (credited.amount if credited else 0) != batch.sla_credit:
        yield Finding("sla_credit", batch.public_id, int(batch.sla_credit), credited and credited.amount)


def _manifest(batch: Batch) -> Iterator[Finding]:
    """What was signed, once it is."""
    signed = Manifest.objects.filter(batch=batch).values_list("signed", flat=True).first()
    if signed is None:
        return
    totals = msgspec.json.decode(signed)["totals"]
    for name, column in SIGNED.items():
        if totals[name] != getattr(batch, column):
            yield Finding(f"manifest_{column}", batch.public_id, int(getattr(batch, column)), totals[name])
