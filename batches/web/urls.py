"""The pages of a tenant, below t/<tenant_id>/."""

from django.urls import path

from batches.web import (
    acting,
    billing,
    charts,
    digest,
    handing,
    invoices,
    line,
    line_list,
    listing,
    page,
    paying,
    upload,
    usage,
    webhooks,
)
from tenants.web import keys, team, trail

urlpatterns = [
    # the list, and a batch
    path("batches", listing.batch_list, name="batches"),
    path("batches/rows", listing.batch_rows, name="batch_rows"),
    path("batches/<str:batch_id>", page.batch_page, name="batch"),
    path("batches/<str:batch_id>/head", page.batch_head, name="batch_head"),
    path("batches/<str:batch_id>/charts", charts.batch_charts, name="batch_charts"),
    path("batches/<str:batch_id>/output", handing.output, name="batch_output"),
    path("batches/<str:batch_id>/errors", handing.errors, name="batch_errors"),
    path("batches/<str:batch_id>/receipts", handing.receipts, name="batch_receipts"),
    path("batches/<str:batch_id>/manifest", handing.manifest, name="batch_manifest"),
    path("batches/<str:batch_id>/cancel", acting.cancel, name="batch_cancel"),
    path("batches/<str:batch_id>/resume", acting.resume, name="batch_resume"),
    path("batches/<str:batch_id>/retry", acting.retry, name="batch_retry"),
    # a batch's errors and lines
    path("batches/<str:batch_id>/digest", digest.digest, name="digest"),
    path("batches/<str:batch_id>/digest/retry", digest.retry_cause, name="retry_cause"),
    path("batches/<str:batch_id>/lines", line_list.line_list, name="lines"),
    path("batches/<str:batch_id>/lines/<int:line>", line.line, name="line"),
    # a new batch
    path("upload", upload.upload, name="upload"),
    path("upload/report", upload.report, name="report"),
    path("upload/example", upload.example, name="example"),
    path("uploads", upload.receive, name="uploads"),
    path("uploads/<str:file_id>/remove", upload.remove, name="remove_file"),
    # usage and money
    path("usage", usage.usage, name="usage"),
    path("usage.csv", usage.usage_csv, name="usage.csv"),
    path("billing", billing.billing, name="billing"),
    path("billing/prices", billing.prices, name="prices"),
    path("billing/ledger", invoices.ledger, name="ledger"),
    path("billing/invoices/<str:invoice_id>", invoices.invoice, name="invoice"),
    path("billing/invoices/<str:invoice_id>/csv", invoices.invoice_csv, name="invoice.csv"),
    path("billing/invoices/<str:invoice_id>/pdf", invoices.invoice_pdf, name="invoice.pdf"),
    path("billing/payment_method", paying.payment_method, name="payment_method"),
    path("billing/credits", paying.buy, name="credits"),
    path("billing/portal", paying.portal, name="portal"),
    # keys and webhooks
    path("keys", keys.key_list, name="keys"),
    path("keys/new", keys.new, name="key_new"),
    path("keys/<str:prefix>/rotate", keys.rotate, name="key_rotate"),
    path("keys/<str:prefix>/revoke", keys.revoke, name="key_revoke"),
    path("webhooks", webhooks.endpoint_list, name="webhooks"),
    path("webhooks/new", webhooks.new, name="webhook_new"),
    path("webhooks/<str:endpoint_id>", webhooks.endpoint, name="webhook"),
    path("webhooks/<str:endpoint_id>/enabled", webhooks.enabled, name="webhook_enabled"),
    path("webhooks/<str:endpoint_id>/rotate", webhooks.rotate, name="webhook_rotate"),
    path("webhooks/<str:endpoint_id>/test", webhooks.test, name="webhook_test"),
    path("webhooks/<str:endpoint_id>/delete", webhooks.delete, name="webhook_delete"),
    path("webhooks/<str:endpoint_id>/deliveries", webhooks.deliveries, name="deliveries"),
    path("webhooks/<str:endpoint_id>/deliveries/<str:delivery_id>/replay", webhooks.replay, name="delivery_replay"),
    # people and what they did
    path("team", team.people, name="team"),
    path("team/invite", team.invite, name="team_invite"),
    path("team/resend", team.resend, name="team_resend"),
    path("team/take-back", team.take_back, name="team_take_back"),
    path("team/role", team.role, name="team_role"),
    path("team/remove", team.remove, name="team_remove"),
    path("team/leave", team.leave, name="team_leave"),
    path("trail", trail.trail_list, name="trail"),
    path("trail/csv", trail.as_csv, name="trail_csv"),
]
