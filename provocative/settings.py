"""Every setting, from the environment (README.md has the table). Nothing else in the product reads os.environ."""

import os
from pathlib import Path
from typing import Any

from provocative import environment as env
from provocative.databases import database

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("PROVOCATIVE_HOME", "var")).resolve()
os.umask(0o077)  # of every process: what it writes is for its own user
HOME.mkdir(mode=0o700, parents=True, exist_ok=True)  # prompts and upstream keys are in it

SECRET_KEY = env.secret_key(HOME)
SECRET_KEY_FALLBACKS = env.fallbacks("SECRET_KEY_FALLBACKS")
DEBUG = env.flag("DEBUG")
DEFAULT_EXCEPTION_REPORTER = "provocative.reticence.Report"
DEFAULT_EXCEPTION_REPORTER_FILTER = "provocative.reticence.Reticent"
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS"), "localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "provocative",  # before django_q: its `qcluster` command is ours
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "batches",
    "billing",
    "tenants",
    "provocative.console.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",  # the pages of allauth.mfa
    "rest_framework",
    "drf_spectacular_sidecar",  # Redoc's script
    "django_q",
]
MIDDLEWARE = [
    "provocative.middleware.RequestId",
    "provocative.visits.Told",
    "provocative.middleware.Headers",  # as the next three on every answer, whoever gives it
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "provocative.middleware.Encrypted",
    "provocative.middleware.Scoped",
    "provocative.middleware.RateHeaders",
    "provocative.middleware.BoundedBodies",
    "provocative.middleware.Holding",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "provocative.middleware.RefusedPages",
]
ROOT_URLCONF = "provocative.urls"
WSGI_APPLICATION = "provocative.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "tenants.web.access.seated",
            ]
        },
    }
]

# --- database: SQLite in HOME, or DATABASE_URL ---------------------------------------------------------------------
ROLE = os.environ.get("PROVOCATIVE_ROLE", "")  # set by `up` for its children: web, chores, runners
LEAVING = os.environ.get("PROVOCATIVE_LEAVING", "")  # set by `up` and `web`: a file that is there once they stop
DATABASES = {"default": database(os.environ.get("DATABASE_URL", ""), HOME, ROLE)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- files ---------------------------------------------------------------------------------------------------------
STATIC_URL, STATIC_ROOT = "/static/", HOME / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT.mkdir(exist_ok=True)
STORAGES = {
    "default": env.storage(os.environ.get("STORAGE_URL", ""), HOME / "files"),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
FILE_UPLOAD_PERMISSIONS = 0o600
SPOOL_DIR = HOME / "spool"  # scratch files of validate and finalize; safe to empty when nothing runs
WHITENOISE_USE_FINDERS, WHITENOISE_AUTOREFRESH = True, False

# --- who -----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "tenants.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "account_login", "home", "account_login"
ACCOUNT_ADAPTER = "tenants.web.signing_in.Adapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS, ACCOUNT_SIGNUP_FIELDS = {"email"}, ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"  # an address comes from the operator, or by an invitation that was read there
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # nobody is mailed because a stranger typed an address
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_NOTIFICATIONS = True  # of what was changed in an account
ACCOUNT_REAUTHENTICATION_TIMEOUT, ACCOUNT_REAUTHENTICATION_METHODS = 900, ["password", "mfa"]  # seconds
ACCOUNT_FORMS = {
    "login": "tenants.web.signing_in.Login",
    "change_password": "tenants.web.signing_in.ChangePassword",
    "reset_password": "tenants.web.signing_in.ResetPassword",
    "reset_password_from_key": "tenants.web.signing_in.ResetPasswordKey",
    "reauthenticate": "tenants.web.signing_in.Reauthenticate",
}
ACCOUNT_SESSION_REMEMBER = True
MFA_ADAPTER = "tenants.web.signing_in.MFAAdapter"
MFA_FORMS = {
    "authenticate": "tenants.web.signing_in.Authenticate",
    "reauthenticate": "tenants.web.signing_in.ReauthenticateByCode",
    "activate_totp": "tenants.web.signing_in.ActivateTOTP",
    "add_webauthn": "tenants.web.signing_in.AddWebAuthn",
    "login_webauthn": "tenants.web.signing_in.LoginWebAuthn",
    "authenticate_webauthn": "tenants.web.signing_in.AuthenticateWebAuthn",
    "reauthenticate_webauthn": "tenants.web.signing_in.ReauthenticateWebAuthn",
    "edit_webauthn": "tenants.web.signing_in.EditWebAuthn",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED, MFA_ALLOW_UNVERIFIED_EMAIL = True, True
MFA_TOTP_ISSUER, MFA_TOTP_TOLERANCE = "Provocative Batch", 1
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "tenants.passwords.OfTheService"},
]
# Attempts to sign in are counted here; so many that a flood of addresses pushes no count out.
REDIS_URL = os.environ.get("REDIS_URL", "")
CACHES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}},
}
if REDIS_URL:
    CACHES["default"] |= {
        "BACKEND": "provocative.counts.SharedCounts",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "provocative",
    }
SESSION_ENGINE = "tenants.session_store"
SESSION_SERIALIZER = "tenants.sealed.SessionSerializer"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True  # pages send the token that stands in their forms
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"  # links in mails lead to pages for who is signed in
SECURE_CONTENT_TYPE_NOSNIFF, X_FRAME_OPTIONS = True, "DENY"
HTTPS = env.flag("HTTPS")  # served behind a proxy that terminates TLS
ALLAUTH_TRUSTED_PROXY_COUNT = int(HTTPS)  # whose X-Forwarded-For names the client, for the limits of signing in
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS  # browsers themselves allow it on localhost alone
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
# a balancer asks for its two as it likes; programs are refused: who sends a key in the clear has to notice
SECURE_SSL_REDIRECT, SECURE_REDIRECT_EXEMPT = HTTPS, ["^healthz$", "^readyz$", "^v1/", "^stripe/"]
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
# HSTS for all subdomains, and for ever: they are the operator's to promise, at the proxy
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if HTTPS:
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"  # of no other host, of no subdomain

