"""drf-spectacular's generator, with what each operation says for itself."""

import hashlib
import json
import re
from functools import cache
from typing import Any, NamedTuple

from drf_spectacular.drainage import error
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema

from batches.api.openapi import (
    account,
    billing,
    components,
    invoices,
    native,
    openai,
    operations,
    payments,
    preflight,
    receipts,
    reference,
    webhooks,
)
from batches.api.openapi.shapes import Shape

ROOMS = (native, receipts, preflight, openai, account, billing, invoices, payments, webhooks, reference)
OPERATIONS = {name: operation for room in ROOMS for name, operation in room.OPERATIONS.items()}
TAGS = {
    native.TAG: "One request to submit, results in the order of the input.",
    openai.FILES: "`/v1/files` of OpenAI's SDK, unmodified.",
    openai.BATCHES: "`/v1/batches` of OpenAI's SDK, unmodified. The same batches, with the same ids.",
    account.TAG: "Models, usage, limits, billing, the ledger.",
    invoices.TAG: "What your months came to.",
    payments.TAG: "Pages of Stripe's, where the operator takes payments by it.",
    webhooks.TAG: "Be told of the ends of batches, as OpenAI's SDK manages it.",
    reference.TAG: "",
}
ABOUT = """
Batches of requests to language models, on this service: upload a JSONL file, and fetch the results within 24 hours at
half the price.

Two surfaces over the same batches: `/v1/batch` is the native one; `/v1/files` and `/v1/batches` are those of OpenAI's
SDK, unmodified.

- Every answer has the header `x-request-id`. `HEAD` works wherever `GET` does.
- Times are whole unix seconds. A field without a value is `null`, never left out. Ignore fields that you do not know:
  there will be more.
- A field or query that is not supported is refused, never silently ignored.
- A POST with an `Idempotency-Key` may be sent again, and is done once.
- A key may make so many requests a minute: the headers `x-ratelimit-…` say how it stands, in refusals too.
- What is another tenant's is answered like what does not exist: 404.
""".strip()
KEY = {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer pk-prov-…`"}


class Described(AutoSchema):
    """A route's schema: the Operation under its method and path."""

    def get_operation(self, path: str, path_regex: str, path_prefix: str, method: str, registry: Any) -> Shape | None:
        operation = OPERATIONS.get(f"{method.upper()} {path}")
        if operation is None:
            error(f"{method.upper()} {path} is not described: see batches/api/openapi")
            return None
        return operations.described(operation, re.findall(r"{(\w+)}", path))


def complete(result: Shape, **_: Any) -> Shape:
    """What the operations name, and what stands above them (a postprocessing hook). In the order of OPERATIONS."""
    found, result["paths"] = result["paths"], {}
    for method, path in map(str.split, OPERATIONS):
        if operation := found.get(path, {}).get(method.lower()):
            result["paths"].setdefault(path, {})[method.lower()] = operation
    result["components"] = {
        "schemas": {
            **components.schemas(),
            **preflight.schemas(),
            **account.SCHEMAS,
            **billing.SCHEMAS,
            **invoices.SCHEMAS,
            **receipts.SCHEMAS,
            **payments.SCHEMAS,
            **webhooks.SCHEMAS,
        },
        "responses": operations.shared_refusals(),
        "headers": operations.HEADERS,
        "securitySchemes": {"key": KEY},
    }
    result["webhooks"] = webhooks.sent()
    result["security"] = [{"key": []}]
    result["servers"] = [{"url": "/"}]
    result["tags"] = [{"name": name, "description": about} if about else {"name": name} for name, about in TAGS.items()]
    result["info"]["description"] = ABOUT
    return result


class Document(NamedTuple):
    """The description as it is sent."""

    body: bytes
    etag: str


@cache
def document() -> Document:
    """Made once a process."""
    made = SchemaGenerator().get_schema(request=None, public=True)
    body = json.dumps(made, ensure_ascii=False).encode()
    return Document(body, f'"{hashlib.sha256(body).hexdigest()}"')
