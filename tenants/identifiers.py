"""Ids that tenants see: random, never sequential."""

import secrets
import string

ALPHABET = string.digits + string.ascii_letters


def public_id(prefix: str) -> str:
    """`prefix` and 24 random letters and digits: 142 bits."""
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(24))
