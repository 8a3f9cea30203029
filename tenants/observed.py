"""What is told of work while it is done: to the log for which request, tenant and batch, to traces its steps.

The subject is a context variable, as the scope is (tenants/scope.py): each request's thread and each task has its own.
Nothing of what tenants send belongs here: ids that we made, and numbers.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import NamedTuple

Figure = str | int | float


class Subject(NamedTuple):
    """By public ids; "" where nobody knows."""

    request: str = ""
    tenant: str = ""
    batch: str = ""


NOBODY = Subject()
_subject: ContextVar[Subject] = ContextVar("subject", default=NOBODY)


def subject() -> Subject:
    """What is worked on now."""
    return _subject.get()


def note(**known: str) -> None:
    """From here to the end of the `within` around it, it is this tenant, or batch."""
    _subject.set(_subject.get()._replace(**known))


@contextmanager
def within(**known: str) -> Iterator[None]:
    """Within it, it is this request, tenant or batch. What is raised keeps it: it may be logged further out."""
    token = _subject.set(_subject.get()._replace(**known))
    try:
        yield
    except BaseException as error:
        with suppress(AttributeError):
            if subject_of(error) is None:
                error.subject = _subject.get()  # type: ignore[attr-defined]
        raise
    finally:
        _subject.reset(token)


def subject_of(error: BaseException) -> Subject | None:
    """What was worked on when it was raised."""
    found = getattr(error, "subject", None)
    return found if isinstance(found, Subject) else None


def tell(log: logging.Logger, event: str, **figures: Figure | None) -> None:
    """A line of news at INFO: readable, and with LOG_FORMAT=json each figure by its name."""
    if log.isEnabledFor(logging.INFO):
        known = {name: figure for name, figure in figures.items() if figure is not None}
        text = " ".join(f"{name}={figure}" for name, figure in known.items())
        log.info("%s %s" if text else "%s%s", event, text, extra={"figures": {"event": event, **known}})


class Step(NamedTuple):
    """Something that was done for a batch. Moments are unix seconds."""

    name: str
    batch: str
    began: float
    ended: float
    figures: Mapping[str, Figure]
    failed: str = ""  # the kind of what it raised


Listener = Callable[[Step], None]
_listeners: list[Listener] = []  # none, unless steps are traced: provocative/tracing.py


def listen(listener: Listener) -> None:
    """Have it called with each step from now on."""
    _listeners.append(listener)


def done(name: str, batch: str, began: float, figures: Mapping[str, Figure], failed: str = "") -> None:
    """A step has just ended. The figures are numbers, and words of ours."""
    for listener in _listeners:
        listener(Step(name, batch, began, time.time(), figures, failed))


@contextmanager
def step(name: str, batch: str, tenant: str) -> Iterator[None]:
    """A step of a batch: within it, it is this batch and tenant."""
    began, failed = time.time(), ""
    try:
        with within(batch=batch, tenant=tenant):
            yield
    except BaseException as error:
        failed = type(error).__name__
        raise
    finally:
        done(name, batch, began, {}, failed)
