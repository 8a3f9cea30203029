"""What hangs on others' signals."""

from typing import Any

from django.apps import AppConfig


class BatchesConfig(AppConfig):
    name = "batches"

    def ready(self) -> None:
        from tenants import retention  # noqa: PLC0415 - as the next, once models can be loaded

        retention.changed.connect(_shorten, dispatch_uid="shorten")


def _shorten(tenant: Any, **_: Any) -> None:
    from batches import keeping  # noqa: PLC0415

    keeping.shorten(tenant)
