"""What staff do to batches: cancel them, pause them, run again what failed.

Each asks first, is done by the rooms that do it for tenants, and is on the tenant's trail with its reason.
"""

from datetime import timedelta
from typing import Any

from django.http import HttpRequest
from django.utils import timezone

from batches import erasing, idempotency, lifecycle, retries
from batches.console import why
from batches.core import caps, states
from batches.core.states import Status
from batches.idempotency import Replayed
from batches.models import Batch
from batches.noted import Noted
from batches.web import looks
from tenants import trail
from tenants.console import auditing
from tenants.console.asking import Answer, LeftAlone, asks

REASON = "The tenant's people read it, on their audit trail."
SOON = timedelta(hours=1)
MOST_RETRIES = 20  # at once: each copies its lines
ENDED = "It has ended: it is {}."


def told(batch: Any) -> str:
    """A batch in one line, for who is asked about it. Its tenant is there, and the time is this machine's: no query."""
    done = batch.completed + batch.failed
    words = [str(batch.tenant), looks.label(batch), f"{done:,} of {batch.total:,} lines done"]
    if batch.failed:
        words.append(f"{batch.failed:,} failed")
    if batch.status in states.ACTIVE:
        left = (batch.deadline - timezone.now()).total_seconds()
        words.append(f"due in {looks.lasted(left)}" if left > 0 else "its deadline has passed")
    return f"{batch.public_id}: {', '.join(words)}"


def extent(batches: list[Any]) -> str:
    """How much is touched: "12,400 lines left, 2 due in less than an hour"."""
    left = sum(batch.total - batch.completed - batch.failed for batch in batches)
    soon = timezone.now() + SOON
    due = sum(batch.status in states.ACTIVE and batch.deadline < soon for batch in batches)
    of_all = "" if len(batches) == 1 else f"{due} of them "
    return f"{_lines(left)} left" + (f", {of_all}due in less than an hour" if due else "")


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


def _said(what: str) -> Any:
    return lambda batches: f"{{these}}, {extent(batches)}. {what}"


def _uncancellable(batch: Batch) -> str | None:
    if batch.cancelling_at is not None and batch.status in states.ACTIVE:
        return "It is being cancelled already."
    if batch.status in states.TERMINAL:
        return ENDED.format(looks.label(batch).lower())
    open_states = states.before(Status.CANCELLING)
    return None if batch.status in open_states else f"It is ending: {looks.label(batch).lower()}."


@asks(
    "Cancel",
    "batches.cancel_batch",
    _said(
        "Nothing more is sent, for good. What is done or in flight is kept, is in the output, and is charged."
        " A cancelled batch is promised no 24 hours, and gets no credit. To stop for a while, pause instead."
    ),
    reason=REASON,
    unless=_uncancellable,
)
def cancel(request: HttpRequest, batch: Batch, answer: Answer) -> None:
    idempotency.forget(batch.tenant_id, batch.public_id)  # it is known to its tenant: a POST of the same is a new one
    if not lifecycle.cancel(batch):
        raise LeftAlone("It is being cancelled already.")
    trail.record(batch.tenant, auditing.email(request), "batch.cancelled", batch.public_id, reason=answer.reason)


def _unpausable(batch: Batch) -> str | None:
    if batch.paused_reason:
        return f"It is paused already: {looks.PAUSES.get(batch.paused_reason, batch.paused_reason)}."
    return None if batch.status == Status.IN_PROGRESS else f"It does not run: it is {looks.label(batch).lower()}."


@asks(
    "Pause",
    "batches.pause_batch",
    _said(
        "Nothing more is sent until staff let it go on; its tenant can't. What is in flight is kept and charged."
        " Its 24 hours run on and stay promised: a deadline that is missed costs the credit."
    ),
    reason=REASON,
    unless=_unpausable,
)
def pause(request: HttpRequest, batch: Batch, answer: Answer) -> None:
    if not lifecycle.pause_by_operator(batch):
        raise LeftAlone("It does not run any more, or is paused already.")
    trail.record(batch.tenant, auditing.email(request), "batch.paused", batch.public_id, reason=answer.reason)


def _not_ours_to_resume(batch: Batch) -> str | None:
    if batch.paused_reason == caps.OPERATOR:
        return None
    if batch.paused_reason:
        why = looks.PAUSES.get(batch.paused_reason, batch.paused_reason)
        return f"It is not staff who paused it ({why}): it is its tenant's to resume."
    return "It is not paused."


