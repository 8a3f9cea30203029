"""Signatures against the specification's own example, the event's bytes, and the schedule of attempts."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core import webhooks


def test_the_known_example() -> None:
    """Published with Standard Webhooks by Svix."""
    signature = webhooks.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_secrets_are_long_and_never_the_same() -> None:
    made = {webhooks.new_secret() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
        assert webhooks.hint(secret).endswith(secret[-4:]) and len(webhooks.hint(secret)) < 12


def test_the_body_has_the_same_bytes_each_time() -> None:
    body = webhooks.render("evt_1", "batch.completed", 5, "batch_1")
    assert body == webhooks.render("evt_1", "batch.completed", 5, "batch_1")
    expected = {"id": "evt_1", "object": "event", "created_at": 5, "type": "batch.completed", "data": {"id": "batch_1"}}
    assert json.loads(body) == expected


def test_each_live_secret_signs() -> None:
    first, second = webhooks.new_secret(), webhooks.new_secret()
    headers = webhooks.headers([first, second], "evt_1", 5, b"{}")
    signatures = [webhooks.sign(secret, "evt_1", 5, b"{}") for secret in (first, second)]
    assert headers["webhook-signature"] == " ".join(signatures) and len(set(signatures)) == 2
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("evt_1", "5")


def test_attempts_reach_over_a_day_and_end() -> None:
    waits = [webhooks.next_attempt(attempts, lambda: 0.5) for attempts in range(1, webhooks.MAX_ATTEMPTS + 1)]
    assert waits[-1] is None
    delays = [wait for wait in waits if wait is not None]
    assert len(delays) == webhooks.MAX_ATTEMPTS - 1 and delays == sorted(delays)
    assert 24 * 3600 < sum(delays) < 36 * 3600 and delays[0] < 10


@given(st.integers(1, webhooks.MAX_ATTEMPTS - 1), st.floats(0, 1, exclude_max=True))
def test_the_spread_is_small(attempts: int, dice: float) -> None:
    wait, delay = webhooks.next_attempt(attempts, lambda: dice), webhooks.DELAYS[attempts - 1]
    assert wait is not None
    assert wait == pytest.approx(delay, rel=webhooks.SPREAD + 1e-9)
