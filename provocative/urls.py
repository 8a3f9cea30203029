"""Every address of the service: the API's table of contents."""

from django.contrib import admin
from django.urls import include, path

from batches.api import (
    account,
    batches,
    billing,
    files,
    invoices,
    ledger,
    live,
    native,
    payments,
    preflight,
    receipts,
    reference,
    webhooks,
)
from batches.web import pages
from billing.stripe import webhook
from provocative import console, health
from tenants.web import access, joining, profile

console.load()

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    # the native surface
    path("v1/batch", native.batches),
    path("v1/batch/validate", preflight.upload),
    path("v1/batch/<str:batch_id>", native.batch),
    path("v1/batch/<str:batch_id>/output", native.output),
    path("v1/batch/<str:batch_id>/errors", native.errors),
    path("v1/batch/<str:batch_id>/results", live.results),
    path("v1/batch/<str:batch_id>/receipts", receipts.receipts),
    path("v1/batch/<str:batch_id>/manifest", receipts.manifest),
    path("v1/batch/<str:batch_id>/cancel", native.cancel),
    path("v1/batch/<str:batch_id>/resume", native.resume),
    path("v1/batch/<str:batch_id>/retry", native.retry),
    # the surface of OpenAI's clients
    path("v1/files", files.files),
    path("v1/files/<str:file_id>", files.file),
    path("v1/files/<str:file_id>/content", files.content),
    path("v1/batches", batches.batches),
    path("v1/batches/validate", preflight.named),
    path("v1/batches/<str:batch_id>", batches.batch),
    path("v1/batches/<str:batch_id>/cancel", batches.cancel),
    # the account: both surfaces
    path("v1/models", account.models),
    path("v1/models/<path:model_id>", account.model),
    path("v1/usage", account.usage),
    path("v1/billing", billing.billing),
    path("v1/invoices", invoices.invoices),
    path("v1/invoices/<str:invoice_id>", invoices.invoice),
    path("v1/invoices/<str:invoice_id>/entries", invoices.entries),
    path("v1/invoices/<str:invoice_id>/csv", invoices.csv),
    path("v1/invoices/<str:invoice_id>/pdf", invoices.pdf),
    path("v1/ledger", ledger.entries),
    path("v1/manifest_keys", receipts.keys),
    # webhooks, as OpenAI's SDK manages them; the log is ours
    path("v1/webhook_event_types", webhooks.event_types),
    path("v1/webhook_endpoints", webhooks.endpoints),
    path("v1/webhook_endpoints/<str:endpoint_id>", webhooks.endpoint),
    path("v1/webhook_endpoints/<str:endpoint_id>/rotate_secret", webhooks.rotate_secret),
    path("v1/webhook_endpoints/<str:endpoint_id>/test", webhooks.test),
    path("v1/webhook_endpoints/<str:endpoint_id>/deliveries", webhooks.deliveries),
    path("v1/webhook_endpoints/<str:endpoint_id>/deliveries/<str:delivery_id>/replay", webhooks.replay),
    path("v1/limits", account.limits),
    # payments: pages of Stripe's, and what it tells
    path("v1/billing/checkout", payments.checkout),
    path("v1/billing/portal", payments.portal),
    path("stripe/webhook", webhook.receive),
    # the description of all these
    path("v1/openapi.json", reference.openapi),
    # people
    path("docs/api", pages.api, name="api"),
    path("", access.home, name="home"),
    path("t/<str:tenant_id>/", include("batches.web.urls")),
    path("invitation", joining.invitation, name="invitation"),
    path("invitations/<str:secret>", joining.opened, name="invitation_link"),
    path("account/", profile.page, name="account"),
    path("account/email/", profile.closed, name="account_email"),
    path("account/confirm-email/", profile.closed),
    path("account/confirm-email/<path:rest>", profile.closed),
    path("account/", include("allauth.account.urls")),
    path("account/2fa/", include("allauth.mfa.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "provocative.errors.bad_request"
handler403 = "provocative.errors.forbidden"
handler404 = "provocative.errors.not_found"
handler500 = "provocative.errors.server_error"
