"""What to do about a batch, in a sentence or two for who was woken by it. No query: plain data in, words out."""

from collections.abc import Callable
from datetime import datetime

from batches import expecting
from batches.console.why import How, Model
from batches.core import caps
from batches.core.states import CLOSING, RUN, Status
from batches.models import Batch
from batches.web import looks

PATIENCE = 60.0  # seconds that a step may wait for a worker
SHOWN = 3  # of a list
PAUSES = {
    caps.OPERATOR: "Staff paused it: the trail says who, and why. Its 24 hours run: let it go on as soon as it can.",
    caps.CREDITS: "Its tenant's credits are used up: it goes on by itself when there are more.",
    caps.SPENDING: "Its tenant's limit of the month is used up: it goes on by itself when there is more of it.",
    caps.MAX_COST: "It has cost what its tenant lets it cost: it is the tenant's to raise that and resume.",
    caps.MAX_ERROR_RATE: "More lines failed than its tenant wants to see: it is the tenant's to resume. Look at the"
    " causes below: many of one kind may be an upstream's fault.",
}


def advice(batch: Batch, how: How) -> str:
    """What to do, or that there is nothing to do."""
    for rule in _RULES:
        if said := rule(batch, how):
            return said
    return "It runs: nothing to do."


def _ended(batch: Batch, how: How) -> str:
    if batch.status == Status.FAILED:
        return "Its input is not valid: its tenant corrects the lines below and submits it anew. Nothing was charged."
    if batch.status not in RUN:
        return ""
    left = batch.total - batch.completed
    if not left:
        return "Every line was delivered: nothing to do."
    if how.retries:
        return f"{left:,} of its lines were not delivered, and were run again: look at {how.retries[-1]}."
    return f"{left:,} of its lines were not delivered. Look at the causes below; when they are gone, run them again."


def _held_back(batch: Batch, how: How) -> str:
    if batch.paused_reason:
        return PAUSES.get(batch.paused_reason, f"It is paused: {batch.paused_reason}.")
    if batch.tenant.suspended and batch.status == Status.IN_PROGRESS:
        return "Its tenant is suspended: nothing is sent until the tenant is resumed."
    return ""


def _steps(batch: Batch, how: How) -> str:
    """Validation and finalizing."""
    if how.step is None:
        return ""
    what = "Its input is read" if batch.status == Status.VALIDATING else "Its files are written"
    again = f", attempt {how.step.attempts}" if how.step.attempts > 1 else ""
    if how.step.holder:
        return f"{what} by {how.step.holder}{again}: it takes seconds, minutes at most. If it goes on, see that log."
    since = batch.finalizing_at or batch.created_at
    if (how.now - since).total_seconds() < PATIENCE:
        return f"{what} as soon as a worker is free: nothing to do."
    if how.step.attempts:
        return (
            f"{what} again and again without an end ({how.step.attempts} attempts): the log of the workers says why."
            " Is the storage full, or away?"
        )
    return "No worker takes it up: see /readyz whether workers for chores run, and their log."


def _closing(batch: Batch, how: How) -> str:
    if batch.status not in CLOSING:
        return ""
    return "It waits for what is in flight, 11 minutes at most, and writes its files then: nothing to do."


def _unserved(batch: Batch, how: How) -> str:
    """A model that nobody can answer for."""
    return next((said for model in how.models if (said := _lacks(model, how.now))), "")


def _lacks(model: Model, now: datetime) -> str:
    if model.usable:
        return ""
    whose = "of its tenant's own " if model.is_own else ""
    if not model.servers:
        return f"No upstream serves '{model.name}': add one."
    resting = [server for server in model.servers if server.state == "resting"]
    if not resting:
        some = _listed([server.pk for server in model.servers])
        return f"No enabled upstream {whose}serves '{model.name}': enable {some}, or add one."
    some = _listed([server.pk for server in resting])
    return (
        f"Every enabled upstream {whose}that serves '{model.name}' failed and rests: look whether {some} answers"
        " (Test now). It is tried again by itself, every half a minute."
    )


def _listed(numbers: list[int]) -> str:
    named = " or ".join(f"#{number}" for number in numbers[:SHOWN])
    return named + (f" (or {len(numbers) - SHOWN} others)" if len(numbers) > SHOWN else "")


def _unrun(batch: Batch, how: How) -> str:
    """Nobody who would send its lines."""
    if how.models and not how.runners:
        return "No runner is alive: start the workers (see /readyz, and their log)."
    dead = [held for held in how.cut.held if held.is_over]
    if dead and not how.cut.ready:
        return f"{dead[0].runner} held the last of its slices and is gone: a runner takes them over within seconds."
    if how.cut.waiting and not how.cut.ready and not how.cut.leased and how.cut.not_before:
        soon = looks.ahead(how.cut.not_before, how.now)
        return f"All its lines failed for now and wait to be sent again, {soon}: nothing to do. See the upstream's log."
    return ""


def slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count:,} slices"


def _suspected(batch: Batch, how: How) -> str:
    if not how.cut.suspects:
        return ""
    return (
        f"{slices(how.cut.suspects)}: their runners died twice without a result, so a line may kill runners. Such lines"
        " are sent one by one, and the one that does it fails: nothing to do but to read the log of those runners."
    )


def _behind(batch: Batch, how: How) -> str:
    """Others come first, as its tenant reads it."""
    if how.cut.leased or not batch.waiting_reason.startswith(expecting.BEHIND):
        return ""
    cure = "raise its priority, or give the model more slots" if how.at_risk else "nothing to do, its turn comes"
    return f"Other batches come first: {cure}."


def _late(batch: Batch, how: How) -> str:
    if not how.at_risk:
        return ""
    names = ", ".join(f"'{model.name}'" for model in how.models[:SHOWN]) or "its model"
    return f"It runs, and may miss its deadline: give {names} more slots, or raise its priority."


_RULES: tuple[Callable[[Batch, How], str], ...] = (
    _ended, _held_back, _steps, _closing, _unserved, _unrun, _suspected, _behind, _late,
)  # fmt: skip
