"""The panel "How it goes" on a batch's page: rows of words."""

from datetime import datetime
from typing import Any, NamedTuple

from batches.api import serializers
from batches.console import advice, why
from batches.console.why import How
from batches.core.states import ACTIVE
from batches.models import Batch
from batches.web import looks


class Row(NamedTuple):
    name: str
    text: str
    look: str = ""  # "bad" is set off


class Panel(NamedTuple):
    advice: str
    rows: list[Row]
    how: How


def of(batch: Any, now: datetime) -> Panel:
    """Of a Batch with its tenant and `risk`."""
    how = why.of(batch, now)
    rows = [row for row in _rows(batch, how) if row.text]
    return Panel(advice.advice(batch, how), rows, how)


def _rows(batch: Batch, how: How) -> list[Row]:
    active = batch.status in ACTIVE
    reason = serializers.waiting_reason(batch.waiting_reason) if active else None
    return [
        Row("State", state(batch)),
        Row("Lines done", done(batch)),
        Row("Last result", _last(batch, how.now)),
        Row("Run again as", ", ".join(how.retries)),
        Row("Waits, as its tenant reads it", reason["message"] if reason else ""),
        Row("Should end", looks.expected(batch, how.now) or ("nobody can tell" if active else "")),
        Row("Deadline", _deadline(batch, how), "bad" if how.at_risk else ""),
        Row("Step", _step(how)),
        Row("Slices", _slices(how) if active else ""),
        Row("Suspects", f"{advice.slices(how.cut.suspects)}, sent line by line" if how.cut.suspects else "", "bad"),
        Row("Runners that take work", f"{how.runners:,}" if active else "", "" if how.runners else "bad"),
    ]


def state(batch: Batch) -> str:
    """In words, with what holds it back."""
    words = looks.label(batch)
    if batch.paused_reason:
        words += f": {looks.PAUSES.get(batch.paused_reason, batch.paused_reason)}"
    if batch.raised and batch.status in ACTIVE:
        words += ", its priority raised"
    return words + (", its tenant suspended" if batch.tenant.suspended else "")


def done(batch: Batch) -> str:
    """How many of its lines, and how many of these failed."""
    failed = f", {batch.failed:,} failed" if batch.failed else ""
    return f"{batch.completed + batch.failed:,} of {batch.total:,}{failed}"


def end(batch: Any, now: datetime) -> str:
    """When it ended, or is due, for a list."""
    if batch.ended_at:
        missed = ", 24 hours missed" if batch.sla_met is False else ""
        return f"{looks.lasted((now - batch.ended_at).total_seconds())} ago{missed}"
    left = (batch.deadline - now).total_seconds()
    due = f"due in {looks.lasted(left)}" if left > 0 else "its deadline has passed"
    soon = looks.expected(batch, now)
    return (f"ends {soon}, " if soon else "") + due + (", at risk" if batch.risk else "")


def _last(batch: Batch, now: datetime) -> str:
    if batch.last_result_at is None:
        return "none yet" if batch.status in ACTIVE else ""
    return f"{looks.lasted((now - batch.last_result_at).total_seconds())} ago"


def _deadline(batch: Batch, how: How) -> str:
    if batch.status not in ACTIVE:
        return ""
    left = (batch.deadline - how.now).total_seconds()
    words = f"in {looks.lasted(left)}" if left > 0 else f"passed {looks.lasted(-left)} ago"
    promised = "not promised: it was held back" if batch.held_back else "promised"
    return f"{words} ({promised})" + (", at risk" if how.at_risk else "")


def _step(how: How) -> str:
    if how.step is None:
        return ""
    words = f"attempt {how.step.attempts}" if how.step.attempts else "not begun"
    if how.step.holder and how.step.until:
        return f"{words}, held by {how.step.holder} for {_seconds(how.step.until, how.now)} more"
    return f"{words}, held by nobody"


def _slices(how: How) -> str:
    cut = how.cut
    words = f"{cut.waiting:,} wait, {cut.leased:,} leased, {cut.done:,} done"
    later = cut.waiting - cut.ready
    if later and cut.not_before:
        words += f"; {later:,} of those that wait not before {looks.ahead(cut.not_before, how.now)}"
    return words


def _seconds(until: datetime, now: datetime) -> str:
    return looks.lasted((until - now).total_seconds())


def lease(held: why.Held, now: datetime) -> str:
    """How long a runner still has what it holds."""
    if held.is_over or held.until is None:
        return "over: it is gone"
    return f"{_seconds(held.until, now)} more"
