"""How batches look on pages: the words and the colours of their states."""

from batches.core import caps
from batches.core.states import Status

# What a status looks like: busy and waiting batches move, good, bad and still ones have ended.
LOOKS = {
    Status.VALIDATING: "waiting",
    Status.IN_PROGRESS: "busy",
    Status.CANCELLING: "waiting",
    Status.EXPIRING: "waiting",
    Status.FINALIZING: "busy",
    Status.COMPLETED: "good",
    Status.FAILED: "bad",
    Status.CANCELLED: "still",
    Status.EXPIRED: "bad",
}
PAUSES = {
    caps.MAX_COST: "cost limit reached",
    caps.MAX_ERROR_RATE: "too many lines failed",
    caps.CREDITS: "credits used up",
    caps.SPENDING: "spending limit reached",
}


def cents(usd: str) -> str:
    """USD with two decimals at least; none of those there are is dropped."""
    whole, _, fraction = usd.partition(".")
    return f"{whole}.{fraction:0<2}"
