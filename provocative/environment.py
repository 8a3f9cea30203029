"""Small readers of the environment, and the one secret that is made when none is given."""

import os
import secrets
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

FALSE, TRUE = {"", "0", "false", "no", "off"}, {"1", "true", "yes", "on"}


def flag(name: str, default: bool = False) -> bool:
    """A yes/no variable. Raises ImproperlyConfigured on anything else."""
    raw = os.environ.get(name)
    if raw is None:
        return default
    if raw.lower() in TRUE | FALSE:
        return raw.lower() in TRUE
    raise ImproperlyConfigured(f"{name}={raw!r} is neither yes nor no: use 1 or 0.")


def number(name: str, default: int, least: int | None = None, most: int | None = None) -> int:
    """A whole number, within bounds where there are any. Raises ImproperlyConfigured on anything else."""
    raw = os.environ.get(name, "")
    try:
        value = int(raw) if raw else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number.") from None
    if (least is not None and value < least) or (most is not None and value > most):
        upper = "up" if most is None else f"to {most}"
        raise ImproperlyConfigured(f"{name}={raw!r} is not from {least} {upper}.")
    return value


def choice(name: str, *known: str) -> str:
    """One of the known words, the first where nothing is said. Raises ImproperlyConfigured on anything else."""
    value = os.environ.get(name) or known[0]
    if value not in known:
        raise ImproperlyConfigured(f"{name}={value!r} is neither {' nor '.join(known)}.")
    return value


def dsn(name: str) -> str:
    """Where a Sentry is; "" for none. Raises ImproperlyConfigured on any other address, without quoting its key."""
    value = os.environ.get(name, "")
    parts = urlsplit(value)
    known = parts.scheme in ("http", "https") and parts.username and parts.hostname
    if value and not (known and parts.path.rpartition("/")[2].isdecimal()):
        raise ImproperlyConfigured(f"{name} is not https://KEY@HOST/NUMBER, as Sentry shows it for a project.")
    return value


def needs(package: str, **values: str) -> None:
    """Raises ImproperlyConfigured when one of these variables is set, and the optional package is not installed."""
    for name, value in values.items():
        if value and not _is_installed(package):
            cure = f"Install it (pip install -r requirements-telemetry.txt), or leave {name} away."
            raise ImproperlyConfigured(f"{name} is set, and the package {package} is missing. {cure}")


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # what it is a part of
        return False


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list, blanks dropped."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def networks(name: str) -> list[IPv4Network | IPv6Network]:
    """A comma-separated list of CIDRs. Raises ImproperlyConfigured on anything else."""
    try:
        return [ip_network(word) for word in words(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}. Write networks as 10.0.0.0/8,fd00::/8.") from None


def secret_key(home: Path) -> str:
    """SECRET_KEY, or the one kept in `home`, made on the first start by whoever comes first."""
    if given := os.environ.get("SECRET_KEY"):
        return given
    path = home / "secret_key"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        draft = home / f".secret_key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text().strip()


def fallbacks(name: str) -> list[str]:
    """Secrets, one a line; on one line with commas between."""
    raw = os.environ.get(name, "")
    parts = raw.splitlines() if "\n" in raw else raw.split(",")
    return [part.strip() for part in parts if part.strip()]


def storage(url: str, folder: Path) -> dict[str, object]:
    """The STORAGES entry for STORAGE_URL: empty is a folder, `s3://KEY:SECRET@BUCKET?endpoint_url=…&region=…` is S3."""
    if not url:
        return {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(folder), "base_url": None},
        }
    from botocore.config import Config  # noqa: PLC0415 - slow to import, and a folder needs none of it

    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.hostname:
        raise ImproperlyConfigured("STORAGE_URL must be s3://KEY:SECRET@BUCKET?endpoint_url=http://…&region=…")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    options = {
        "bucket_name": parts.hostname,
        "access_key": unquote(parts.username or "") or None,
        "secret_key": unquote(parts.password or "") or None,
        "endpoint_url": query.get("endpoint_url"),
        "region_name": query.get("region"),
        "file_overwrite": True,
        # short: a runner's leases wait while it reads; a step or slice that fails so is tried again
        "client_config": Config(
            s3={"addressing_style": "path"}, connect_timeout=3, read_timeout=10, retries={"max_attempts": 2}
        ),
    }
    return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}


def mail(url: str, folder: Path) -> dict[str, object]:
    """Django's settings for EMAIL_URL: empty is a file a mail in `folder`, `smtp://USER:PASSWORD@HOST:PORT` is SMTP
    with STARTTLS, `smtps://` with TLS from the beginning; `smtp+plain://` without, for a relay on this machine."""
    if not url:
        return {"EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend", "EMAIL_FILE_PATH": str(folder)}
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps", "smtp+plain") or not parts.hostname:
        raise ImproperlyConfigured("EMAIL_URL must be smtp://USER:PASSWORD@HOST:PORT, or smtps://… for TLS at once.")
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 587),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": 10,
    }
