"""The promise of 24 hours: whether a batch kept it, and what its tenant gets when it did not. Pure."""

from datetime import datetime

from batches.core.states import Status


def met(ending: Status, ended_at: datetime, deadline: datetime, held_back: bool) -> bool | None:
    """Whether all was there at the deadline. None: nothing was promised, since the batch was cancelled or its input
    not valid, or since it was held back: paused, or its tenant suspended, at some time."""
    if held_back or ending not in (Status.COMPLETED, Status.EXPIRED):
        return None
    return ending == Status.COMPLETED and ended_at <= deadline


def credit(met: bool | None, cost: int, percent: int) -> int:
    """Pico-USD that the tenant gets of what the batch is charged; a fraction of a pico is not given."""
    return cost * percent // 100 if met is False else 0
