"""When a batch's data was deleted on request; operations may do it, of a batch and of a tenant."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations, models

GRANTED = ("erase_batch", "erase_tenant")


def grant(apps: Any, schema_editor: Any) -> None:
    """Permissions come after a migration, by a signal: these are needed in it."""
    for label in ("tenants", "batches"):
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
        config.models_module = None
    found = apps.get_model("auth", "Permission").objects.filter(codename__in=GRANTED)
    if found.count() != len(GRANTED):
        raise LookupError(f"no permission of {GRANTED}")
    apps.get_model("auth", "Group").objects.get(name="operations").permissions.add(*found)


class Migration(migrations.Migration):
    dependencies = [("batches", "0020_retention"), ("tenants", "0012_erased")]

    operations = [
        migrations.AlterModelOptions(
            name="batch",
            options={
                "permissions": [
                    ("cancel_batch", "Can cancel batches"),
                    ("pause_batch", "Can pause batches, and let them go on"),
                    ("retry_batch", "Can run again what batches did not deliver"),
                    ("raise_batch", "Can raise the priority of batches"),
                    ("erase_batch", "Can delete the data of ended batches"),
                    ("break_glass", "Can look at prompts and answers, with a reason"),
                ],
                "verbose_name_plural": "batches",
            },
        ),
        migrations.AddField(
            model_name="batch",
            name="erased_at",
            field=models.DateTimeField(
                blank=True, help_text="When its data was deleted on request.", null=True
            ),
        ),
        migrations.RunPython(grant, migrations.RunPython.noop),
    ]
