"""Row-level security on PostgreSQL: see tenants/policies.py."""

from typing import Any

from django.db import migrations

from tenants import policies

TABLES = ("tenants_membership", "tenants_invitation", "tenants_auditevent", "tenants_apikey")


def isolate(apps: Any, schema_editor: Any) -> None:
    policies.isolate(schema_editor, "tenants_tenant", column="id")
    for table in TABLES:
        policies.isolate(schema_editor, table)


def expose(apps: Any, schema_editor: Any) -> None:
    for table in ("tenants_tenant", *TABLES):
        policies.expose(schema_editor, table)


class Migration(migrations.Migration):

    dependencies = [("tenants", "0009_sealed")]

    operations = [migrations.RunPython(isolate, expose)]
