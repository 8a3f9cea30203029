"""What batches may cost at the most: reserved when they start, so that a tenant with a limit never spends beyond it.

Every batch reserves; only a prepaid tenant or one with a monthly limit is checked, under its lock, so that of batches
that start at once each counts what the others reserved. A reservation counts while its batch is active: the charge is
posted in the transaction that ends it, under the same lock. docs/decisions/0022-reservations.md
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from batches.core import caps
from batches.core.bounds import Work
from batches.core.requests import Fault
from batches.core.states import ACTIVE, Status
from batches.models import Batch
from billing import money, spending
from tenants import admission
from tenants.errors import Refused

GREATEST = 2**63 - 1  # pico-USD that the column holds on SQLite: nobody has so much
IN_FLIGHT = 256  # lines that may go over a batch's own cap; more where upstreams have more slots
MARGIN = 10  # percent, on what the rest of a batch should cost: its mean alone would stop it again near its end


class Running(NamedTuple):
    """Of a tenant's active batches, pico-USD."""

    held: int  # reserved; where a batch has cost more already, that
    cost: int  # so far


def running(tenant: int, apart: int | None = None) -> Running:
    """Of all but the batch `apart`."""
    rows = Batch.objects.filter(tenant_id=tenant, status__in=ACTIVE).values_list("pk", "reserved", "cost")
    amounts = [(reserved, cost) for pk, reserved, cost in rows if pk != apart]
    return Running(sum(max(amount) for amount in amounts), sum(cost for _, cost in amounts))


def most(works: Mapping[str, Work], rates: Mapping[str, money.Rates], max_cost: int | None) -> int:
    """What a batch of these lines, by model, may cost: pico-USD; no more than its own cap and what can go over that."""
    whole = sum(money.most(rates[model], work.input, work.high) for model, work in works.items())
    lines = [money.most(rates[model], work.largest_input, work.largest_output) for model, work in works.items()]
    return _capped(whole, max_cost, max(lines, default=0))


def _capped(whole: int, max_cost: int | None, line: int) -> int:
    """A cap stops the sending; the lines in flight are still charged, so a small batch may cost all of it."""
    return min(whole, GREATEST, GREATEST if max_cost is None else max_cost + IN_FLIGHT * line)


def check_room(tenant: int, wanted: int | None = None) -> None:
    """Raises Refused 402 for a new batch of a tenant that has not paid, or can't spend `wanted` (None: anything)."""
    terms = spending.terms(tenant)
    spending.check_paid(terms)
    if terms.limited:
        spending.check(spending.funds(tenant, terms, running(tenant).held), wanted)


def lacking(tenant: int) -> str:
    """The code of why the tenant can spend nothing now; "" where it can. Nothing is locked."""
    terms = spending.terms(tenant)
    try:
        if terms.limited:
            spending.check(spending.funds(tenant, terms, running(tenant).held))
    except Refused as refused:
        return refused.code
    return ""


def refusal(tenant: int, wanted: int) -> Fault | None:
    """Why a batch that may cost `wanted` may not start now; None when it may. In the transaction that starts it."""
    try:
        _check(tenant, wanted)
    except Refused as refused:
        return Fault(refused.code, refused.message)
    return None


def shortage(tenant: int, wanted: int) -> Fault | None:
    """Why a batch that may cost `wanted` would be refused now, at its submission or its start. Nothing is locked."""
    try:
        check_room(tenant, wanted)
        check_room(tenant)
    except Refused as refused:
        return Fault(refused.code, refused.message)
    return None


def _check(tenant: int, wanted: int, apart: int | None = None) -> None:
    """Raises Refused 402. Locks the tenant's row where there is something to check."""
    if spending.terms(tenant).limited:
        admission.lock(tenant)
        terms = spending.terms(tenant)
        cure = spending.LOWER if apart is None else spending.SHORTER
        spending.check(spending.funds(tenant, terms, running(tenant, apart).held), wanted, cure)


def pause_reason(batch: Batch, grown: int) -> str:
    """Why a batch whose cost has just grown by so much is to be paused, or "": it passed what its tenant has reserved.

    A batch passes its reservation once, so the tenant is looked at once.
    """
    if not batch.cost - grown < batch.reserved <= batch.cost:
        return ""
    terms = spending.terms(batch.tenant_id)
    if terms.prepaid:
        return caps.CREDITS
    return caps.SPENDING if terms.limited else ""


def again(batch: Batch, new_caps: Mapping[str, Any]) -> dict[str, int]:
    """The columns with which a paused batch goes on under these caps: what it reserves where it has used it up.

    In the transaction that resumes it, and locks it: what is in flight is stored before, or sees the new reservation.
    Raises Refused 402 when its tenant has not so much left.
    """
    limited = spending.terms(batch.tenant_id).limited
    if limited:
        admission.lock(batch.tenant_id)
    row = Batch.objects.select_for_update(no_key=True).get(pk=batch.pk)
    max_cost = new_caps.get("max_cost", row.max_cost)
    paused = row.status == Status.IN_PROGRESS and row.paused_reason not in ("", caps.OPERATOR)
    used_up = paused and row.reserved <= row.cost > 0
    if not used_up or (max_cost is not None and row.cost >= max_cost):
        return {}  # it needs none, or is not resumed
    wanted = _foreseen(row, max_cost)
    if limited:
        _check(row.tenant_id, wanted, apart=batch.pk)
    return {"reserved": wanted}


def _foreseen(row: Batch, max_cost: int | None) -> int:
    """The cost so far, and for each line left what a line was expected to cost, or what lines did: the dearer."""
    left = row.total - row.completed - row.failed
    line = max(-(-row.reserved // row.total), -(-row.cost // max(row.completed, 1)), 1)
    return _capped(row.cost + line * left * (100 + MARGIN) // 100, max_cost, line)
