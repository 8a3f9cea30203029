"""What staff may do, in three groups, each with the least that its work takes. docs/console.md has them as a table."""

from typing import Any

from django.contrib.auth.management import create_permissions
from django.db import migrations

APPS = ("tenants", "billing", "batches", "django_q")
SEEN_BY_ALL = "tenant auditevent batch usage price upstream"
SEEN = {
    "support": "membership invitation apikey file submission slice segment result manifest signingkey runner permit"
    " webhookendpoint webhookdelivery customer invoice",
    "billing": "manifest customer invoice invoicedentry ledgerentry stripeevent tenantdiscount",
    "operations": "file slice segment result runner permit webhookendpoint webhookdelivery ormq task schedule",
}
DONE = {
    "support": "change_apikey cancel_batch pause_batch retry_batch break_glass change_webhookendpoint"
    " replay_webhookdelivery",
    "billing": "add_price add_tenantdiscount change_customer add_ledgerentry correct_ledgerentry change_invoice",
    "operations": "add_tenant change_tenant add_upstream change_upstream delete_upstream cancel_batch pause_batch"
    " retry_batch raise_batch replay_webhookdelivery",
}


def make(apps: Any, schema_editor: Any) -> None:
    """Permissions come after a migration, by a signal: these are needed in it."""
    for label in APPS:
        config = apps.get_app_config(label)
        config.models_module = True
        create_permissions(config, apps=apps, verbosity=0)
        config.models_module = None
    permissions, groups = apps.get_model("auth", "Permission"), apps.get_model("auth", "Group")
    for name, seen in SEEN.items():
        wanted = {f"view_{model}" for model in f"{SEEN_BY_ALL} {seen}".split()} | set(DONE[name].split())
        found = permissions.objects.filter(content_type__app_label__in=APPS, codename__in=wanted)
        if missing := wanted - {permission.codename for permission in found}:
            raise LookupError(f"no permission {sorted(missing)}")
        groups.objects.get_or_create(name=name)[0].permissions.add(*found)


def remove(apps: Any, schema_editor: Any) -> None:
    apps.get_model("auth", "Group").objects.filter(name__in=SEEN).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("batches", "0015_console"),
        ("billing", "0005_console"),
        ("tenants", "0007_console"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("django_q", "0019_alter_task_options_alter_ormq_key_alter_ormq_lock_and_more"),
    ]

    operations = [
        migrations.RunPython(make, remove),
    ]
