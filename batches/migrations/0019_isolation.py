"""Row-level security on PostgreSQL: see tenants/policies.py."""

from typing import Any

from django.db import migrations

from tenants import policies

TABLES = (
    "batches_file", "batches_batch", "batches_slice", "batches_segment", "batches_result", "batches_usage",
    "batches_manifest", "batches_submission", "batches_webhookendpoint", "batches_webhookdelivery",
)
SHARED = "batches_upstream"  # those without a tenant serve all


def isolate(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        policies.isolate(schema_editor, table)
    policies.isolate(schema_editor, SHARED, shared=True)


def expose(apps: Any, schema_editor: Any) -> None:
    for table in (*TABLES, SHARED):
        policies.expose(schema_editor, table)


class Migration(migrations.Migration):

    dependencies = [("batches", "0018_sealed"), ("tenants", "0010_isolation")]

    operations = [migrations.RunPython(isolate, expose)]
