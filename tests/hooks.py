"""What the tests of webhooks share: endpoints, ends of batches, and time that passes."""

import json
from datetime import timedelta
from typing import Any

from django.utils import timezone

from batches import lifecycle, tasks
from batches.core.states import Status
from batches.models import Batch, WebhookDelivery
from tests import documented
from tests.conftest import Person
from tests.test_web import make_batches

ENDPOINTS = "/v1/webhook_endpoints"


def post(person: Person, path: str = "", body: Any = None, **headers: str) -> Any:
    """POST a JSON body to an address of the endpoints."""
    content = body if isinstance(body, bytes) else json.dumps({} if body is None else body).encode()
    headers |= {"Authorization": f"Bearer {person.key}"}
    answer = person.client.post(ENDPOINTS + path, content, content_type="application/json", headers=headers)
    return documented.checked("POST", ENDPOINTS + path, answer)


def endpoint(person: Person, url: str, **fields: Any) -> dict[str, Any]:
    """A new endpoint, with its secret."""
    answer = post(person, "", {"url": url, **fields})
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def end(person: Person, status: Status = Status.COMPLETED) -> Batch:
    """A batch of the tenant's that comes to its end now."""
    before = Status.VALIDATING if status == Status.FAILED else Status.FINALIZING
    [batch] = make_batches(person.tenant, status=before)
    assert lifecycle.transition(batch.pk, status)
    return batch


def deliveries(person: Person, made: dict[str, Any]) -> list[dict[str, Any]]:
    answer = person.get(f"{ENDPOINTS}/{made['id']}/deliveries")
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["data"]
    return found


def pass_time() -> None:
    """All that waits is due now, and every lease has run out."""
    past = timezone.now() - timedelta(seconds=1)
    WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING).update(next_at=past)


def deliver() -> None:
    tasks.deliver()
