"""django.contrib.admin, with our site. By itself: it is loaded before any model."""

from typing import Any

from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks

from tenants import scope


class ConsoleConfig(SimpleAdminConfig):
    """Its pages are loaded with the addresses (provocative.urls): runners and commands have none, and start sooner."""

    default_site = "provocative.site.ConsoleSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_pages, checks.Tags.admin)


def load() -> None:
    """Load the pages. Their forms name what staff will choose from: what there is, is asked for later."""
    with scope.every():
        autodiscover()


def check_pages(**options: Any) -> list[checks.CheckMessage]:
    """Django's own check of every page, once they are loaded."""
    load()
    return list(check_admin_app(**options))
