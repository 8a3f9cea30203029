"""Every answer that the tests see is held against the description of the API.

Stricter than what is published: an object with a field that is not described fails, where clients would ignore it.
"""

import json
import re
from functools import cache
from typing import Any

import jsonschema_rs

from batches.api.openapi import generator

JSON = "application/json"


@cache
def description() -> dict[str, Any]:
    made: dict[str, Any] = closed(json.loads(generator.document().body))
    return made


def closed(schema: Any) -> Any:
    """The same, with `additionalProperties: false` where a record says nothing of others."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    is_record = schema.get("type") in ("object", ["object", "null"]) and isinstance(schema.get("properties"), dict)
    return {"additionalProperties": False, **inner} if is_record else inner


@cache
def _validator(*keys: str) -> Any:
    schema: Any = description()
    for key in keys:
        schema = schema[key]
    return _made(schema)


def _made(schema: Any) -> Any:
    return jsonschema_rs.validator_for({**schema, "components": description()["components"]})


def valid(value: Any, *keys: str) -> None:
    """Raises AssertionError where the value is not what the schema under these keys says."""
    faults = [f"{error.instance_path}: {error.message[:500]}" for error in _validator(*keys).iter_errors(value)]
    assert not faults, f"{keys}: {faults}"


def valid_by(value: Any, schema: Any) -> None:
    """The same by a schema of the description that is at hand."""
    faults = [error.message[:500] for error in _made(closed(schema)).iter_errors(value)]
    assert not faults, faults


def operation(method: str, path: str) -> tuple[str, str] | None:
    """The path and method in the description; a path without parameters first."""
    for template in sorted(description()["paths"], key=lambda name: name.count("{")):
        if re.fullmatch(re.sub("{.*?}", "[^/]+", template.replace("{model_id}", ".+")), path.partition("?")[0]):
            named = "get" if method == "HEAD" else method.lower()
            return (template, named) if named in description()["paths"][template] else None
    return None


def checked(method: str, path: str, answer: Any) -> Any:
    """The answer of Django's test client, once it is as described: status, headers, media type, JSON body."""
    found = operation(method, path)
    if found is None:
        assert answer.status_code in (400, 404, 405, 413) or not path.startswith("/v1/"), (method, path)
        return answer
    keys = ["paths", *found, "responses", str(answer.status_code)]
    described = description()["paths"][found[0]][found[1]]["responses"].get(keys[-1])
    assert described, f"{method} {path}: {keys[-1]} is not described: {getattr(answer, 'content', b'')[:300]!r}"
    if "$ref" in described:
        keys = ["components", "responses", described["$ref"].rpartition("/")[2]]
        described = description()["components"]["responses"][keys[-1]]
    for name, header in described["headers"].items():
        required = header.get("required") or "RequestId" in header.get("$ref", "")
        assert name in answer.headers or not required, f"{method} {path}: {name} is missing"
    media = answer.headers.get("Content-Type", "")
    assert media in described.get("content", {}) or answer.status_code == 304, f"{method} {path}: {media}"
    if media == JSON and method != "HEAD":
        valid(json.loads(answer.content), *keys, "content", JSON, "schema")
    return answer
