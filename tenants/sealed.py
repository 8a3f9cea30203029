"""Secrets at rest: Fernet tokens (AES-128-CBC and HMAC-SHA256) in text columns, opened only where they are used.

    sealed.<key id>.<token>     key id: which SECRET_KEY sealed it, 8 hex digits; a hint for operators, not trusted

Keys are derived (HKDF-SHA256) from SECRET_KEY, which seals, and from each of SECRET_KEY_FALLBACKS, which open. A token
is bound to what it is for, its `purpose`: moved to a column of another purpose it does not open. It is not bound to its
row. Empty stays empty. docs/decisions/0036-sealed.md
"""

import hmac
import json
import logging
from base64 import urlsafe_b64encode
from functools import cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

from tenants.errors import Refused

PREFIX = "sealed."
SESSIONS = "session"
_ID = 8  # hex digits of a key's id

log = logging.getLogger(__name__)


class Unopened(Refused):
    """No key opens a value. The message is for whoever asked for it; `cure` is for operators."""

    def __init__(self, cure: str) -> None:
        super().__init__(
            503,
            "secret_unreadable",
            "A secret that is kept here can't be opened now. Tell the operator: `manage.py secrets check` says why.",
            headers={"Retry-After": "60"},
        )
        self.cure = cure


def keys() -> tuple[str, ...]:
    """SECRET_KEY, and those that may have been it before."""
    return (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@cache
def _derived(secret: str, purpose: str) -> bytes:
    info = f"provocative batch sealed: {purpose}".encode()
    return HKDF(SHA256(), length=32, salt=None, info=info).derive(secret.encode())


@cache
def _fernet(secret: str, purpose: str) -> Fernet:
    return Fernet(urlsafe_b64encode(_derived(secret, purpose)))


def key_id(secret: str) -> str:
    """What a SECRET_KEY is called where it must not be shown."""
    return _derived(secret, "key id").hex()[:_ID]


def known_prefixes() -> list[str]:
    """How values begin that the keys of now can open."""
    return [f"{PREFIX}{key_id(secret)}." for secret in keys()]


def seal(purpose: str, text: str) -> str:
    """The text, sealed by the first key, in ASCII; empty stays empty."""
    if not text:
        return ""
    secret = keys()[0]
    return f"{PREFIX}{key_id(secret)}.{_fernet(secret, purpose).encrypt(text.encode()).decode()}"


def unseal(purpose: str, stored: str) -> str:
    """The text. Raises Unopened."""
    if not stored:
        return ""
    try:
        return _all(purpose).decrypt(_token(stored)).decode()
    except InvalidToken:
        raise Unopened(_cure(stored)) from None


def reseal(purpose: str, stored: str) -> str:
    """The same secret, sealed by the first key. Raises Unopened."""
    try:
        token = _all(purpose).rotate(_token(stored)).decode()
    except InvalidToken:
        raise Unopened(_cure(stored)) from None
    return f"{PREFIX}{key_id(keys()[0])}.{token}"


def opener(purpose: str, stored: str) -> int:
    """Which of `keys` opens it, from 0 on. Raises Unopened."""
    for place, secret in enumerate(keys()):
        try:
            _fernet(secret, purpose).decrypt(_token(stored))
        except InvalidToken:
            continue
        return place
    raise Unopened(_cure(stored))


def _all(purpose: str) -> MultiFernet:
    return MultiFernet([_fernet(secret, purpose) for secret in keys()])


def _token(stored: str) -> bytes:
    return (
        stored.removeprefix(PREFIX).partition(".")[2].encode("ascii", "replace") if stored.startswith(PREFIX) else b""
    )


def _cure(stored: str) -> str:
    if not stored.startswith(PREFIX):
        return "it is not sealed: `manage.py migrate` seals what was stored before"
    name = stored.removeprefix(PREFIX).partition(".")[0][:_ID]
    if name in map(key_id, keys()):
        return "it was damaged, or sealed for another column: store it anew"
    return f"it was sealed under the SECRET_KEY with the id {name!r}: add that one to SECRET_KEY_FALLBACKS"


class Sealed:
    """A secret as a column holds it: opened by `open` alone, shown by nothing."""

    __slots__ = ("_plain", "_stored", "purpose")

    def __init__(self, purpose: str, stored: str | None, plain: str | None = None) -> None:
        self.purpose, self._stored, self._plain = purpose, stored, plain

    @property
    def stored(self) -> str:
        """The column's text; sealed once, so that it stays the same."""
        if self._stored is None:
            self._stored = seal(self.purpose, self._plain or "")
        return self._stored

    def open(self) -> str:
        """The secret. 20 µs. Raises Unopened, which it logs."""
        if self._plain is not None:
            return self._plain
        try:
            return unseal(self.purpose, self.stored)
        except Unopened as error:
            log.error("a stored secret (%s) can't be opened: %s", self.purpose, error.cure)
            raise

    def matches(self, other: "Sealed") -> bool:
        """Whether both are the same secret, however often it was sealed; False when one can't be opened."""
        try:
            return self == other or hmac.compare_digest(self.open().encode(), other.open().encode())
        except Unopened:
            return False

    def __bool__(self) -> bool:
        return bool(self._stored if self._plain is None else self._plain)

    def __eq__(self, other: object) -> bool:
        """Of the stored texts: whether nobody has written it since. No text is equal to one: open it."""
        if not isinstance(other, Sealed):
            return NotImplemented
        return (self.purpose, self.stored) == (other.purpose, other.stored)

    def __hash__(self) -> int:
        return hash((self.purpose, self.stored))

    def __repr__(self) -> str:
        return "(sealed)" if self else "(none)"

    def __reduce__(self) -> Any:
        return Sealed, (self.purpose, self.stored)


class SessionSerializer:
    """What a session holds, sealed: the secret of an app that is being set up is in it, and links for new passwords.

    Sessions of before are read as they are: Django has signed them.
    """

    def dumps(self, content: Any) -> bytes:
        return seal(SESSIONS, json.dumps(content, separators=(",", ":"))).encode("ascii")

    def loads(self, data: bytes) -> Any:
        text = data.decode()
        return json.loads(unseal(SESSIONS, text) if text.startswith(PREFIX) else text)
