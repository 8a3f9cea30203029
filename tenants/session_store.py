"""Sessions in the database under a digest of their key: who reads a copy of the database comes into none.

A key has 165 random bits, so that its plain digest can't be guessed back.
"""

import hashlib
from typing import Any

from django.contrib.sessions.backends import db
from django.utils import timezone


def digest(key: str) -> str:
    """As the database knows the session of this key: 160 bits of SHA-256, hex, which is what the column holds."""
    return hashlib.sha256(key.encode(errors="replace")).hexdigest()[:40]


class SessionStore(db.SessionStore):
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
