"""Row-level security on PostgreSQL: see tenants/policies.py. Entries on invoices say themselves whose they are."""

from importlib import import_module
from typing import Any

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import OuterRef, Subquery

from tenants import policies

TABLES = (
    "billing_ledgerentry", "billing_chargeline", "billing_customer", "billing_invoice", "billing_invoicedentry",
    "billing_tenantdiscount",
)
append_only = import_module("billing.migrations.0003_append_only")


def fill(apps: Any, schema_editor: Any) -> None:
    entries, invoices = apps.get_model("billing", "InvoicedEntry"), apps.get_model("billing", "Invoice")
    whose = invoices.objects.filter(pk=OuterRef("invoice")).values("tenant")[:1]
    entries.objects.update(tenant=Subquery(whose))
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # or the table can't be altered now


def isolate(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        policies.isolate(schema_editor, table)


def expose(apps: Any, schema_editor: Any) -> None:
    for table in TABLES:
        policies.expose(schema_editor, table)


def column(null: bool) -> models.ForeignKey:
    whose = django.db.models.deletion.PROTECT
    return models.ForeignKey("tenants.tenant", on_delete=whose, related_name="+", db_index=False, null=null)


class Migration(migrations.Migration):

    dependencies = [("billing", "0005_console"), ("tenants", "0010_isolation")]

    operations = [
        migrations.RunPython(append_only.unprotect, append_only.protect),
        migrations.AddField("invoicedentry", "tenant", column(null=True)),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField("invoicedentry", "tenant", column(null=False)),
        migrations.RunPython(append_only.protect, append_only.unprotect),
        migrations.RunPython(isolate, expose),
    ]
