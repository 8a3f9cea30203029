"""Error codes as docs/errors.md has them: the page is the one list, and tests/test_docs.py holds the code to it."""

import re
from functools import cache
from typing import NamedTuple

from django.conf import settings

from batches.core import causes

REQUESTS, BATCHES, LINES = "Answers to requests", "Errors of a batch", "Errors of a line"
ANSWERS = "HTTP errors of the upstream"
PAGES = "On the dashboard"  # how the cause begins of what no operation of the API answers
NO_STATUS = 0  # of `invalid_request`, whose status is the framework's

_LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")
_ASIDE = re.compile(r" \(\[[^]]*\]\([^)]*\)\)")  # a link in brackets: nothing without its target
_NAMES = {REQUESTS: "[a-z_]+", BATCHES: "[a-z_]+", LINES: "[a-z_]+", ANSWERS: "[0-9]{3}|[0-9]xx"}


class Code(NamedTuple):
    """A code, the status it comes with (where it answers a request), why, and what to do."""

    code: str
    status: int
    cause: str
    cure: str


@cache
def documented(section: str) -> dict[str, Code]:
    """The codes in a section's table, but for those of PAGES: `| code | (status |) cause | cure |`; of `ANSWERS`
    statuses."""
    page = (settings.BASE_DIR / "docs" / "errors.md").read_text(encoding="utf-8")
    found = {}
    for row in page.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        if (match := re.fullmatch(f"`({_NAMES[section]})`", cells[0])) and not cells[-2].startswith(PAGES):
            if match[1] in found:
                raise LookupError(f"docs/errors.md has {match[1]} twice")
            status = cells[1] if section == REQUESTS else ""
            number = int(status) if status.isdigit() else NO_STATUS
            found[match[1]] = Code(match[1], number, _plain(cells[-2]), _plain(cells[-1]))
    return found


def _plain(cell: str) -> str:
    return _LINK.sub(r"\1", _ASIDE.sub("", cell))


def of_lines() -> dict[str, Code]:
    """The codes that a line can fail with."""
    return {**documented(BATCHES), **documented(LINES)}


def meaning(code: str, status: int | None) -> Code | None:
    """What a line's error means, and what to do: of a code, or of the status of an upstream's answer."""
    if code != causes.UPSTREAM_ERROR:
        return of_lines().get(code)
    answers = documented(ANSWERS)
    return answers.get(str(status)) or answers.get(f"{str(status)[:1]}xx")
