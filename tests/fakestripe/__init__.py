"""A small Stripe that remembers: what the service uses of its API, its pages' outcomes, its webhooks, and its faults."""

from tests.fakestripe.objects import DECLINED, GOOD
from tests.fakestripe.server import KEY, SECRET, FakeStripe, signed

__all__ = ["DECLINED", "GOOD", "KEY", "SECRET", "FakeStripe", "signed"]
