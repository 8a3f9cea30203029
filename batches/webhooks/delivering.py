"""The task that sends what is due: many at once over one event loop, for a short time, then it hands over.

It takes turns like a runner: the loop runs for a moment, then stands still while rows are written. One such task at a
time is enough, so that receivers that hang never take the workers from other chores: another one leaves at once.
"""

import asyncio
import logging
import secrets
import time

from batches import marks, measures, tasks
from batches.webhooks import leasing
from batches.webhooks.leasing import Claim
from batches.webhooks.sending import Outcome, Sender
from tenants import clock, scope

CLAIMING = 30.0  # seconds; what is in flight then ends within a POST's deadline
TURN = 0.25  # seconds

log = logging.getLogger(__name__)
Sending = asyncio.Task[Outcome]


def deliver() -> None:
    """Send what is due, unless somebody does already, or the service holds."""
    if not marks.look() or leasing.held(clock.now()):
        return
    leasing.bury()
    token, until = secrets.token_hex(16), time.monotonic() + CLAIMING
    sender, in_flight = Sender(), dict[Sending, Claim]()
    with asyncio.Runner() as runner:
        while True:
            if time.monotonic() < until:
                for claim in leasing.claim(token, in_flight.values()):
                    in_flight[runner.get_loop().create_task(sender.send(claim.message, claim.end))] = claim
            if not in_flight:
                break
            for sending in runner.run(_ended(in_flight)):
                claim = in_flight.pop(sending)
                with scope.tenant(claim.tenant):
                    outcome = _outcome(sending)
                    leasing.settle(claim, outcome)
                measures.WEBHOOKS.labels("failed" if outcome.error else "delivered").inc()
    if is_due():
        tasks.ring_deliver()


def is_due() -> bool:
    """Whether something waits to be sent, or given up, and nobody is at it."""
    now = clock.now()
    return leasing.waiting(now) and not leasing.held(now)


async def _ended(in_flight: dict[Sending, Claim]) -> set[Sending]:
    ended, _ = await asyncio.wait(in_flight, timeout=TURN, return_when=asyncio.FIRST_COMPLETED)
    return ended


def _outcome(sending: Sending) -> Outcome:
    """A fault of ours is no reason to leave the others in the lurch."""
    if error := sending.exception():
        log.error("A webhook could not be sent", exc_info=error)
        return Outcome(None, "sender_failed")
    return sending.result()
