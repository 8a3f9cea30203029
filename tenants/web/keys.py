"""A tenant's API keys: seen by all, made, rotated and revoked by members. A key is in the one answer that makes it."""

from datetime import UTC, datetime, time, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tenants import keys
from tenants.errors import Refused
from tenants.models import ApiKey
from tenants.web.access import Role, Seat, seat

PAGE = 50  # of those that have ended
SCOPES = {"read": ("batch:read",), "write": keys.SCOPES}
MAY = {frozenset(scopes.split()): words for scopes, words in (
    ("batch:read batch:write", "read and write"), ("batch:read", "read"), ("batch:write", "write"), ("", "nothing"),
)}  # fmt: skip
LIVES = {"never": "Never", "30": "In 30 days", "90": "In 90 days", "365": "In 365 days", "date": "On a day"}
OVERLAPS = {0: "At once", 1: "In an hour", 24: "In 24 hours", 168: "In 7 days"}
BLANK = {"name": "", "scopes": "write", "expires": "90", "until": ""}


class Row(NamedTuple):
    """A key as the list shows it."""

    key: ApiKey
    may: str
    state: str
    look: str
    replaceable: bool


@require_safe
@seat()
def key_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The live keys, newest first; below them those that have ended, PAGE at a time."""
    now, after = timezone.now(), request.GET.get("after", "")
    rows = ApiKey.objects.filter(tenant=seat.tenant).defer("digest").order_by("-pk")
    ended = rows.exclude(keys.live(now))
    if after:
        ended = ended.filter(pk__lt=_named(seat, after).pk)
    found = list(ended[: PAGE + 1])
    context = {
        "live": [] if after else [_row(key, now) for key in rows.filter(keys.live(now))],
        "ended": [_row(key, now) for key in found[:PAGE]],
        "after": after,
        "next": found[PAGE - 1].prefix if len(found) > PAGE else "",
    }
    return render(request, "keys/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@seat(Role.MEMBER, active=True)
def new(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The form of a new key; its answer shows the key, this once."""
    if request.method != "POST":
        return _form(request, BLANK | {"once": str(uuid4())})
    sent = {name: request.POST.get(name, "") for name in (*BLANK, "once")}
    try:
        made = keys.issue(
            seat.tenant, seat.user.email, sent["name"].strip(), _scopes(sent["scopes"]), _end(sent), _once(sent["once"])
        )
    except keys.MadeBefore as before:
        return render(request, "keys/made_before.html", {"key": before.row}, status=409)
    except Refused as refused:
        return _form(request, sent, refused)
    return _made(request, *made)


@require_http_methods(["GET", "HEAD", "POST"])
@seat(Role.MEMBER, active=True)
def rotate(request: HttpRequest, seat: Seat, prefix: str) -> HttpResponse:
    """Asks how long both keys are to work; its answer shows the new one, this once."""
    former = _named(seat, prefix)
    if request.method != "POST":
        context = {"row": _row(former, timezone.now()), "overlaps": OVERLAPS, "chosen": 24}
        return render(request, "keys/rotate.html", context)
    hours = request.POST.get("overlap", "")
    if hours not in map(str, OVERLAPS):
        raise Refused(400, "invalid_overlap", "Choose when the old key ends.", param="overlap")
    row, key = keys.rotate(former, seat.user.email, timedelta(hours=int(hours)))
    return _made(request, row, key, former)


@require_POST
@seat(Role.MEMBER)
def revoke(request: HttpRequest, seat: Seat, prefix: str) -> HttpResponse:
    """The next request with it is refused."""
    row = _named(seat, prefix)
    if keys.revoke_one(row, seat.user.email):
        messages.success(request, f"Revoked {row.prefix}… ({row.name}): requests with it are refused from now on.")
    else:
        messages.info(request, f"{row.prefix}… was revoked before.")
    return redirect("keys", seat.tenant.public_id)


def _named(seat: Seat, prefix: str) -> ApiKey:
    """The tenant's key of this prefix; a foreign one is unknown."""
    rows = ApiKey.objects.filter(tenant=seat.tenant, prefix=prefix).defer("digest").order_by("-pk")
    row = rows.select_related("tenant").first() if "\x00" not in prefix else None
    if row is None:
        raise Http404
    return row


def _row(key: ApiKey, now: datetime) -> Row:
    state, look = "Live", "good"
    if key.revoked_at is not None:
        state, look = "Revoked", "still"
    elif key.expires_at is not None and key.expires_at <= now:
        state, look = "Rotated" if key.rotated_at else "Expired", "still"
    elif key.rotated_at is not None:
        state, look = "Ending", "waiting"
    may = MAY.get(frozenset(key.scopes.split()), key.scopes)
    return Row(key, may, state, look, replaceable=key.rotated_at is None and look != "still")


def _form(request: HttpRequest, sent: dict[str, str], refused: Refused | None = None) -> HttpResponse:
    tomorrow = timezone.now().date() + timedelta(days=1)
    context = {"sent": sent, "lives": LIVES, "refused": refused, "tomorrow": tomorrow, "longest": keys.NAME_LENGTH}
    return render(request, "keys/new.html", context, status=refused.status if refused else 200)


def _made(request: HttpRequest, row: ApiKey, key: str, former: ApiKey | None = None) -> HttpResponse:
    """The one page that has the key in it; `seat` lets nobody store it."""
    context: dict[str, Any] = {
        "row": _row(row, timezone.now()),
        "text": key,
        "former": former,
        "address": request.build_absolute_uri("/v1"),
    }
    return render(request, "keys/made.html", context)


def _scopes(sent: str) -> tuple[str, ...]:
    if sent not in SCOPES:
        raise Refused(400, "invalid_scopes", "Choose what the key may do.", param="scopes")
    return SCOPES[sent]


def _end(sent: dict[str, str]) -> datetime | None:
    """When the key ends: after some days, or with a day (UTC)."""
    now, chosen = timezone.now(), sent["expires"]
    if chosen not in LIVES:
        raise Refused(400, "invalid_expiry", "Choose when the key ends.", param="expires")
    if chosen != "date":
        return None if chosen == "never" else now + timedelta(days=int(chosen))
    try:
        end = datetime.combine(datetime.strptime(sent["until"], "%Y-%m-%d").replace(tzinfo=UTC), time.max, UTC)
    except ValueError:
        raise Refused(400, "invalid_expiry", "Write the last day as 2027-01-31.", param="until") from None
    if not now < end <= now + keys.LONGEST:
        raise Refused(400, "invalid_expiry", "Choose a day from today on, within 100 years.", param="until")
    return end.replace(microsecond=0)


def _once(sent: str) -> UUID:
    try:
        return UUID(sent)
    except ValueError:
        raise Refused(400, "malformed_request", "Load this page anew and send the form again.") from None
