"""For whom the code works that runs now: nobody (so it begins), one tenant, or everyone.

Managers ask for it (tenants/owned.py), and on PostgreSQL each statement tells it to the database, whose policies show
and take the rows of that tenant alone (tenants/postgres, tenants/policies.py). It is a context variable: a thread
begins as nobody, unless it is run by `carried`.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from enum import Enum
from functools import partial
from typing import Final, TypeVar

SETTING = "provocative.tenant"  # of the database session: a tenant's number, or EVERYONE's value


class Everyone(Enum):
    EVERYONE = "*"


EVERYONE: Final = Everyone.EVERYONE
Scope = int | Everyone | None

_scope: ContextVar[Scope] = ContextVar("scope", default=None)
T = TypeVar("T")


class Unscoped(Exception):
    """Rows of tenants were asked for by code that nobody said for whom it works: a mistake in the code."""


def current() -> Scope:
    """The tenant's number, EVERYONE, or None for nobody."""
    return _scope.get()


def setting() -> str | None:
    """What the database is told; None for nobody."""
    now = _scope.get()
    return None if now is None else str(now.value if isinstance(now, Everyone) else now)


@contextmanager
def _within(scope: Scope) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def tenant(pk: int) -> AbstractContextManager[None]:
    """Within it, the rows of this tenant."""
    return _within(int(pk))


def every() -> AbstractContextManager[None]:
    """Within it, the rows of all tenants. For what belongs to no tenant: keep the block small."""
    return _within(EVERYONE)


def nobody() -> AbstractContextManager[None]:
    """Within it, no tenant's rows, until it is settled whose; whatever it was settled on ends with it."""
    return _within(None)


def settle(pk: int) -> None:
    """From here to the end of the request, the rows of this tenant. Raises Unscoped when it works for another one."""
    _settle(int(pk))


def settle_every() -> None:
    """From here to the end of the request, the rows of all tenants. Raises Unscoped when it works for one tenant."""
    _settle(EVERYONE)


def _settle(scope: Scope) -> None:
    if _scope.get() not in (None, scope):
        raise Unscoped(f"this works for {setting()} already")
    _scope.set(scope)


def carried(function: Callable[..., T]) -> Callable[..., T]:
    """The function, for another thread: it works there for whom we work here."""
    return partial(copy_context().run, function)


def carried_each(pieces: Iterable[T]) -> Iterator[T]:
    """The same pieces; each is made for whom we work here, whoever takes it and when."""
    return _Carried(pieces)


class _Carried(Iterator[T]):
    def __init__(self, pieces: Iterable[T]) -> None:
        self._run, self._pieces = copy_context().run, iter(pieces)

    def __next__(self) -> T:
        return self._run(next, self._pieces)
