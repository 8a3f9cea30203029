"""schemathesis against a running server: asks every operation of its description what it should take and should not.

A process of its own (`python -m tests.schemas`): pytest would rewrite all of schemathesis. Reads what to do as JSON,
writes what came of it.
"""

import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import schemathesis
from schemathesis.engine import events, from_schema

TODAY = datetime.now(UTC).date().isoformat()
CHECKS: dict[str, dict[str, Any]] = {  # those that are on, and how
    "not_a_server_error": {},
    "status_code_conformance": {},
    "content_type_conformance": {},
    "response_schema_conformance": {},
    "response_headers_conformance": {},
    "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 416, 422, 429]},
    "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 401, 403, 404, 409, 410, 416, 422, 429]},
}
# What these refuse hangs on what there is: a server that answers, at most ten endpoints, a public address; and on how
# two fields fit.
UNSURE = [
    "POST /v1/billing/checkout",
    "POST /v1/webhook_endpoints",
    "POST /v1/webhook_endpoints/{endpoint_id}",
    "POST /v1/webhook_endpoints/{endpoint_id}/test",
]


def possible(case: Any, here: str) -> bool:
    """Leave out what OpenAPI has no words for, URLs that lead elsewhere, and what multipart can't show: an empty list."""
    query = {name: str(value) for name, value in (case.query or {}).items()}
    if query.get("partial") == query.get("merged") == "true" or query.get("from", "") > query.get("to", TODAY):
        return False
    body = case.body if isinstance(case.body, dict) else {}
    url = body.get("url")
    elsewhere = isinstance(url, str) and "://" in url and not url.startswith(here)
    return not elsewhere and body.get("metadata") != []


@schemathesis.hook("before_call")
def fresh_key(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """A good Idempotency-Key is a new one: else nearly every POST would be the repetition of another."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch("[!-~]+", key):
        case.headers["Idempotency-Key"] = str(uuid4())


def run(
    address: str, key: str, here: str, examples: int, roles: dict[str, Any] | None = None, **known: Any
) -> dict[str, Any]:
    """All phases over all operations: how many cases, what was answered, and what was not as described.

    With `roles`, drawn cases alone, each sent by the next role: {name: {"key", "refused": status or None, "may": words}};
    `secrets` are the ids that no answer to them may have.
    """
    secrets = known.pop("secrets", [])

    def filter_case(context: Any, case: Any) -> bool:
        return possible(case, here)

    configuration = _configuration(key, examples) | known
    if roles:
        _take_turns(roles, secrets)
        del configuration["headers"]
        configuration["checks"] |= {"role": {"enabled": True}, "positive_data_acceptance": {"enabled": False}}
        configuration["phases"] |= {"examples": {"enabled": False}, "coverage": {"enabled": False}}
    config = schemathesis.Config.from_dict(configuration)
    schema = schemathesis.openapi.from_url(address, config=config)
    schema.hook(filter_case)
    phases: Counter[str] = Counter()
    statuses: Counter[int] = Counter()
    faults: set[str] = set()
    for event in from_schema(schema).execute():
        match event:
            case events.NonFatalError():
                faults.add(f"{event.label}: {event.value}")
            case events.FatalError():
                raise event.exception
            case events.ScenarioFinished():
                phases[event.phase.value] += len(event.recorder.cases)
                answers = [each.response for each in event.recorder.interactions.values() if each.response]
                statuses.update(answer.status_code for answer in answers)
                faults.update(_faults(event))
    answered = dict(sorted(statuses.items()))
    return {"cases": phases.total(), "phases": phases, "statuses": answered, "faults": sorted(faults)}


def _take_turns(roles: dict[str, Any], secrets: list[str]) -> None:
    """Send each case by the next role, and look whether it was answered what that role may hear."""
    turns = itertools.cycle(roles)

    @schemathesis.hook("before_call")
    def turn(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
        key = roles[next(turns)]["key"]
        case.headers["Authorization"] = f"Bearer {key}".strip()

    @schemathesis.check
    def role(context: Any, response: Any, case: Any) -> None:
        sent = response.request.headers["Authorization"].removeprefix("Bearer").strip()
        name = next(name for name, each in roles.items() if each["key"] == sent)
        asked = f"{response.request.url} {response.request.body!r}"
        told = response.content.decode(errors="replace")
        seen = [secret for secret in secrets if secret in told and secret not in asked]
        assert not seen, f"{name} was told {seen}"
        path = response.request.url.partition("?")[0]
        assert response.status_code >= 400 or not any(secret in path for secret in secrets), (
            f"{name} was let in at {path}"
        )
        word = "read" if case.method.upper() in {"GET", "HEAD"} else "write"
        status, refused = response.status_code, roles[name]["refused"]
        if case.operation.definition.raw.get("security", True):
            assert refused is None or status in {refused, 411, 413}, f"{name} was answered {status}"
            assert status >= 400 or word in roles[name]["may"].split(), f"{name} was answered {status}"


def _configuration(key: str, examples: int) -> dict[str, Any]:
    checks: dict[str, Any] = {name: {"enabled": True, **how} for name, how in CHECKS.items()}
    unsure = {"positive_data_acceptance": {"enabled": False}}
    return {
        "seed": 1,
        "headers": {"Authorization": f"Bearer {key}"},
        "generation": {"max-examples": examples, "deterministic": True, "database": "none", "no-shrink": True},
        "checks": {"enabled": False, **checks},
        "operations": [{"include-name": name, "checks": unsure} for name in UNSURE],
        "phases": {
            "stateful": {"enabled": False},
            "coverage": {"generate-duplicate-query-parameters": True, "unexpected-methods": []},
        },
    }


def _faults(event: events.ScenarioFinished) -> Iterator[str]:
    for check in (check for checks in event.recorder.checks.values() for check in checks):
        if check.failure_info is not None:
            failure, sample = check.failure_info.failure, check.failure_info.code_sample
            yield f"{event.recorder.label}: {failure.title}: {failure.message}\n  {sample}"


if __name__ == "__main__":
    print(json.dumps(run(**json.load(sys.stdin))))
