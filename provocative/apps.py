"""The app, and what its settings should be."""

import importlib
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from provocative import logs

OTHERS = 0o077  # what the mode of a folder lets everybody else do


class ProvocativeConfig(AppConfig):
    name = "provocative"

    def ready(self) -> None:
        logs.take_over()
        if settings.OTEL_ENDPOINT:
            importlib.import_module("provocative.tracing").start()
        checks.register(check_debug)
        checks.register(check_home)


def check_debug(**_: Any) -> list[checks.CheckMessage]:
    """Django's pages of errors show the values of variables: prompts, rows, whatever was being worked on."""
    if not settings.DEBUG:
        return []
    hint = "Never with anybody's data: leave DEBUG away."
    message = "DEBUG is on: pages of errors show what was being worked on, to whoever asks."
    return [checks.Warning(message, hint=hint, id="provocative.W001")]


def check_home(**_: Any) -> list[checks.CheckMessage]:
    """Everything in it is; a folder that was there before is not changed."""
    if not settings.HOME.stat().st_mode & OTHERS:
        return []
    hint = f"chmod 700 {settings.HOME}"
    return [checks.Warning("Others on this machine may look into PROVOCATIVE_HOME.", hint=hint, id="provocative.W002")]
