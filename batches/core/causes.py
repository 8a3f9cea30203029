"""Why lines were not delivered, in words that a tenant can send back: a code, or an HTTP status. Pure.

A line that the upstream refused has no code of ours: its cause is the status, such as "429". `upstream_error` stands
for all of them. docs/errors.md has what each means.
"""

import re
from collections.abc import Iterable

from batches.core.rendering import Outcome

UPSTREAM_ERROR = "upstream_error"  # in a row, where its status stands beside it
NEVER_RUN = ("batch_cancelled", "batch_expired")
STATUS = re.compile("[13-9][0-9]{2}")
SEPARATOR = ","

Causes = frozenset[str]


def name(code: str, status: int | None) -> str:
    """The cause of a row: its error code, or the status of an upstream's answer."""
    return str(status) if code == UPSTREAM_ERROR and status is not None else code


def row(cause: str) -> tuple[str, int | None]:
    """The error code and status of rows with this cause; of `upstream_error` the status is any."""
    return (UPSTREAM_ERROR, int(cause)) if STATUS.fullmatch(cause) else (cause, None)


def takes(causes: Causes | None, outcome: Outcome) -> bool:
    """Whether a retry of these causes (None: of all) takes a line with this outcome."""
    if outcome.delivered or causes is None:
        return not outcome.delivered
    if outcome.status is not None:
        return UPSTREAM_ERROR in causes or str(outcome.status) in causes
    return outcome.code in causes


def pack(causes: Causes | None) -> str:
    """As one text, empty for all: what a retry's row remembers."""
    return SEPARATOR.join(sorted(causes or ()))


def unpack(text: str) -> Causes | None:
    """What `pack` took."""
    return frozenset(text.split(SEPARATOR)) if text else None


def unknown(causes: Iterable[str], codes: Iterable[str]) -> list[str]:
    """Those that are neither a status nor one of these codes."""
    known = {UPSTREAM_ERROR, *codes}
    return [cause for cause in causes if cause not in known and not STATUS.fullmatch(cause)]
