"""Keys of upstreams and secrets of webhooks, sealed. Back again they are text, as long as the keys are there."""

from collections.abc import Callable
from typing import Any

from django.db import migrations
from django.db.models import F, TextField, Value
from django.db.models.functions import Cast

from tenants import sealed
from tenants.sealed_field import SealedField

COLUMNS = (
    ("Upstream", "api_key", "upstream key"),
    ("WebhookEndpoint", "secret", "webhook secret"),
    ("WebhookEndpoint", "previous_secret", "webhook secret"),
)


def seal(apps: Any, schema_editor: Any) -> None:
    """What is sealed already stays: SQLite may have stopped half-way."""
    _change(apps, lambda purpose, text: text if text.startswith(sealed.PREFIX) else sealed.seal(purpose, text))


def unseal(apps: Any, schema_editor: Any) -> None:
    _change(apps, sealed.unseal)
    if schema_editor.connection.vendor == "postgresql":  # what waits for the end is looked at now: tables change next
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _change(apps: Any, change: Callable[[str, str], str]) -> None:
    """Past the field, which would seal what it is given."""
    for model, column, purpose in COLUMNS:
        rows = apps.get_model("batches", model)._base_manager.exclude(**{column: ""})
        for pk, text in list(rows.values_list("pk", Cast(F(column), TextField()))):
            rows.filter(pk=pk).update(**{column: Value(change(purpose, text), TextField())})


class Migration(migrations.Migration):
    dependencies = [("batches", "0016_staff")]

    operations = [
        migrations.AlterField(
            "upstream", "api_key", SealedField(blank=True, default="", max_length=500, purpose="upstream key")
        ),
        migrations.AlterField("webhookendpoint", "secret", SealedField(purpose="webhook secret")),
        migrations.AlterField(
            "webhookendpoint", "previous_secret", SealedField(blank=True, default="", purpose="webhook secret")
        ),
        migrations.RunPython(seal, unseal),
    ]
