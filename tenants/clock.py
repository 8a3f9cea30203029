"""The clock that leases, deadlines and money are on: the database's, where it has one of its own."""

from datetime import UTC, date, datetime, time

from django.db import connection
from django.utils import timezone


def now() -> datetime:
    """The moment by the database's clock (PostgreSQL), or by this machine's (SQLite: one machine)."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def midnight(day: date) -> datetime:
    """The beginning of a day, UTC."""
    return datetime.combine(day, time(), UTC)
