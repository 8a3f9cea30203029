"""Error codes as docs/errors.md has them: the page is the one list, and tests/test_docs.py holds the code to it."""

import re
from functools import cache
from typing import NamedTuple

from django.conf import settings

from batches.api.openapi.shapes import Shape, ref
from tenants.errors import Refused

REQUESTS, BATCHES, LINES = "Answers to requests", "Errors of a batch", "Errors of a line"
NO_STATUS = 0  # of `invalid_request`, whose status is the framework's

_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


class Code(NamedTuple):
    """A code, the status it comes with (where it answers a request), and why."""

    code: str
    status: int
    cause: str


@cache
def documented(section: str) -> dict[str, Code]:
    """The codes in a section's table: `| code | (status |) cause | cure |`."""
    page = (settings.BASE_DIR / "docs" / "errors.md").read_text(encoding="utf-8")
    found = {}
    for row in page.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if match := re.fullmatch("`([a-z_]+)`", cells[0]):
            if match[1] in found:
                raise LookupError(f"docs/errors.md has {match[1]} twice")
            status = cells[1] if section == REQUESTS else ""
            found[match[1]] = Code(
                match[1], int(status) if status.isdigit() else NO_STATUS, _LINK.sub(r"\1", cells[-2])
            )
    return found


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
