"""Form fields and queries of the API: known, sent once, and read with the cure for what is wrong."""

import json
from collections.abc import Mapping
from typing import Any

from django.utils.datastructures import MultiValueDict
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser, FormParser, MultiPartParser
from rest_framework.request import Request

from batches.core import caps
from billing import money
from tenants.errors import Refused

CAPS = (caps.MAX_COST, caps.MAX_ERROR_RATE)
NAME_SHOWN = 64  # characters
SHORTEST, LONGEST = 3600, 30 * 24 * 3600  # seconds that a file may be asked to be kept


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


class JSONFields(BaseParser):
    """A JSON object as fields, so that a key that stands twice is seen."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> MultiValueDict[str, Any]:
        fields: MultiValueDict[str, Any] = MultiValueDict()
        try:
            pairs = json.loads(stream.read(), object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            raise ParseError from None
        if not isinstance(pairs, _Pairs):
            raise ParseError
        for name, value in pairs:
            fields.appendlist(name, value)
        return fields


class _Pairs(list[tuple[str, Any]]):
    """An object's members, as they stand."""


PARSERS = [JSONFields, FormParser, MultiPartParser]  # of a small body that may as well be empty


def body(request: Request, *known: str) -> dict[str, Any]:
    """The fields of a form or JSON object, none of an empty body. A form's `null` is JSON's."""
    try:
        fields = request.data
    except UnsupportedMediaType:
        raise Refused(415, "unsupported_media_type", "Send a form or a JSON object.") from None
    if not isinstance(fields, MultiValueDict):
        return {}
    only(fields, set(known))
    return {name: None if value == "null" else value for name, value in fields.items()}


def plain(value: Any, name: str) -> Any:
    """A field that is a JSON object, as a dict. Raises Refused 400 where a key of it stands twice."""
    if not isinstance(value, _Pairs):
        return value
    found = dict(value)
    if len(found) < len(value):
        raise Refused(400, "duplicate_parameter", f"A key of {name} stands twice: send it once.", param=name)
    return found


def read_expiry(given: Any, name: str) -> int:
    """Seconds of {"anchor": "created_at", "seconds": …}, an hour to thirty days; a form's are digits."""
    if not isinstance(given, dict) or set(given) != {"anchor", "seconds"} or given["anchor"] != "created_at":
        message = f"{name} must have anchor, which is created_at, and seconds."
        raise Refused(400, "invalid_expiry", message, param=name)
    seconds = given["seconds"]
    if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit() and len(seconds) < 10:
        seconds = int(seconds)
    if isinstance(seconds, float) and seconds.is_integer():
        seconds = int(seconds)  # 7200.0 is as whole as 7200
    if type(seconds) is not int or not SHORTEST <= seconds <= LONGEST:
        message = f"{name}: seconds must be a whole number from {SHORTEST} to {LONGEST}."
        raise Refused(400, "invalid_expiry", message, param=name)
    return seconds


def unsupported(name: Any) -> Refused:
    """The refusal of a field, query or header by its name."""
    shown = str(name)[:NAME_SHOWN].encode(errors="replace").decode()  # JSON may name a lone surrogate
    return Refused(400, "unsupported_parameter", f"{shown} is not supported: leave it out.", param=shown)


def read_caps(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The batch's columns of the caps that `fields` names; None is no cap."""
    readers = {caps.MAX_COST: ("max_cost", _max_cost), caps.MAX_ERROR_RATE: ("max_error_rate", _max_error_rate)}
    named = {name: reader for name, reader in readers.items() if name in fields}
    return {column: None if fields[name] is None else read(fields[name]) for name, (column, read) in named.items()}


def _max_cost(value: Any) -> int:
    """Pico-USD. Only of text: a JSON number may have been rounded on its way."""
    if not isinstance(value, str):
        message = f'{caps.MAX_COST}: send USD as a string, such as "12.50".'
        raise Refused(400, "invalid_max_cost", message, param=caps.MAX_COST)
    try:
        return money.amount(value)
    except ValueError as error:
        raise Refused(400, "invalid_max_cost", f"{caps.MAX_COST}: {error}", param=caps.MAX_COST) from None


def _max_error_rate(value: Any) -> float:
    try:
        return caps.error_rate(value)
    except ValueError as error:
        message = f"{caps.MAX_ERROR_RATE}: {error}"
        raise Refused(400, "invalid_max_error_rate", message, param=caps.MAX_ERROR_RATE) from None
