"""The states of a batch, each described once, and the transitions between them.

    validating -> in_progress -> finalizing -> completed
         |             |-> cancelling -> finalizing -> cancelled      (validating too)
         |             '-> expiring   -> finalizing -> expired        (validating too)
         '-> failed

A terminal state never changes. Cancel and expiry start only from validating and in_progress: a batch in finalizing
completes. Which terminal state follows finalizing is told by whether it was cancelling or expiring before.
"""

from enum import StrEnum


class Status(StrEnum):
    """A batch's stored status."""

    VALIDATING = "validating"  # the input is being read; nothing was sent
    IN_PROGRESS = "in_progress"  # slices exist and are run
    CANCELLING = "cancelling"  # nothing new is sent; what is in flight is taken
    EXPIRING = "expiring"  # the same, since the deadline passed
    FINALIZING = "finalizing"  # nothing is taken any more; files are written
    COMPLETED = "completed"  # every line has a result, good or bad
    FAILED = "failed"  # the input as a whole is not valid
    CANCELLED = "cancelled"
    EXPIRED = "expired"


STEPS: dict[Status, tuple[Status, ...]] = {
    Status.VALIDATING: (Status.IN_PROGRESS, Status.CANCELLING, Status.EXPIRING, Status.FAILED),
    Status.IN_PROGRESS: (Status.FINALIZING, Status.CANCELLING, Status.EXPIRING),
    Status.CANCELLING: (Status.FINALIZING,),
    Status.EXPIRING: (Status.FINALIZING,),
    Status.FINALIZING: (Status.COMPLETED, Status.CANCELLED, Status.EXPIRED),
    Status.COMPLETED: (),
    Status.FAILED: (),
    Status.CANCELLED: (),
    Status.EXPIRED: (),
}
TERMINAL = tuple(status for status, following in STEPS.items() if not following)
ACTIVE = tuple(status for status, following in STEPS.items() if following)
RUN = (Status.COMPLETED, Status.CANCELLED, Status.EXPIRED)  # ended otherwise than by a bad input: to be sealed
UNDELIVERED = (Status.FAILED, Status.CANCELLED, Status.EXPIRED)  # ended otherwise than completed: few
TAKING = (Status.IN_PROGRESS, Status.CANCELLING, Status.EXPIRING)  # results are taken
CLOSING = (Status.CANCELLING, Status.EXPIRING)

# What the native surface shows: a client that knows only the documented states must be able to stop waiting.
NATIVE = {status: status.value for status in Status} | {
    Status.EXPIRING: "in_progress",
    Status.FINALIZING: "in_progress",
    Status.EXPIRED: "failed",
}


def shown(status: Status, cancelled: bool) -> str:
    """The native status; a cancelled batch that is being finalized is still cancelling."""
    return "cancelling" if status == Status.FINALIZING and cancelled else NATIVE[status]


def shown_openai(status: Status) -> str:
    """The status on the surface that OpenAI's clients read: the stored one, but expiring is not in their list."""
    return "in_progress" if status == Status.EXPIRING else status.value


def before(target: Status) -> tuple[Status, ...]:
    """The states from which `target` may be reached."""
    return tuple(status for status, following in STEPS.items() if target in following)


def ending(cancelled: bool, expired: bool) -> Status:
    """The terminal state that finalizing leads to."""
    if cancelled:
        return Status.CANCELLED
    return Status.EXPIRED if expired else Status.COMPLETED
