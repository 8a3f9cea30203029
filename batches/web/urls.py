"""The pages of a tenant, below t/<tenant_id>/."""

from django.urls import path

from batches.web import listing

urlpatterns = [
    path("batches", listing.batch_list, name="batches"),
]
