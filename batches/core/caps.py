"""Why a running batch is paused: caps on its cost and failures, what its tenant may spend, the operator. Pure."""

import re
from typing import Any, NamedTuple

MAX_COST, MAX_ERROR_RATE = "max_cost_usd", "max_error_rate"  # the form's fields, and the reasons for a pause
CREDITS, SPENDING = LIMITS = "insufficient_credits", "spending_limit"  # reasons alone: the tenant's limits
OPERATOR = "operator"  # theirs to end
REASONS = (MAX_COST, MAX_ERROR_RATE, *LIMITS, OPERATOR)
REFUSED = {"insufficient_credits": CREDITS, "spending_limit_exceeded": SPENDING}  # by the refusal's code
MEASURED = 50  # lines finished before a share of failures says anything
_BY_ITSELF = {
    CREDITS: "your credits cover no more: it goes on by itself when they do",
    SPENDING: "your limit of the month covers no more: it goes on by itself when it does",
}
_SHARE = re.compile(r"[01](?:\.[0-9]{1,18})?")


class Caps(NamedTuple):
    """None is no cap."""

    cost: int | None = None  # pico-USD
    error_rate: float | None = None


def error_rate(value: Any) -> float:
    """The cap on failures, of a form's text or a JSON number. Raises ValueError with the cure."""
    if isinstance(value, str) and _SHARE.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValueError("Write a share of more than 0 and at most 1, such as 0.1 for a tenth.")
    return float(value)


def waiting_reason(paused_reason: str) -> str:
    """Why a batch that is paused is not run: a code, and a sentence."""
    if paused_reason == OPERATOR:
        return "paused: The operator of the service paused the batch: it goes on when the operator resumes it."
    if limit := _BY_ITSELF.get(paused_reason):
        return f"paused: The batch has cost what was reserved for it, and {limit}."
    return f"paused: The batch reached its {paused_reason}: it stands still until it is resumed."


def pause_reason(caps: Caps, cost: int, completed: int, failed: int) -> str:
    """Which cap is reached, or "": the cost so far, and lines since the error rate is measured."""
    if caps.cost is not None and cost >= caps.cost:
        return MAX_COST
    finished = completed + failed
    if caps.error_rate is not None and finished >= MEASURED and failed / finished > caps.error_rate:
        return MAX_ERROR_RATE
    return ""
