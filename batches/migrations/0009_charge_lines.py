"""What the charges of batches that ended before are made of: from their usage."""

from django.db import migrations

FILL = """
INSERT INTO billing_chargeline
    (entry_id, tenant_id, model, day, requests, input_tokens, cached_tokens, output_tokens, amount)
SELECT e.id, e.tenant_id, u.model, u.day, u.completed, u.input_tokens, u.cached_tokens, u.output_tokens, u.cost
FROM billing_ledgerentry e
JOIN batches_batch b ON b.public_id = e.reference
JOIN batches_usage u ON u.batch_id = b.id
WHERE e.kind = 'batch_charge' AND u.completed > 0
"""


class Migration(migrations.Migration):

    dependencies = [("batches", "0008_webhooks"), ("billing", "0003_append_only")]

    operations = [migrations.RunSQL(FILL, migrations.RunSQL.noop)]
