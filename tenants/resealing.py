"""Every sealed value there is: under which key it is, and moved under the first one.

It runs beside a service that works. A column changes by compare-and-set, each value in a transaction of its own; what
somebody wrote meanwhile stays. Data of a second step is changed under its row's lock, as a recovery code is used up.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from allauth.mfa.models import Authenticator
from django.apps import apps
from django.db import transaction

from tenants import factors, sealed
from tenants.paging import by_pk
from tenants.sealed import Unopened
from tenants.sealed_field import SealedField

CURRENT, MOVED, LEFT, LOST = "current", "moved", "left", "unopened"


class Found(NamedTuple):
    """A sealed value: where it is, and the place in `sealed.keys` of what opens it, or what to do."""

    where: str
    key: int | None
    cure: str = ""


def check() -> Iterator[Found]:
    """Each value."""
    for field in _fields():
        for row in by_pk(field.model._base_manager.exclude(**{field.name: ""}).only("pk", field.name)):
            value = getattr(row, field.name)
            yield _found(f"{field.model._meta.label} {row.pk} {field.name}", value.purpose, value.stored)
    for step in by_pk(_steps()):
        for value in _secrets(step.data):
            yield _found(f"{Authenticator._meta.label} {step.pk}", factors.SEALED, value)


def rotate() -> Counter[str]:
    """Seal all with the first key. How many were CURRENT, MOVED, LEFT (written meanwhile), LOST (no key opens them)."""
    done: Counter[str] = Counter()
    for field in _fields():
        for row in by_pk(field.model._base_manager.exclude(**{field.name: ""}).only("pk", field.name)):
            done[_moved(field, row)] += 1
    for step in by_pk(_steps().only("pk")):
        done += _step_moved(step.pk)
    return done


def _moved(field: SealedField, row: Any) -> str:
    value = getattr(row, field.name)
    try:
        if sealed.opener(value.purpose, value.stored) == 0:
            return CURRENT
        fresh = sealed.Sealed(value.purpose, sealed.reseal(value.purpose, value.stored))
    except Unopened:
        return LOST
    unchanged = field.model._base_manager.filter(pk=row.pk, **{field.name: value})
    return MOVED if unchanged.update(**{field.name: fresh}) else LEFT


@transaction.atomic
def _step_moved(pk: int) -> Counter[str]:
    step = _steps().select_for_update().filter(pk=pk).first()
    if step is None:
        return Counter()
    done: Counter[str] = Counter()

    def fresh(value: str) -> str:
        try:
            if sealed.opener(factors.SEALED, value) == 0:
                done[CURRENT] += 1
                return value
            done[MOVED] += 1
            return sealed.reseal(factors.SEALED, value)
        except Unopened:
            done[LOST] += 1
            return value

    data = factors.with_secrets(step.data, fresh)
    if data != step.data:
        step.data = data
        step.save(update_fields=["data"])
    return done


def _fields() -> list[SealedField]:
    models = apps.get_models()
    return [field for model in models for field in model._meta.local_fields if isinstance(field, SealedField)]


def _steps() -> Any:
    return Authenticator.objects.filter(type__in=(Authenticator.Type.TOTP, Authenticator.Type.RECOVERY_CODES))


def _secrets(data: dict[str, Any]) -> list[str]:
    found: list[str] = []
    factors.with_secrets(data, lambda value: found.append(value) or value)  # type: ignore[func-returns-value]
    return found


def _found(where: str, purpose: str, value: str) -> Found:
    try:
        return Found(where, sealed.opener(purpose, value))
    except Unopened as error:
        return Found(where, None, error.cure)
