"""Files that had no end get one, 30 days from now: none goes at the upgrade itself."""

from datetime import timedelta
from typing import Any

from django.db import migrations, models
from django.utils import timezone

FROM_NOW = timedelta(days=30)


def end(apps: Any, schema_editor: Any) -> None:
    endless = apps.get_model("batches", "File").objects.filter(expires_at=None, deleted_at=None)
    endless.exclude(storage_key="").update(expires_at=timezone.now() + FROM_NOW)


class Migration(migrations.Migration):

    dependencies = [("batches", "0019_isolation"), ("tenants", "0011_retention")]

    operations = [
        migrations.AddIndex(
            "file", models.Index(condition=models.Q(deleted_at=None), fields=["tenant", "bytes"], name="file_stored")
        ),
        migrations.RunPython(end, migrations.RunPython.noop, elidable=True),
    ]
