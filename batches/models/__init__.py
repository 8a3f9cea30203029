"""The job's rows, one room for each reason.

Nothing is written per line before its Result. Everything else here is a plan (Slice), bodies on their way to the
output file (Segment), or can be rebuilt from Results.
"""

from batches.models.engine import Permit, Runner, Slice, Upstream
from batches.models.jobs import Batch, File, batch_id, file_id, secret
from batches.models.receipts import Manifest, SigningKey
from batches.models.results import Result, Segment
from batches.models.submissions import Submission
from batches.models.usage import Usage
from batches.models.webhooks import WebhookDelivery, WebhookEndpoint, endpoint_id, event_id

__all__ = [
    "Batch",
    "File",
    "Manifest",
    "Permit",
    "Result",
    "Runner",
    "Segment",
    "SigningKey",
    "Slice",
    "Submission",
    "Upstream",
    "Usage",
    "WebhookDelivery",
    "WebhookEndpoint",
    "batch_id",
    "endpoint_id",
    "event_id",
    "file_id",
    "secret",
]
