"""How a runner begins: none, where as many of its host send as may. Two who look at once don't both find room."""

from django.db import connection, transaction

from batches import identity
from batches.engine import leases
from batches.models import Runner

ENTRY = 7_682_201  # any number, as long as nobody else locks it beside a host's name in this database


class Full(Exception):
    """As many runners of this host send as may."""


def enter(most: int) -> Runner:
    """A row for a runner of this host, of which so many may send. Raises Full."""
    with transaction.atomic():  # on SQLite others wait for its end
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [ENTRY, identity.HOST])
        if leases.live_runners(identity.HOST) >= most:
            raise Full
        return leases.register()
