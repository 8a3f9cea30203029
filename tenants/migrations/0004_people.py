from typing import Any

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import tenants.models
from tenants import append_only

TABLE = "tenants_auditevent"


def protect(apps: Any, schema_editor: Any) -> None:
    append_only.protect(schema_editor, TABLE, "it is the trail of what was done")


def unprotect(apps: Any, schema_editor: Any) -> None:
    append_only.unprotect(schema_editor, TABLE)


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0003_tenant_public_id'),
    ]

    operations = [
        migrations.AlterField(
            model_name='tenant',
            name='public_id',
            field=models.CharField(default=tenants.models.tenant_id, help_text="In the pages' addresses.", max_length=40, unique=True),
        ),
        migrations.CreateModel(
            name='AuditEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('actor', models.CharField(help_text="An e-mail address, a key's prefix, or the operator.", max_length=254)),
                ('action', models.CharField(help_text='What was done, such as key.created.', max_length=40)),
                ('target', models.CharField(help_text='To what: an id, a prefix, an e-mail address.', max_length=254)),
                ('details', models.JSONField(default=dict, help_text='Before and after; never a secret or a prompt.')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenants.tenant')),
            ],
            options={
                'indexes': [models.Index(fields=['tenant', '-id'], name='audit_of_tenant')],
            },
        ),
        migrations.CreateModel(
            name='Invitation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('email', models.EmailField(max_length=254, verbose_name='e-mail address')),
                ('role', models.CharField(choices=[('owner', 'Owner'), ('member', 'Member'), ('reader', 'Reader')], default='member', max_length=16)),
                ('digest', models.CharField(help_text="SHA-256 of the link's secret, hex.", max_length=64, unique=True)),
                ('invited_by', models.EmailField(help_text='Who did it.', max_length=254)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('expires_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(blank=True, help_text='When it was accepted, or taken back.', null=True)),
                ('accepted', models.BooleanField(default=False)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='invitations', to='tenants.tenant')),
            ],
            options={
                'constraints': [models.UniqueConstraint(condition=models.Q(('closed_at', None)), fields=('tenant', 'email'), name='one_open_invitation')],
            },
        ),
        migrations.RunPython(protect, unprotect),
    ]
