"""API keys: how one is made, recognised without a query, found, replaced, and revoked.

A key is `pk-prov-` + 28 base62 characters (166 random bits) + 6 base62 characters of checksum.
The checksum refuses typing errors and probes before the database is asked; it is no secret.

    live -> ending (rotated with an overlap, or made for some days) -> expired
      '----------'--> revoked, for good

An end only ever moves earlier: nothing revives a key.
"""

import hashlib
import logging
import secrets
import string
from datetime import datetime, timedelta
from uuid import UUID

from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Coalesce, Least
from django.utils import timezone

from tenants import admission, trail
from tenants.errors import Refused
from tenants.models import ApiKey, Tenant

log = logging.getLogger(__name__)

PREFIX = "pk-prov-"
ALPHABET = string.digits + string.ascii_letters
RANDOM_LENGTH, CHECK_LENGTH, SHOWN_LENGTH = 28, 6, 8
LENGTH = len(PREFIX) + RANDOM_LENGTH + CHECK_LENGTH
SCOPES = ("batch:read", "batch:write")
LAST_USED_GRAIN = timedelta(minutes=1)
NAME_LENGTH = 100
LONGEST = timedelta(days=36_500)  # that a key may live
LONGEST_OVERLAP = timedelta(days=7)
MAX_LIVE = 100  # of a tenant


class MadeBefore(Exception):
    """The form that asks for a key was sent before, and made `row`: its text can't be shown again."""

    def __init__(self, row: ApiKey) -> None:
        super().__init__(row.prefix)
        self.row = row


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
    tenant: Tenant,
    name: str = "default",
    scopes: tuple[str, ...] = SCOPES,
    expires_at: datetime | None = None,
    once: UUID | None = None,
) -> tuple[ApiKey, str]:
    """The row of a new key and the key, which can't be read again. The product makes keys by `issue` and `rotate`."""
    key = generate()
    row = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        prefix=key[: len(PREFIX) + SHOWN_LENGTH],
        digest=digest(key),
        scopes=" ".join(scopes),
        expires_at=expires_at,
        once=once,
    )
    return row, key


def issue(
    tenant: Tenant,
    actor: str,
    name: str = "default",
    scopes: tuple[str, ...] = SCOPES,
    expires_at: datetime | None = None,
    once: UUID | None = None,
) -> tuple[ApiKey, str]:
    """A new key, on the trail. `once` names the form that asks for it.

    Raises Refused 400 for a bad name or when there are enough keys, MadeBefore when the form was sent before.
    """
    if not 0 < len(name.strip()) <= len(name) <= NAME_LENGTH or not name.isprintable():
        message = f"A key's name has 1 to {NAME_LENGTH} printable characters."
        raise Refused(400, "invalid_name", message, param="name")
    with transaction.atomic():
        admission.lock(tenant.pk)
        earlier = ApiKey.objects.filter(tenant=tenant, once=once).first() if once else None
        if earlier is not None:
            raise MadeBefore(earlier)
        row, key = create(tenant, name, scopes, expires_at, once)
        _check_room(tenant)
        ends = expires_at.isoformat(timespec="seconds") if expires_at else None
        trail.record(tenant, actor, "key.created", row.prefix, name=name, scopes=list(scopes), expires=ends)
    return row, key


def rotate(former: ApiKey, actor: str, overlap: timedelta) -> tuple[ApiKey, str]:
    """A key that takes the place of `former`, which ends after `overlap`, unless it ends before.

    It has the same name, scopes and length of life. Raises Refused 409 when `former` has a successor or has ended.
    """
    now = timezone.now()
    end = now + overlap
    earlier = Least(Coalesce("expires_at", Value(end)), Value(end))
    with transaction.atomic():
        tenant = admission.lock(former.tenant_id)
        if not _rotatable(former, now).update(rotated_at=now, expires_at=earlier):
            message = "This key has ended, or another took its place already. Rotate that one, or make a new key."
            raise Refused(409, "key_not_rotatable", message)
        lives = former.expires_at - former.created_at if former.expires_at else None
        row, key = create(tenant, former.name, tuple(former.scopes.split()), now + lives if lives else None)
        _check_room(tenant)
        former.refresh_from_db(fields=["expires_at"])
        ends = former.expires_at.isoformat(timespec="seconds") if former.expires_at else None
        trail.record(tenant, actor, "key.rotated", former.prefix, successor=row.prefix, ends=ends)
    return row, key


def _rotatable(former: ApiKey, now: datetime) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(live(now), pk=former.pk, rotated_at=None)


def _check_room(tenant: Tenant) -> None:
    """Under the tenant's lock, after the key that is one too many."""
    if tenant.keys.filter(live(timezone.now())).count() > MAX_LIVE:
        raise Refused(400, "too_many_keys", f"A tenant has at most {MAX_LIVE} live keys. Revoke one first.")


def live(now: datetime) -> Q:
    """Keys that open something."""
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


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


def revoke(prefix: str, actor: str) -> int:
    """Revoke every key whose text begins with `prefix`; returns how many. Seen by the next request."""
    rows = ApiKey.objects.filter(prefix=prefix, revoked_at=None).select_related("tenant")
    return sum(revoke_one(row, actor) for row in rows)


def revoke_one(row: ApiKey, actor: str, **details: str) -> bool:
    """Revoke this key; False when it was revoked before. `details` go with it onto the trail."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(pk=row.pk, revoked_at=None).update(revoked_at=timezone.now()) == 1
        if revoked:
            trail.record(row.tenant, actor, "key.revoked", row.prefix, name=row.name, **details)
    return revoked
