"""Form fields and queries of the API: known, sent once, and read with the cure for what is wrong."""

from collections.abc import Mapping
from typing import Any

from django.utils.datastructures import MultiValueDict
from rest_framework.request import Request

from batches.core import caps
from billing import money
from tenants.errors import Refused

CAPS = (caps.MAX_COST, caps.MAX_ERROR_RATE)
NAME_SHOWN = 64  # characters


def query(request: Request, *known: str) -> None:
    """Refuse a query parameter that is not known."""
    only(request.query_params, set(known))


def only(fields: MultiValueDict[str, Any], known: set[str]) -> None:
    """A field or query that is not known, or stands twice, is refused, never silently ignored."""
    for name, values in fields.lists():
        if name not in known:
            raise unsupported(name)
        if len(values) > 1:
            raise Refused(400, "duplicate_parameter", f"{name} stands {len(values)} times: send it once.", param=name)


def unsupported(name: Any) -> Refused:
    """The refusal of a field, query or header by its name."""
    shown = str(name)[:NAME_SHOWN]
    return Refused(400, "unsupported_parameter", f"{shown} is not supported: leave it out.", param=shown)


def read_caps(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The batch's columns of the caps that `fields` names."""
    columns: dict[str, Any] = {}
    if (cost := fields.get(caps.MAX_COST)) is not None:
        columns["max_cost"] = _max_cost(cost)
    if (rate := fields.get(caps.MAX_ERROR_RATE)) is not None:
        columns["max_error_rate"] = _max_error_rate(rate)
    return columns


def _max_cost(value: Any) -> int:
    """Pico-USD. Only of text: a JSON number may have been rounded on its way."""
    try:
        return money.amount(value if isinstance(value, str) else "")
    except ValueError as error:
        raise Refused(400, "invalid_max_cost", f"{caps.MAX_COST}: {error}", param=caps.MAX_COST) from None


def _max_error_rate(value: Any) -> float:
    try:
        return caps.error_rate(value)
    except ValueError as error:
        message = f"{caps.MAX_ERROR_RATE}: {error}"
        raise Refused(400, "invalid_max_error_rate", message, param=caps.MAX_ERROR_RATE) from None
