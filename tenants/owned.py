"""Managers of rows that belong to tenants: they give those of whom the code works for (tenants/scope.py).

`_base_manager`, by which Django follows a row to another and saves it, stays plain: on PostgreSQL the policies of
tenants/policies.py stand behind both.
"""

from typing import Any, TypeVar

from django.db import models
from django.db.models import Q, QuerySet

from tenants import scope
from tenants.scope import EVERYONE, Unscoped

M = TypeVar("M", bound=models.Model)


class Owned(models.Manager[M]):
    """Of a model with a `tenant`. Raises Unscoped where nobody said for whom the code works."""

    def get_queryset(self) -> QuerySet[M]:
        now = scope.current()
        if now is None:
            raise Unscoped(f"{self.model.__name__} belongs to tenants: say for whom this works (tenants/scope.py)")
        rows = super().get_queryset()
        return rows if now is EVERYONE else rows.filter(self._of(now))

    def _of(self, tenant: Any) -> Q:
        return Q(tenant_id=tenant)


class Itself(Owned[M]):
    """Of tenants."""

    def _of(self, tenant: Any) -> Q:
        return Q(pk=tenant)


class OwnedOrShared(Owned[M]):
    """Of a model whose rows without a `tenant` are for all of them."""

    def _of(self, tenant: Any) -> Q:
        return Q(tenant_id=tenant) | Q(tenant_id=None)
