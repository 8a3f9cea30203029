from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("tenants", "0008_lists")]

    operations = [migrations.AlterModelOptions(name="apikey", options={"verbose_name": "API key"})]
