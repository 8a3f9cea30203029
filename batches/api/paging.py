"""Lists: a page of rows, newest first, and how to ask for the next."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.errors import Refused

MAX_LIMIT, DEFAULT_LIMIT = 100, 20
MAX_FILES = 10_000  # and the default of their list


def limit(request: Request, most: int = MAX_LIMIT, default: int = DEFAULT_LIMIT) -> int:
    """The query `limit`. Raises Refused 400 outside 1 to `most`."""
    value = request.query_params.get("limit")
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(most)) and 1 <= int(value) <= most):
        raise Refused(400, "invalid_limit", f"limit must be a whole number from 1 to {most}.", param="limit")
    return int(value)


def answer(rows: QuerySet[Any], limit: int, shown: Callable[[Any], dict[str, Any]]) -> Response:
    """The first `limit` of the rows as a list object."""
    page = list(rows[: limit + 1])
    data = [shown(row) for row in page[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return Response({"object": "list", "data": data, **ends, "has_more": len(page) > limit})
