"""The clock that leases, deadlines and money are on: the database's, where it has one of its own."""

from datetime import UTC, date, datetime, time, timedelta

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


def month() -> date:
    """The first day of the present month, UTC."""
    return now().astimezone(UTC).date().replace(day=1)


def following(month: date) -> date:
    """The first day of the month after the one of that first day."""
    return (month + timedelta(days=31)).replace(day=1)
