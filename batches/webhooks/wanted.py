"""What a tenant asks of an endpoint, read: by the API from JSON or a form, by the pages from a form."""

from collections.abc import Callable
from typing import Any

from batches.core import webhooks
from batches.models import WebhookEndpoint
from batches.webhooks import addresses
from tenants.errors import Refused

COLUMNS = ("url", "name", "event_types")
MAX_NAME = 200  # characters


def columns(sent: dict[str, Any]) -> dict[str, Any]:
    """The endpoint's columns that these fields name: those of COLUMNS, and `enabled`. Raises Refused 400."""
    readers: dict[str, Callable[[Any], tuple[str, Any]]] = {
        "url": lambda url: ("url", addresses.check(url)),
        "name": lambda name: ("name", _name(name)),
        "event_types": lambda kinds: ("event_types", " ".join(event_types(kinds, "event_types"))),
        "enabled": lambda value: ("disabled_reason", _disabled(value)),
    }
    return dict(readers[name](value) for name, value in sent.items())


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or not value.isprintable():
        message = f"name must be a string of at most {MAX_NAME} printable characters."
        raise Refused(400, "invalid_name", message, param="name")
    return value


def event_types(value: Any, param: str) -> list[str]:
    """These, in the order of EVENTS. Raises Refused 400 for none, or another."""
    if not isinstance(value, list) or not value or not all(kind in webhooks.EVENTS for kind in value):
        message = f"{param} must be of these: {', '.join(webhooks.EVENTS)}."
        raise Refused(400, "invalid_event_types", message, param=param)
    return [kind for kind in webhooks.EVENTS if kind in value]


def _disabled(value: Any) -> str:
    wrong = Refused(400, "invalid_enabled", "enabled must be true or false.", param="enabled")
    return "" if flag(value, wrong) else WebhookEndpoint.Disabled.BY_TENANT


def flag(value: Any, wrong: Refused) -> bool:
    """JSON's, or a form's. Raises `wrong`."""
    if isinstance(value, bool):
        return value
    if value not in ("true", "false"):
        raise wrong
    return bool(value == "true")
