"""A step that its database leaves in the lurch: it is given back as soon as that answers, and the try is not counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection

from batches import lifecycle, tasks, validation
from batches.core.states import Status
from batches.models import Batch
from tests.conftest import Person
from tests.test_engine import Work, numbered
from tests.witness import Witness

pytestmark = pytest.mark.sqlite_only


@contextmanager
def away(times: int) -> Iterator[list[str]]:
    """A database that answers none of so many statements that give a step back."""
    failed: list[str] = []

    def fail(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if '"step_attempts" - %s' in sql and len(failed) < times:
            failed.append(sql)
            raise OperationalError("server closed the connection unexpectedly")
        return execute(sql, *rest)

    with connection.execute_wrapper(fail):
        yield failed


def lost(*_: object) -> None:
    raise OperationalError("server closed the connection unexpectedly")


def test_a_validation_whose_database_goes_is_no_try(
    owner: Person, witness: Witness, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "DATABASE_PAUSE", 0.01)
    batch = owner.submit(numbered(3)).json()["id"]
    row = Batch.objects.get(public_id=batch)
    with monkeypatch.context() as patched:
        patched.setattr(validation, "_validate", lost)
        for _ in range(2 * lifecycle.MAX_VALIDATIONS):
            Batch.objects.update(step_until=None)
            with away(2) as failed:
                tasks.validate(row.pk)
            assert len(failed) == 2
    row.refresh_from_db()
    assert (row.status, row.step_attempts, row.step_token) == (Status.VALIDATING, 0, "")
    Batch.objects.update(step_until=None)
    work()
    assert owner.batch(batch)["status"] == "completed"
