"""The secrets of second steps, sealed. Back again they are text, as long as the keys are there."""

from collections.abc import Callable
from typing import Any

from django.db import migrations

from tenants import sealed

PURPOSE = "second step"


def seal(apps: Any, schema_editor: Any) -> None:
    """What is sealed already stays."""
    _change(apps, lambda text: text if text.startswith(sealed.PREFIX) else sealed.seal(PURPOSE, text))


def unseal(apps: Any, schema_editor: Any) -> None:
    _change(apps, lambda text: sealed.unseal(PURPOSE, text))


def _change(apps: Any, change: Callable[[str], str]) -> None:
    for row in apps.get_model("mfa", "Authenticator").objects.filter(type__in=("totp", "recovery_codes")):
        for name in ("secret", "seed"):
            if name in row.data:
                row.data[name] = change(row.data[name])
        if "migrated_codes" in row.data:
            row.data["migrated_codes"] = [change(code) for code in row.data["migrated_codes"]]
        row.save(update_fields=["data"])


class Migration(migrations.Migration):
    dependencies = [("tenants", "0007_console"), ("mfa", "0003_authenticator_type_uniq")]

    operations = [migrations.RunPython(seal, unseal)]
