"""Webhooks as others take them: OpenAI's SDK, unmodified, against the live server; and the code in docs/webhooks.md."""

import re
from typing import Any

import httpx
import pytest

from batches.models import WebhookEndpoint
from tests.conftest import Person
from tests.hooks import deliver, end, endpoint
from tests.receiver import Receiver
from tests.service import ROOT

pytestmark = pytest.mark.sqlite_only


def test_openais_sdk_manages_endpoints_and_unwraps_events(
    owner: Person, receiver: Receiver, http: httpx.Client
) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=owner.key, max_retries=0) as client:
        hooks = client.webhooks
        assert "batch.completed" in hooks.event_types.list().data
        with pytest.raises(openai.BadRequestError) as refused:
            hooks.create(name="x", url=receiver.url, event_types=["batch.completed"])
        assert refused.value.code == "invalid_url"
        made = hooks.create(name="x", url="https://hooks.example.com/", event_types=["batch.completed"])
        WebhookEndpoint.objects.update(url=receiver.url)
        rotated = hooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        batch = end(owner)
        deliver()
        (received,) = receiver.received
        for secret in (made.signing_secret, rotated.signing_secret):
            event = hooks.unwrap(received.body, received.headers, secret=secret)
            assert (type(event).__name__, event.type) == ("BatchCompletedWebhookEvent", "batch.completed")
            assert event.data.id == batch.public_id
        with pytest.raises(openai.InvalidWebhookSignatureError):
            hooks.unwrap(received.body, received.headers, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        assert hooks.update(made.id, name="y", event_types=["batch.failed"]).name == "y"
        assert [each.id for each in hooks.list(limit=1)] == [made.id]
        with pytest.raises(openai.BadRequestError) as refused:  # the server's own process allows no network
            hooks.test(made.id, event_type="batch.failed")
        assert refused.value.code == "webhook_test_failed" and "address_not_allowed" in refused.value.message
        assert hooks.delete(made.id).deleted
        with pytest.raises(openai.NotFoundError):
            hooks.retrieve(made.id)


def test_the_code_of_the_documentation_verifies(owner: Person, receiver: Receiver) -> None:
    (code,) = re.findall(
        r"^```python\n(import base64.*?)^```$", (ROOT / "docs/webhooks.md").read_text(), re.DOTALL | re.MULTILINE
    )
    written: dict[str, Any] = {}
    exec(code, written)  # noqa: S102 - it is ours
    made = endpoint(owner, receiver.url)
    end(owner)
    deliver()
    (received,) = receiver.received
    verify, secret = written["verify"], made["signing_secret"]
    assert verify(secret, received.headers, received.body)
    assert not verify(secret, received.headers, received.body + b" ")
    assert not verify("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", received.headers, received.body)
    assert not verify(secret, received.headers | {"webhook-timestamp": "1614265330"}, received.body)
