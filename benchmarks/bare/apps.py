"""The rooms of the product that the bare project has the rows of, without what hangs on others' signals."""

from django.apps import AppConfig


class Tenants(AppConfig):
    name = "tenants"
