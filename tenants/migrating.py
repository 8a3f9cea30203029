"""What migrations are made of that runs beside the service: CONTRIBUTING.md says when. Both want `atomic = False`."""

from collections.abc import Callable
from typing import Any

from django.db import migrations, transaction
from django.db.models import QuerySet

PIECE = 1_000  # rows of a transaction


class AddIndexConcurrently(migrations.AddIndex):
    """An index that locks no writer out. May be run again: what a stopped attempt left is dropped."""

    atomic = False

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {schema_editor.quote_name(self.index.name)}")
        schema_editor.add_index(model, self.index, concurrently=True)


class ChangeRows(migrations.RunPython):
    """`change` gets the rows of a model, so many at a time, each piece in a transaction of its own.

    It may get a piece again, and rows that the service writes meanwhile: it looks at each whether it is to be changed.
    """

    def __init__(self, model: str, change: Callable[[QuerySet[Any]], object], size: int = PIECE) -> None:
        self._change, self._size, self._model = change, size, model
        super().__init__(self._forwards, migrations.RunPython.noop, atomic=False)

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__name__, [self._model, self._change, self._size], {}

    def _forwards(self, apps: Any, schema_editor: Any) -> None:
        alias = schema_editor.connection.alias
        rows = apps.get_model(self._model)._base_manager.using(alias).order_by("pk")
        left = rows
        while pks := list(left.values_list("pk", flat=True)[: self._size]):
            with transaction.atomic(alias):
                self._change(rows.filter(pk__gte=pks[0], pk__lte=pks[-1]).order_by())
            left = rows.filter(pk__gt=pks[-1])
