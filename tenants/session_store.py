"""Sessions in the database under a digest of their key, which end: whoever reads a copy of it comes into none.

A key has 165 random bits, so that its plain digest can't be guessed back.
"""

import hashlib
import time
from typing import Any

from django.contrib.sessions.backends import db
from django.utils import timezone

BEGUN, SEEN = "begun", "seen"  # in a session: when its person signed in, when they did something; unix seconds
LONGEST, IDLE = 14 * 86_400, 3 * 86_400  # seconds


def digest(key: str) -> str:
    """As the database knows the session of this key: 160 bits of SHA-256, hex, which is what the column holds."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()[:40]


class SessionStore(db.SessionStore):
    def load(self) -> dict[str, Any]:
        """What the session holds: nothing when it has lasted too long, or nobody was there for too long."""
        held: dict[str, Any] = super().load()
        now = time.time()
        if now - held.get(BEGUN, now) > LONGEST or now - held.get(SEEN, now) > IDLE:
            self.delete()
            self._session_key = None
            return {}
        return held

    def _get_session_from_db(self) -> Any:
        rows = self.model.objects.filter(session_key=digest(self.session_key or ""), expire_date__gt=timezone.now())
        found = rows.first()
        if found is None:
            self._session_key = None
        return found

    def exists(self, session_key: str) -> bool:
        return bool(self.model.objects.filter(session_key=digest(session_key)).exists())

    def create_model_instance(self, data: Any) -> Any:
        row = super().create_model_instance(data)
        row.session_key = digest(row.session_key)
        return row

    def delete(self, session_key: str | None = None) -> None:
        key = session_key or self.session_key
        if key:
            self.model.objects.filter(session_key=digest(key)).delete()
