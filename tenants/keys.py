"""API keys: how one is made, recognised without a query, found, and revoked.

A key is `pk-prov-` + 28 base62 characters (166 random bits) + 6 base62 characters of checksum.
The checksum refuses typing errors and probes before the database is asked; it is no secret.
"""

import hashlib
import logging
import secrets
import string
from datetime import datetime, timedelta

from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from tenants.models import ApiKey, Tenant

log = logging.getLogger(__name__)

PREFIX = "pk-prov-"
ALPHABET = string.digits + string.ascii_letters
RANDOM_LENGTH, CHECK_LENGTH, SHOWN_LENGTH = 28, 6, 8
LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECK_LENGTH
SCOPES = ("batch:read", "batch:write")
LAST_USED_GRAIN = timedelta(minutes=1)


def checksum(body: str) -> str:
    """Six base62 characters of the SHA-256 of `body`."""
    value = int.from_bytes(hashlib.sha256(body.encode()).digest()[:8], "big")
    return "".join(ALPHABET[value // len(ALPHABET) ** place % len(ALPHABET)] for place in range(CHECK_LENGTH))


def generate() -> str:
    """A new key: it exists nowhere else until it is shown."""
    body = PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + checksum(body)


def well_formed(key: str) -> bool:
    """Whether `key` can be one of ours, decided without a query."""
    if len(key) != LENGTH or not key.startswith(PREFIX) or not (key.isascii() and key[len(PREFIX) :].isalnum()):
        return False
    return secrets.compare_digest(checksum(key[:-CHECK_LENGTH]), key[-CHECK_LENGTH:])


def digest(key: str) -> str:
    """What is stored of a key: SHA-256, hex. (166 random bits need no slow hash.)"""
    return hashlib.sha256(key.encode()).hexdigest()


def create(
    tenant: Tenant, name: str = "default", scopes: tuple[str, ...] = SCOPES, expires_at: datetime | None = None
) -> tuple[ApiKey, str]:
    """Store a new key for `tenant`; returns the row and the key, which can't be read again."""
    key = generate()
    row = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        prefix=key[: len(PREFIX) + SHOWN_LENGTH],
        digest=digest(key),
        scopes=" ".join(scopes),
        expires_at=expires_at,
    )
    return row, key


def find(key: str) -> ApiKey | None:
    """The live key's row with its tenant, or None when unknown, revoked or expired. One query, none if malformed."""
    if not well_formed(key):
        return None
    try:
        row = ApiKey.objects.select_related("tenant").get(digest=digest(key))
    except ApiKey.DoesNotExist:
        return None
    expired = row.expires_at is not None and row.expires_at <= timezone.now()
    return None if expired or row.revoked_at is not None else row


def touch(key: ApiKey) -> None:
    """Note the use of a key, at most one write a minute however many requests race."""
    now = timezone.now()
    if key.last_used_at is None or key.last_used_at < now - LAST_USED_GRAIN:
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_GRAIN)
        try:
            ApiKey.objects.filter(stale, pk=key.pk).update(last_used_at=now)
        except DatabaseError as error:  # a full disk must not take reading down with it
            log.warning("the use of key %s could not be noted: %s", key.prefix, type(error).__name__)


def revoke(prefix: str) -> int:
    """Revoke every live key whose text begins with `prefix`; returns how many. Seen by the next request."""
    return ApiKey.objects.filter(prefix=prefix, revoked_at=None).update(revoked_at=timezone.now())
