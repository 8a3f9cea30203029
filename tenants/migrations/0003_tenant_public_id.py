from typing import Any

from django.db import migrations, models

import tenants.models


def name_tenants(apps: Any, schema_editor: Any) -> None:
    for tenant in apps.get_model("tenants", "Tenant").objects.only("pk"):
        tenant.public_id = tenants.models.tenant_id()
        tenant.save(update_fields=["public_id"])


class Migration(migrations.Migration):

    dependencies = [("tenants", "0002_limits")]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="public_id",
            field=models.CharField(default="", max_length=40),
        ),
        migrations.RunPython(name_tenants, migrations.RunPython.noop),
    ]
