"""What `up` and `web` say once they can be asked."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import close_old_connections

from provocative import addresses, embedded
from provocative.addresses import Address

MODEL_STARTS_WITHIN = 60.0  # seconds; later `ready` does not wait for it any more


@dataclass
class Announcement:
    """Each call brings the start one step on: register the model once it answers, say `ready` once the web does."""

    web: Address
    model: Address | None
    say: Callable[[str], None]
    ready: bool = False
    model_due: float = field(default_factory=lambda: time.monotonic() + MODEL_STARTS_WITHIN)

    def __call__(self) -> None:
        waiting = self._register() and time.monotonic() < self.model_due
        if not self.ready and not waiting and addresses.answers(self.web, "/readyz"):
            self.ready = True
            self.say(f"ready {self.web.url}")

    def _register(self) -> bool:
        """Make the model known as soon as it answers; whether it is still to come."""
        if self.model and addresses.answers(self.model, "/health"):
            close_old_connections()
            embedded.register(f"{self.model.url}/v1")
            self.model = None
        return self.model is not None
