"""SECRET_KEY: the same as that of the others, and able to open what is sealed."""

from collections import Counter
from collections.abc import Iterator

from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import signing

from batches import signing as manifests
from batches.models import Manifest
from provocative.doctor import hosts
from provocative.doctor.findings import Finding, error, ok, warning
from tenants import resealing, sealed
from tenants.session_store import SessionStore

SAMPLED = 20
SAME = "Give every host the same SECRET_KEY; after a change the old one belongs in SECRET_KEY_FALLBACKS."


def secret_key() -> Iterator[Finding]:
    """By what others wrote with theirs: the newest sessions (web hosts), the newest manifests (workers)."""
    rows = Session.objects.order_by("-expire_date").values_list("session_data", flat=True)[:SAMPLED]
    sessions = [_signer(row) for row in rows]
    signers = [*map(manifests.key_id, sealed.keys())]
    newest = Manifest.objects.order_by("-pk").values_list("key__key_id", flat=True)[:SAMPLED]
    signed = [signers.index(name) if name in signers else None for name in newest]
    own = sealed.key_id(settings.SECRET_KEY)
    if None in sessions or None in signed[:1]:
        yield error(f"Others sign by a SECRET_KEY that is not known here (this is {own}).", SAME)
    elif hosts.count() > 1 and _is_made():
        yield warning("Several hosts, and SECRET_KEY is one that this host has made for itself.", SAME)
    elif any(sessions[:1]) or any(signed[:1]):
        yield warning(
            "The newest session or manifest is signed by one of SECRET_KEY_FALLBACKS.", f"{SAME} Then restart."
        )
    else:
        looked = len(sessions) + len(signed)
        told = f"what others signed ({looked} looked at) is signed by it." if looked else "nothing is signed so far."
        yield ok(f"SECRET_KEY is {own}; {told}")


def _is_made() -> bool:
    kept = settings.HOME / "secret_key"
    return bool(kept.exists() and kept.read_text().strip() == settings.SECRET_KEY)


def _signer(stored: str) -> int | None:
    """The place in `sealed.keys` of what signed a session; None: another key."""
    for place, secret in enumerate(sealed.keys()):
        signer = signing.TimestampSigner(key=secret, salt=SessionStore().key_salt, fallback_keys=[])
        try:
            signer.unsign(stored)
        except signing.BadSignature:
            continue
        return place
    return None


def opened() -> Iterator[Finding]:
    """As `secrets check`."""
    found = Counter(one.key for one in resealing.check())
    lost, current = found.pop(None, 0), found.pop(0, 0)
    if lost:
        yield error(f"{lost} sealed secrets can't be opened.", "`manage.py secrets check` names them, with the cure.")
    if older := found.total():
        yield warning(f"{older} secrets are sealed by SECRET_KEY_FALLBACKS.", "`manage.py secrets rotate`")
    if not lost and not older:
        yield ok(f"{current} sealed secrets, all under SECRET_KEY." if current else "Nothing is sealed so far.")
