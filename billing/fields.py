"""A column for sums of money."""

from typing import Any

from django.db import models


class PicoField(models.BigIntegerField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Whole pico-USD of any size: NUMERIC on PostgreSQL, a 64-bit integer on SQLite (9.2 million USD).

    Not a DecimalField: on SQLite Django reads one back to 15 digits, and money would change above 1,000 USD.
    """

    def db_type(self, connection: Any) -> str | None:
        return "numeric(38, 0)" if connection.vendor == "postgresql" else super().db_type(connection)

    def from_db_value(self, value: Any, *_: Any) -> int | None:
        return None if value is None else int(value)
