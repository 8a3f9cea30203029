from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("batches", "0019_found_by_staff"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="batch",
            index=models.Index(
                fields=["ended_at", "sla_met"], name="batch_kept", condition=models.Q(("sla_met__isnull", False))
            ),
        ),
    ]
