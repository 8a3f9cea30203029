from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenants", "0007_operators_trail")]

    operations = [migrations.AlterModelOptions(name="apikey", options={"verbose_name": "API key"})]
