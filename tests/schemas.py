"""schemathesis against a running server: asks every operation of its description what it should take and should not.

A process of its own (`python -m tests.schemas`): pytest would rewrite all of schemathesis. Reads what to do as JSON,
writes what came of it.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import schemathesis
from schemathesis.engine import events, from_schema

CHECKS: dict[str, dict[str, Any]] = {  # those that are on, and how
    "not_a_server_error": {},
    "status_code_conformance": {},
    "content_type_conformance": {},
    "response_schema_conformance": {},
    "response_headers_conformance": {},
    "negative_data_rejection": {"expected-statuses": [400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 416, 422, 429]},
    "positive_data_acceptance": {"expected-statuses": ["2xx", "3xx", 401, 403, 404, 409, 410, 416, 429]},
    "unsupported_method": {},
    "ignored_auth": {},
}


def possible(context: Any, case: Any) -> bool:
    """What OpenAPI has no words for: queries that do not go together."""
    return not {"partial", "merged"} <= {name for name, value in (case.query or {}).items() if value == "true"}


def run(address: str, key: str, examples: int, **known: Any) -> dict[str, Any]:
    """All phases over all operations: how many cases, what was answered, and what was not as described."""
    checks: dict[str, Any] = {name: {"enabled": True, **how} for name, how in CHECKS.items()}
    config = schemathesis.Config.from_dict(
        {
            "seed": 1,
            "headers": {"Authorization": f"Bearer {key}"},
            "generation": {"max-examples": examples, "deterministic": True, "database": "none", "no-shrink": True},
            "checks": {"enabled": False, **checks},
            "phases": {"stateful": {"enabled": False}},
            **known,
        }
    )
    schema = schemathesis.openapi.from_url(address, config=config)
    schema.hook("filter_case")(possible)
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
    return {
        "cases": phases.total(),
        "phases": phases,
        "statuses": dict(sorted(statuses.items())),
        "faults": sorted(faults),
    }


def _faults(event: events.ScenarioFinished) -> Iterator[str]:
    for check in (check for checks in event.recorder.checks.values() for check in checks):
        if check.failure_info is not None:
            failure, sample = check.failure_info.failure, check.failure_info.code_sample
            yield f"{event.recorder.label}: {failure.title}: {failure.message}\n  {sample}"


if __name__ == "__main__":
    print(json.dumps(run(**json.load(sys.stdin))))
