"""Django's own checks, those of a deployment included, and ours of settings."""

from collections.abc import Iterator

from django.conf import settings
from django.core import checks

from provocative.doctor.findings import Finding, error, ok, warning

SAID_BY_OTHERS = {"provocative.W002", "tenants.W001"}  # home, role
IF_HTTPS = {"security.W004", "security.W008", "security.W012", "security.W016"}  # `addresses` says it once


def settings_checks() -> Iterator[Finding]:
    messages = checks.run_checks(include_deployment_checks=True)
    left_out = SAID_BY_OTHERS if settings.HTTPS else SAID_BY_OTHERS | IF_HTTPS
    told = [one for one in messages if one.level >= checks.WARNING and not one.is_silenced() and one.id not in left_out]
    for one in told:
        say = error if one.level >= checks.ERROR else warning
        text, hint = (" ".join(str(part).split()) for part in (one.msg, one.hint or ""))
        yield say(f"{one.id}: {text}", hint or f"docs.djangoproject.com/en/5.2/ref/checks explains {one.id}.")
    if not told:
        yield ok("Django's checks, those of a deployment too, have nothing to say.")
