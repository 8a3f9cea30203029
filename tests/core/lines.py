"""Input lines for the tests of requests: small builders, and what Python's own JSON reader makes of them."""

import json
from typing import Any

from hypothesis import strategies as st

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
)
PROMPTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}]},
    COMPLETIONS: {"prompt": "Hi"},
    EMBEDDINGS: {"input": "Hi"},
    RESPONSES: {"input": "Hi"},
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


def body(endpoint: str = CHAT, **fields: Any) -> dict[str, Any]:
    return {"model": "m", **PROMPTS[endpoint], **fields}


def line(endpoint: str = CHAT, **fields: Any) -> bytes:
    """A valid line, with `fields` of the envelope set; a field set to ... is left out."""
    envelope = {"custom_id": "a", "method": "POST", "url": endpoint, "body": body(endpoint), **fields}
    return json.dumps({key: value for key, value in envelope.items() if value is not ...}).encode()


def raw(fragment: bytes, where: str = "body") -> bytes:
    """A line that is valid but for `fragment`, which stands as it is as one more value."""
    if where == "envelope":
        return b'{"custom_id":"a","more":%b,"body":{"model":"m","messages":[1]}}' % fragment
    if where == "messages":
        return b'{"custom_id":"a","body":{"model":"m","messages":[%b]}}' % fragment
    return b'{"custom_id":"a","body":{"model":"m","messages":[1],"more":%b}}' % fragment


def reference(data: bytes) -> Any:
    """The line by Python's reader, made strict. Raises ValueError."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    found = json.loads(data.decode(), parse_constant=refuse, parse_int=str, parse_float=str)
    json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate is no text
    return found
