"""Making deleted rows unreadable in the database's own files, as far as the database lets us.

SQLite zeroes what is deleted (`secure_delete`, settings.py), but its write-ahead log has the older pages until it is
emptied. PostgreSQL does it by itself, later: docs/operating.md says when.
"""

import logging

from django.db import connection

log = logging.getLogger(__name__)

PATIENCE, USUAL = 1_000, 30_000  # milliseconds for which readers are waited for


def scrub() -> bool:
    """Empty SQLite's write-ahead log into the database; False when readers were in the way, or inside a transaction:
    the daily task does it then."""
    if connection.vendor != "sqlite":
        return True
    if connection.in_atomic_block:
        return False
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout={PATIENCE}")
        try:
            busy = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        finally:
            cursor.execute(f"PRAGMA busy_timeout={USUAL}")
    if busy:
        log.info("the write-ahead log is being read and was not emptied: the daily task tries again")
    return not busy
