"""Upstreams off and on: runners see it within a second."""

from batches.models import Upstream


def switch_off(upstream: int, now: bool = False) -> bool:
    """Send it nothing new; what is in flight is waited for. With `now` it is given up: the lines are sent elsewhere, as
    though they had never been sent, and a late answer is not taken. False when it was so already, or is not there."""
    wanted = {"enabled": False} | ({"severed": True} if now else {})
    return Upstream.objects.filter(pk=upstream).exclude(**wanted).update(**wanted) == 1


def switch_on(upstream: int) -> bool:
    """Use it again, however it was switched off. False when it is on already, or is not there."""
    return Upstream.objects.filter(pk=upstream, enabled=False).update(enabled=True, severed=False) == 1
