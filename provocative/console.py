"""django.contrib.admin, with our site. By itself: it is loaded before any model."""

from django.contrib.admin.apps import AdminConfig


class ConsoleConfig(AdminConfig):
    default_site = "provocative.site.ConsoleSite"
