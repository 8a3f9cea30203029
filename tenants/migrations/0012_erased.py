from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenants", "0011_retention")]

    operations = [
        migrations.AlterModelOptions(
            name="tenant",
            options={"permissions": [("erase_tenant", "Can delete all data of tenants, for good")]},
        ),
    ]
