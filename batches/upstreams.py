"""Upstreams as operators keep them: added, changed, drained, enabled, deleted, by a command or in the console.

Each is on the operators' trail in its own transaction. A key is taken and never shown, there neither.
"""

import socket
from datetime import datetime
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.db.models import Prefetch, QuerySet

from batches import expecting
from batches.core import addresses
from batches.engine import switching
from batches.models import Permit, Upstream
from tenants import clock, trail

ADDRESS_CURE = "write http://HOST:PORT/v1, the address that the server's OpenAI clients use, ending in /v1."
KNOWN = "This model is known at this address already."
TEXTS = ("model", "base_url", "upstream_model")


NO_MODEL_CURE = (
    "this is where a cloud tells a machine its secrets, or a link-local address: no model server is there. "
    "Write an address of the network, or a name."
)
METADATA_NAMES = {"metadata.google.internal", "metadata", "instance-data"}
METADATA_NETWORKS = [ip_network(text) for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")]


class Known(Exception):
    """An upstream of the model is at the address already."""


class InUse(Exception):
    """An upstream can't be deleted yet: why."""


def address(text: str) -> str:
    """A base URL that may be stored. Raises ValueError, with the cure."""
    url = text.rstrip("/")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if valid and _is_metadata(parts.hostname or ""):
        raise ValueError(f"{text!r} can't be an upstream: {NO_MODEL_CURE}")
    valid = valid and addresses.is_authority(parts.netloc)
    if not valid or not url.isprintable() or set(url) & set(" ?#@\\") or not url.endswith("/v1"):  # @: of a password
        raise ValueError(f"{text!r} is no upstream's address: {ADDRESS_CURE}")
    return url


def _is_metadata(host: str) -> bool:
    """Whether it is a cloud's metadata service or link-local, as it is written: what a name leads to, nobody knows."""
    host = host.rstrip(".").partition("%")[0]
    try:
        found = ip_address(host)
    except ValueError:
        try:
            found = ip_address(socket.inet_aton(host))  # 2852039166, 0xa9fea9fe, 169.254.43518
        except (OSError, UnicodeError):
            return host in METADATA_NAMES
    found = (isinstance(found, IPv6Address) and found.ipv4_mapped) or found
    return any(found in network for network in METADATA_NETWORKS)


def is_name(text: str) -> bool:
    """Whether a model may be called this; it goes into lines of logs, and by HTTP."""
    return text.isprintable() and bool(text.strip())


def is_key(text: str) -> bool:
    """Whether it may go in a header; none at all may."""
    return all("!" <= letter <= "~" for letter in text)


def target(pk: int) -> str:
    """What it is called on the trail, whatever becomes of its address."""
    return f"upstream {pk}"


def described(row: Upstream) -> dict[str, Any]:
    """For the trail."""
    return {name: getattr(row, name) for name in TEXTS} | {
        "kind": row.kind,
        "tenant": row.tenant.name if row.tenant else None,
        "max_in_flight": row.max_in_flight,
        "api_key": trail.HIDDEN if row.api_key else None,
    }


def create(row: Upstream, actor: str) -> None:
    """Store a new one. Raises Known."""
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            trail.record(None, actor, "upstream.created", target(row.pk), **trail.differences({}, described(row)))
    except IntegrityError:
        raise Known from None


def change(pk: int, actor: str, changes: dict[str, Any]) -> None:
    """Change these columns of it alone. Raises Known."""
    try:
        with transaction.atomic():
            row = Upstream.objects.select_for_update(no_key=True, of=("self",)).select_related("tenant").get(pk=pk)
            before, key = described(row), row.api_key
            for name, value in changes.items():
                setattr(row, name, value)
            after = described(row)
            if key and row.api_key and not key.matches(row.api_key):
                after["api_key"] = f"another {trail.HIDDEN}"
            if differences := trail.differences(before, after):
                row.save(update_fields=list(changes))
                named = {name: after[name] for name in ("model", "base_url")}
                trail.record(None, actor, "upstream.changed", target(pk), **differences, **named)
    except IntegrityError:
        raise Known from None


def switch(row: Upstream, enabled: bool, actor: str, reason: str = "", now: bool = False) -> bool:
    """Send it nothing new, or again; False when it was so already. What is in flight finishes, or is given up `now`."""
    with transaction.atomic():
        rows = Upstream.objects.select_for_update(no_key=True).filter(pk=row.pk)
        before = rows.values("enabled", "severed").first()
        if not (switching.switch_on(row.pk) if enabled else switching.switch_off(row.pk, now)):
            return False
        changes = trail.differences(before or {}, {"enabled": enabled, "severed": now})
        named = {"model": row.model, "base_url": row.base_url}
        action = "upstream.enabled" if enabled else "upstream.severed" if now else "upstream.drained"
        trail.record(None, actor, action, target(row.pk), **changes, **named, **_because(reason))
    return True


def state(row: Any, now: datetime, in_flight: int) -> str:
    """In a word: on, resting (it failed), draining, cut off (what is in flight is given up), off."""
    if row.enabled:
        return "resting" if expecting.rests(row.cooling_until, now) else "on"
    if in_flight:
        return "cut off" if row.severed else "draining"
    return "off"


def _because(reason: str) -> dict[str, str]:
    return {"reason": reason} if reason else {}


def delete(pk: int, actor: str, reason: str = "") -> None:
    """Remove it; its number stays in results and receipts. Raises InUse.

    Its row is locked before its permits go, as when slots are granted: none is granted meanwhile.
    """
    with transaction.atomic():
        rows = Upstream.objects.select_for_update(of=("self",)).select_related("tenant").filter(pk=pk)
        row = with_permits(rows).first()
        if row is None:
            raise InUse("It is gone already.")
        if why := in_use(row):
            raise InUse(why)
        trail.record(None, actor, "upstream.deleted", target(pk), removed=described(row), **_because(reason))
        row.delete()


def in_use(row: Upstream) -> str | None:
    """Why it can't be deleted; None when it can. The row comes `with_permits`."""
    if row.enabled:
        return "It is on: drain it first."
    return f"{taken} requests may be in flight still." if (taken := slots_taken(row)) else None


def with_permits(rows: QuerySet[Upstream]) -> QuerySet[Upstream]:
    """These rows with the permits of runners that live: one query more, however many they are."""
    live = Permit.objects.filter(runner__lease_until__gt=clock.now()).only("slots", "upstream_id")
    return rows.prefetch_related(Prefetch("permits", live, to_attr="live_permits"))


def slots_taken(row: Any) -> int:
    """Slots that runners hold: no more requests than this are in flight."""
    return sum(permit.slots for permit in row.live_permits)
