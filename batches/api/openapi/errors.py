"""Error codes in the description: of docs/errors.md, by batches/codes.py."""

from batches.api.openapi.shapes import Shape, ref
from batches.codes import BATCHES, LINES, REQUESTS, Code, documented
from tenants.errors import Refused

__all__ = ["BATCHES", "LINES", "REQUESTS", "Code", "by_status", "documented", "example", "narrowed", "types"]


def types() -> list[str]:
    """What `type` can be."""
    return sorted({Refused(code.status or 400, code.code, "").type for code in documented(REQUESTS).values()})


def by_status(codes: set[str]) -> dict[int, list[Code]]:
    """The codes with their causes, by the status they come with."""
    found: dict[int, list[Code]] = {}
    for name, code in documented(REQUESTS).items():
        if name in codes:
            found.setdefault(code.status, []).append(code)
    if missing := codes - set(documented(REQUESTS)):
        raise LookupError(f"docs/errors.md does not have {', '.join(sorted(missing))}")
    return dict(sorted(found.items()))


def narrowed(codes: list[Code]) -> Shape:
    """The error object with one of these codes."""
    chosen = {"enum": [code.code for code in codes]}
    return {"allOf": [ref("Error"), {"properties": {"error": {"properties": {"code": chosen}}}}]}


def example(code: Code) -> Shape:
    """The error object with this code; what the message says differs."""
    refused = Refused(code.status, code.code, code.cause)
    shown = {"message": refused.message, "type": refused.type, "param": None, "code": refused.code}
    return {"value": {"error": shown}}