OURS = "'self'"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": [OURS],
        "style-src": [OURS],
        "img-src": [OURS, "data:"],  # icons in the styles; the QR code of a second factor
        "font-src": [OURS],
        "connect-src": [OURS],
        "form-action": [OURS],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

# --- mail ----------------------------------------------------------------------------------------------------------
# without EMAIL_URL each one is a file in HOME/mail, for the operator to read
globals().update(env.mail(os.environ.get("EMAIL_URL", ""), HOME / "mail"))
DEFAULT_FROM_EMAIL = SERVER_EMAIL = os.environ.get("EMAIL_FROM", "batch@localhost")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.authentication.BearerKey"],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.authentication.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "provocative.errors.IgnoreAccept",
    "EXCEPTION_HANDLER": "provocative.errors.handle",
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_SCHEMA_CLASS": "batches.api.openapi.generator.Described",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Provocative Batch API",
    "VERSION": "1.0",
    "OAS_VERSION": "3.1.1",
    "POSTPROCESSING_HOOKS": ["batches.api.openapi.generator.complete"],
    "SORT_OPERATIONS": False,  # as they stand in urls.py
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # form fields, bytes
FILE_UPLOAD_HANDLERS: list[str] = []  # no page takes a file; POST /v1/batch brings its own handler
WEB_THREADS = 88  # of which requests with a body may hold 48, downloads 24

# --- queue: two clusters on one table (docs/decisions/0002-two-clusters.md) ---------------------------------------
RUNNERS = env.number("PROVOCATIVE_RUNNERS", 2, least=1)
CHORES = env.number("PROVOCATIVE_CHORES", 2, least=1)
RUNNER_SECONDS = 600  # a runner's loop hands over to a successor after this long


def _cluster(workers: int, timeout: int) -> dict[str, int]:
    """queue_limit = workers and bulk = 1 keep prefetching short; retry must outlast a prefetched row's wait."""
    return {
        "workers": workers,
        "queue_limit": workers,
        "bulk": 1,
        "timeout": timeout,
        "retry": timeout * (1 + -(-(workers + 1) // workers)) + 60,
    }


Q_CLUSTER: dict[str, Any] = {
    "name": "chores",
    "orm": "default",
    "poll": 0.1,  # seconds: a batch is rung for three times in its life
    "save_limit": -1,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,
    "recycle": 100,
    "log_level": "WARNING",
    **({"broker_class": "provocative.bells.Bells"} if REDIS_URL else {}),
    **_cluster(CHORES, 900),
    # a runner drains for as long as one attempt may last, after its loop's end, while its successor works already
    "ALT_CLUSTERS": {"runners": {**_cluster(2 * RUNNERS, RUNNER_SECONDS + 900), "recycle": 20, "scheduler": False}},
}

# --- money ---------------------------------------------------------------------------------------------------------
SELLER = os.environ.get("PROVOCATIVE_SELLER", "").replace("\\n", "\n")  # on invoices
SLA_CREDIT_PERCENT = env.number("PROVOCATIVE_SLA_CREDIT_PERCENT", 50, least=0, most=100)

# --- webhooks ------------------------------------------------------------------------------------------------------
STRIPE_API_KEY = os.environ.get("STRIPE_API_KEY", "")  # none: statements alone
STRIPE_API_BASE = os.environ.get("STRIPE_API_BASE", "https://api.stripe.com")
STRIPE_WEBHOOK_SECRET = os.environ.get("STRIPE_WEBHOOK_SECRET", "")
WEBHOOK_NETWORKS = env.networks("PROVOCATIVE_WEBHOOK_NETWORKS")  # of ours, that tenants' webhooks may reach

LANGUAGE_CODE, TIME_ZONE, USE_I18N, USE_TZ = "en-us", "UTC", False, True
FORMAT_MODULE_PATH = "provocative.formats"  # of times in the console

# --- what is told of it all: provocative/logs.py, sentry.py, tracing.py --------------------------------------------
LOG_FORMAT = env.choice("LOG_FORMAT", "text", "json")
SENTRY_DSN = env.dsn("SENTRY_DSN")
OTEL_ENDPOINT = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
OTEL_SERVICE_NAME = os.environ.get("OTEL_SERVICE_NAME") or "provocative-batch"
env.needs("sentry_sdk", SENTRY_DSN=SENTRY_DSN)
env.needs("opentelemetry.exporter.otlp.proto.http", OTEL_EXPORTER_OTLP_ENDPOINT=OTEL_ENDPOINT)
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"told": {"()": "provocative.logs.NotTheMonitors"}, "routes": {"()": "provocative.logs.ByRoute"}},
    "formatters": {"line": {"()": "provocative.logs.formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("LOG_LEVEL", "INFO")},
    "loggers": {
        "django-q": {"level": "WARNING", "filters": ["told"]},
        "httpx": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},  # at DEBUG it writes bodies
        "httpcore": {"level": "WARNING"},  # at DEBUG it writes headers
        "django.security": {"level": "CRITICAL"},  # anybody can send a wrong host, token, cookie or form
        # a refused request is the client's news, not the operator's
        "django.request": {"level": "ERROR", "filters": ["routes"]},
    },
}
if SENTRY_DSN:
    LOGGING["handlers"]["sentry"] = {"class": "provocative.sentry.Events", "level": "ERROR"}
    LOGGING["root"]["handlers"].append("sentry")
