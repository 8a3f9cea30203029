"""How long a tenant's files are kept, and how many bytes of them."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [("tenants", "0010_isolation")]

    operations = [
        migrations.AddField(
            "tenant",
            "retention_days",
            models.PositiveSmallIntegerField(
                blank=True,
                help_text="How long its files are kept; blank: 30 days. Fewer days: older files go at once.",
                null=True,
                validators=[MinValueValidator(1), MaxValueValidator(3650)],
            ),
        ),
        migrations.AddField(
            "tenant",
            "storage_limit",
            models.PositiveBigIntegerField(
                blank=True, help_text="Bytes of its files; blank: 107,374,182,400 (100 GiB).", null=True
            ),
        ),
    ]
