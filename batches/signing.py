"""Signatures of manifests: Ed25519, with a key that follows from SECRET_KEY, so that every host signs alike.

Only the public half is stored, and it stays: after SECRET_KEY is changed older manifests are still verified.
docs/decisions/0023-receipts.md
"""

import hashlib
from base64 import b64encode
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from batches.models import SigningKey

PURPOSE = b"provocative batch manifest, ed25519"


@cache
def _key(secret: str) -> Ed25519PrivateKey:
    seed = HKDF(SHA256(), length=32, salt=None, info=PURPOSE).derive(secret.encode())
    return Ed25519PrivateKey.from_private_bytes(seed)


def sign(text: str) -> str:
    """The base64 of the signature of the text's UTF-8 bytes: of the same text and SECRET_KEY the same."""
    return b64encode(_key(settings.SECRET_KEY).sign(text.encode())).decode()


def public_key() -> SigningKey:
    """The row of the key that `sign` uses now."""
    public = _public(settings.SECRET_KEY)
    fresh = {"public_key": b64encode(public).decode()}
    return SigningKey.objects.get_or_create(key_id=key_id(settings.SECRET_KEY), defaults=fresh)[0]


def key_id(secret: str) -> str:
    """Of the key that follows from a SECRET_KEY."""
    return hashlib.sha256(_public(secret)).hexdigest()[:16]


def _public(secret: str) -> bytes:
    return _key(secret).public_key().public_bytes_raw()
