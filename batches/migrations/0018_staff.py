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
        ("batches", "0017_severed"),
        ("billing", "0005_staff"),
        ("tenants", "0007_operators_trail"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("django_q", "0019_alter_task_options_alter_ormq_key_alter_ormq_lock_and_more"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="batch",
            options={
                "permissions": [
                    ("cancel_batch", "Can cancel batches"),
                    ("pause_batch", "Can pause batches, and let them go on"),
                    ("retry_batch", "Can run again what batches did not deliver"),
                    ("raise_batch", "Can raise the priority of batches"),
                    ("break_glass", "Can look at prompts and answers, with a reason"),
                ],
                "verbose_name_plural": "batches",
            },
        ),
        migrations.AlterModelOptions(
            name="webhookdelivery",
            options={
                "permissions": [("replay_webhookdelivery", "Can send webhook events again")],
                "verbose_name_plural": "webhook deliveries",
            },
        ),
        migrations.RunPython(make, remove),
    ]
