"""The service with less patience, for tests of clients who have too much."""

from provocative import bodies

bodies.GRACE, bodies.LOOK = 0.3, 0.1

from provocative.wsgi import application  # noqa: E402

__all__ = ["application"]
