"""The WSGI application that the web server loads."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

from provocative.bodies import Body
from provocative.processes import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "provocative.settings")
if os.environ.get("PROVOCATIVE_ROLE") == "web":
    die_with_parent()  # the web server's worker: never outlives the server that `up` started


# The web server hands the environment on with each request, and Django's reports of errors show what they got.
SECRETS = (
    "DATABASE_URL", "STORAGE_URL", "REDIS_URL", "EMAIL_URL", "SECRET_KEY", "SECRET_KEY_FALLBACKS", "STRIPE_API_KEY",
    "STRIPE_WEBHOOK_SECRET", "SENTRY_DSN", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
)  # fmt: skip


def plain_content_type(header: str) -> str:
    """A Content-Type with nothing but its type and a multipart boundary.

    Django decodes fields and queries by any codec that a `charset` names: rot13 raises, punycode is quadratic, utf-7
    makes surrogates. Everything here is UTF-8.
    """
    media, *parameters = header.split(";")
    kept = [item for item in parameters if item.strip().lower().startswith("boundary=")]
    return ";".join([media, *kept])


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    for name in SECRETS:
        environ.pop(name, None)
    if "CONTENT_TYPE" in environ:
        environ["CONTENT_TYPE"] = plain_content_type(environ["CONTENT_TYPE"])
    length = environ.get("CONTENT_LENGTH") or ""
    if length.isdecimal() and length.isascii():  # without one, nothing is read
        environ["wsgi.input"] = Body(environ["wsgi.input"], int(length), environ.get("REMOTE_ADDR", ""))
    return _django(environ, start_response)


_django = get_wsgi_application()