@asks(
    "Go on",
    "batches.pause_batch",
    _said(
        "Its lines are sent again, at once. Its deadline has stayed what it was. Where what was in flight reached a cap"
        " of the tenant's meanwhile, it is paused for that instead."
    ),
    unless=_not_ours_to_resume,
    is_mild=True,
)
def go_on(request: HttpRequest, batch: Batch, answer: Answer) -> None:
    if not lifecycle.resume_by_operator(batch):
        raise LeftAlone("It is not paused by staff any more.")
    trail.record(batch.tenant, auditing.email(request), "batch.resumed", batch.public_id)


def _unraisable(batch: Batch) -> str | None:
    if batch.status not in states.before(Status.EXPIRING):
        return f"Nothing of it will be sent any more: it is {looks.label(batch).lower()}."
    return "It was raised before." if batch.raised else None


@asks(
    "Raise priority",
    "batches.raise_batch",
    _said(
        "They go before all batches whose deadline is not in danger, and while they have lines to send, their tenant"
        " has half of the model's slots. Batches of other tenants wait longer for it; no deadline is put in danger."
    ),
    reason=REASON,
    unless=_unraisable,
)
def raise_priority(request: HttpRequest, batch: Batch, answer: Answer) -> None:
    if not lifecycle.raise_priority(batch):
        raise LeftAlone("It was raised before, or nothing of it is sent any more.")
    trail.record(batch.tenant, auditing.email(request), "batch.raised", batch.public_id, reason=answer.reason)


@asks(
    "Lower priority",
    "batches.raise_batch",
    _said("They are run in their turn again, as any other batch."),
    unless=lambda batch: None if batch.raised and batch.status in states.ACTIVE else "It is not raised.",
    is_mild=True,
)
def lower_priority(request: HttpRequest, batch: Batch, answer: Answer) -> None:
    if not lifecycle.lower_priority(batch):
        raise LeftAlone("It is not raised any more, or nothing of it is sent any more.")
    trail.record(batch.tenant, auditing.email(request), "batch.lowered", batch.public_id)


def _unretryable(batch: Any) -> str | None:
    if batch.status not in states.TERMINAL:
        return "It has not ended: what fails until then is run again at its end."
    if batch.status == Status.FAILED:
        return "It never ran: its input is not valid."
    if batch.completed == batch.total:
        return "Every line was delivered."
    return "Its tenant is suspended: nothing would be sent." if batch.tenant.suspended else None


def _unerasable(batch: Batch) -> str | None:
    if refused := erasing.refusal(batch):
        return refused.message
    return "Its data was deleted before." if batch.erased_at and not erasing.keeps_input(batch) else None


@asks(
    "Delete data",
    "batches.erase_batch",
    "The input, output, errors and receipts of {these}, their metadata and file names are deleted, for good and for"
    " their tenants, too. What they took and cost, their times and manifests stay.",
    reason=REASON,
    unless=_unerasable,
    few=MOST_RETRIES,
)
def erase(request: HttpRequest, batch: Batch, answer: Answer) -> str | None:
    erasing.erase(batch, auditing.email(request), reason=answer.reason)
    return f"The input of {batch.public_id} stays: another batch uses it." if erasing.keeps_input(batch) else None


def _again(batches: list[Any]) -> str:
    lines = sum(batch.total - batch.completed for batch in batches)
    earlier = ", ".join(why.retries([batch.pk for batch in batches]))
    twice = f"\nWarning: it was done before, as {earlier}: what these deliver would be paid for twice."
    return (
        f"{{these}}: {_lines(lines)} that were not delivered become new batches, one for each, of the same tenant, with"
        " 24 hours of their own and today's prices. The tenant is charged for what they deliver, as for any batch,"
        " and they count against its limits. The batches themselves stay as they are."
    ) + (twice if earlier else "")


@asks("Run again what failed", "batches.retry_batch", _again, reason=REASON, unless=_unretryable, few=MOST_RETRIES)
def retry(request: HttpRequest, batch: Batch, answer: Answer) -> str:
    """One answer of the page makes one batch of each."""
    if left := _unretryable(batch):
        raise LeftAlone(left)
    noted = {"retry_of": batch.public_id, "reason": answer.reason}
    key = f"staff-{answer.once}-{batch.public_id}"
    try:
        with Noted(
            batch.tenant, f"retry {batch.public_id}", auditing.email(request), "batch.retried", key=key, **noted
        ) as attempt:
            attempt.name({})
            made = retries.retry(batch, attempt).public_id
    except Replayed as replayed:
        raise LeftAlone(f"This page has been answered before: it is run again as {replayed.object_id}.") from None
    return f"Run again as {made}: what {batch.public_id} did not deliver."
