"""`/healthz`: this process answers. `/readyz`: what it stands on answers too."""

import os
import secrets

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from provocative.preparing import missing_migrations
from tenants import holding


@csrf_exempt
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


@csrf_exempt
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when the database is migrated and the storage takes a write, else 503 naming what does not answer. A service
    that holds is ready: who reads is answered. It says so in `held`.

    503 `draining` as soon as a stop was asked for: all else is answered as ever until it comes.
    """
    if settings.LEAVING and os.path.exists(settings.LEAVING):
        leaving = JsonResponse({"status": "draining"}, status=503)
        leaving._has_been_logged = True  # type: ignore[attr-defined]  # Django's: else an ERROR for each probe of a stop
        return leaving
    checks = {"database": _database, "storage": storage}
    failed = {name: reason for name, check in checks.items() if (reason := _reason(check))}
    if failed:
        return JsonResponse({"status": "unavailable", **failed}, status=503)
    held = holding.held()
    return JsonResponse({"status": "ok", **({"held": held.why} if held else {})})


def _reason(check: object) -> str:
    try:
        return check() or ""  # type: ignore[operator]
    except Exception as error:
        return type(error).__name__


def _database() -> str:
    return "migrations are missing" if missing_migrations() else ""


def storage() -> str:
    """Write a small object and delete it; what is wrong. Raises whatever the storage does."""
    key = default_storage.save(f"ready/{secrets.token_hex(8)}", ContentFile(b"ready"))
    default_storage.delete(key)
    return ""
