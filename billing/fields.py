"""A column for sums of money, and sums of it."""

from typing import Any

from django.db import models
from django.db.models import Sum

_PART = 10**9  # by which SQLite's sums are cut: neither half of one overflows


class PicoField(models.BigIntegerField):  # type: ignore[type-arg]  # generic in the stubs alone
    """Whole pico-USD of any size: NUMERIC on PostgreSQL, a 64-bit integer on SQLite (9.2 million USD).

    Not a DecimalField: on SQLite Django reads one back to 15 digits, and money would change above 1,000 USD.
    """

    def db_type(self, connection: Any) -> str | None:
        return "numeric(38, 0)" if connection.vendor == "postgresql" else super().db_type(connection)

    def from_db_value(self, value: Any, *_: Any) -> int | None:
        return None if value is None else int(value)


class Total(Sum):
    """The sum of a PicoField, exact however large: on SQLite, where a sum beyond 64 bits is an error, of two halves."""

    def __init__(self, expression: str, **extra: Any) -> None:
        super().__init__(expression, output_field=PicoField(), **extra)

    def convert_value(self, value: Any, *_: Any) -> int | None:
        if isinstance(value, str):
            high, low = map(int, value.split())
            return high * _PART + low
        return None if value is None else int(value)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        high, given = self._part(f"SUM(%(expressions)s / {_PART})", compiler, connection)
        low, again = self._part(f"SUM(%(expressions)s - %(expressions)s / {_PART} * {_PART})", compiler, connection)
        return f"({high} || ' ' || {low})", (*given, *again)

    def _part(self, template: str, compiler: Any, connection: Any) -> Any:
        part = self.copy()
        part.template = template
        return part.as_sql(compiler, connection)
