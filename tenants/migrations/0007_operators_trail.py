"""What staff do to the service itself is on the trail, too: events of no tenant."""

import django.db.models.deletion
from django.db import migrations, models

from tenants import append_only


def protect(apps, schema_editor):
    """SQLite forgets the triggers of a table that Django rebuilds."""
    append_only.protect(schema_editor, "tenants_auditevent", "what was done stays done.")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_key_rotation")]

    operations = [
        migrations.AlterField(
            model_name="auditevent",
            name="tenant",
            field=models.ForeignKey(
                db_index=False, help_text="Null: for staff alone.", null=True,
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant",
            ),
        ),
        migrations.AddIndex(
            model_name="auditevent", index=models.Index(fields=["target", "-id"], name="audit_of_target")
        ),
        migrations.AddIndex(
            model_name="auditevent", index=models.Index(fields=["actor", "-id"], name="audit_of_actor")
        ),
        migrations.RunPython(protect, migrations.RunPython.noop, elidable=False),
    ]
