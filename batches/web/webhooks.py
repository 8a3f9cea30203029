"""A tenant's webhook endpoints: seen by all, made and changed by members.

A secret is in the one answer that makes it.
"""

from typing import Any, NamedTuple
from uuid import UUID, uuid4

from django.contrib import messages
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from batches.core import webhooks
from batches.idempotency import Attempt, Replayed
from batches.models import WebhookDelivery, WebhookEndpoint
from batches.web.looks import DELIVERY_ERRORS, DELIVERY_LOOKS
from batches.webhooks import addresses, endpoints, wanted
from tenants import clock
from tenants.errors import Refused
from tenants.web.access import Role, Seat, seat

PAGE = 50
FORM = require_http_methods(["GET", "HEAD", "POST"])
SECRETS = ("secret", "previous_secret")  # which no list selects
SENT_BEFORE = "This form made an endpoint when it was sent first; the answer to that had its secret."
EVENTS = {
    "batch.completed": "A batch has completed",
    "batch.failed": "A batch was not valid",
    "batch.cancelled": "A batch was cancelled",
    "batch.expired": "A batch ran out of its 24 hours",
    webhooks.SPENDING: "Much of the month's spending limit is used",
}


class Row(NamedTuple):
    """An endpoint as the pages show it."""

    endpoint: WebhookEndpoint
    origin: str  # of the URL, without the path that may hold a secret: for readers
    events: list[str]
    state: str
    look: str
    last: "Sent | None"


class Sent(NamedTuple):
    """A delivery as the log shows it."""

    delivery: WebhookDelivery
    what: str
    state: str
    look: str
    outcome: str
    batch: bool
    subject: str
    replayable: bool


@require_safe
@seat()
def endpoint_list(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The tenant's endpoints, newest first, each with what came of its last event."""
    newest = WebhookDelivery.objects.filter(endpoint=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    rows = endpoints.of(seat.tenant).defer(*SECRETS).order_by("-pk").annotate(last=Subquery(newest))
    found: list[Any] = list(rows)
    sent = WebhookDelivery.objects.in_bulk([row.last for row in found if row.last])
    context = {
        "rows": [_row(row, sent.get(row.last)) for row in found],
        "full": len(found) >= endpoints.MAX_ENDPOINTS,
        "most": endpoints.MAX_ENDPOINTS,
    }
    return render(request, "webhooks/list.html", context)


@FORM
@seat(Role.MEMBER, active=True)
def new(request: HttpRequest, seat: Seat) -> HttpResponse:
    """The form of a new endpoint; its answer shows the secret, this once."""
    if request.method != "POST":
        return _form(request, {"events": list(webhooks.EVENTS)})
    sent = _sent(request)
    once = _once(request)
    attempt = Attempt(seat.tenant, None, f"POST {request.path}", key=f"form {once}")
    try:
        with attempt:
            columns = _columns(sent)
            attempt.name(columns)
            made = endpoints.create(attempt, seat.user.email, columns)
    except Replayed as before:
        messages.info(request, SENT_BEFORE)
        return redirect("webhook", seat.tenant.public_id, before.object_id)
    except Refused as refused:
        if refused.code == "idempotency_key_reused":  # sent, gone back to, changed
            messages.info(request, SENT_BEFORE)
            return redirect("webhooks", seat.tenant.public_id)
        return _form(request, sent, refused, once=once)
    return render(request, "webhooks/secret.html", {"row": _row(made), "text": made.secret.open(), "made": True})


@FORM
@seat()
def endpoint(request: HttpRequest, seat: Seat, endpoint_id: str) -> HttpResponse:
    """One endpoint, and the form that changes it."""
    found = endpoints.named(seat.tenant, endpoint_id)
    if request.method != "POST":
        return _form(request, _kept(found), found=found)
    if not seat.writes:
        raise Refused(403, "role_insufficient", f"This takes a member or an owner of {seat.tenant.name}. Ask one.")
    seat.check_active()
    sent = _sent(request)
    try:
        endpoints.update(found, seat.user.email, _columns(sent))
    except Refused as refused:
        return _form(request, sent, refused, found=found)
    messages.success(request, "Saved: what happens from now on is sent so.")
    return redirect("webhook", seat.tenant.public_id, endpoint_id)


@require_POST
@seat(Role.MEMBER, active=True)
def enabled(request: HttpRequest, seat: Seat, endpoint_id: str) -> HttpResponse:
    """Enable or disable it."""
    found = endpoints.named(seat.tenant, endpoint_id)
    columns = wanted.columns({"enabled": request.POST.get("enabled", "")})
    endpoints.update(found, seat.user.email, columns)
    words = "Disabled: what happens meanwhile is not sent." if columns["disabled_reason"] else "Enabled."
    messages.success(request, words)
    return redirect("webhook", seat.tenant.public_id, endpoint_id)


@FORM
@seat(Role.MEMBER, active=True)
def rotate(request: HttpRequest, seat: Seat, endpoint_id: str) -> HttpResponse:
    """Asks whether both secrets are to sign for a day; its answer shows the new one, this once."""
    found = endpoints.named(seat.tenant, endpoint_id)
    context: dict[str, Any] = {"row": _row(found), "rotating": _is_rotating(found)}
    if request.method != "POST":
        return render(request, "webhooks/rotate.html", context)
    overlap = request.POST.get("overlap", "")
    keep = wanted.flag(overlap, Refused(400, "invalid_overlap", "Choose when the old secret ends.", param="overlap"))
    try:
        text = endpoints.rotate(found, seat.user.email, keep)
    except Refused as refused:
        return render(request, "webhooks/rotate.html", context | {"refused": refused}, status=refused.status)
    return render(request, "webhooks/secret.html", context | {"text": text, "kept": keep})


@require_POST
@seat(Role.MEMBER, active=True)
def test(request: HttpRequest, seat: Seat, endpoint_id: str) -> HttpResponse:
    """Post a sample event there, and say what came of it."""
    found = endpoints.named(seat.tenant, endpoint_id)
    (kind,) = wanted.event_types([request.POST.get("event_type", "")], "event_type")
    outcome = endpoints.try_out(found, kind)
    if outcome.error:
        level, end = messages.ERROR, _outcome(outcome.status, outcome.error)
    else:
        level, end = messages.SUCCESS, f"Your server answered {outcome.status}."
    messages.add_message(request, level, f"Sample of {kind}: {end}")
    return redirect("webhook", seat.tenant.public_id, endpoint_id)


@require_POST
@seat(Role.MEMBER, active=True)
def delete(request: HttpRequest, seat: Seat, endpoint_id: str) -> HttpResponse:
    """Remove it with its log."""
    endpoints.delete(endpoints.named(seat.tenant, endpoint_id), seat.user.email)
    messages.success(request, f"Deleted {endpoint_id} and its log: nothing is sent there any more.")
    return redirect("webhooks", seat.tenant.public_id)


@require_safe
@seat()
def deliveries(request: HttpRequest, seat: Seat, endpoint_id: str) -> HttpResponse:
    """What was sent there, newest first, PAGE at a time, and what became of it."""
    found = endpoints.named(seat.tenant, endpoint_id)
    rows, after = found.deliveries.order_by("-pk"), request.GET.get("after", "")
    if after:
        rows = rows.filter(pk__lt=endpoints.delivery(found, after).pk)
    page, now = list(rows[: PAGE + 1]), clock.now()
    context = {
        "row": _row(found),
        "sent": [_delivered(each, found, now) for each in page[:PAGE]],
        "after": after,
        "next": page[PAGE - 1].event_id if len(page) > PAGE else "",
    }
    return render(request, "webhooks/deliveries.html", context)


@require_POST
@seat(Role.MEMBER, active=True)
def replay(request: HttpRequest, seat: Seat, endpoint_id: str, delivery_id: str) -> HttpResponse:
    """Send an event again."""
    found = endpoints.named(seat.tenant, endpoint_id)
    try:
        endpoints.replay(found, seat.user.email, endpoints.delivery(found, delivery_id))
        messages.success(request, f"{delivery_id} is sent again, with the same id.")
    except Refused as refused:
        if refused.status != 409:
            raise
        messages.error(request, refused.message)
    return redirect("deliveries", seat.tenant.public_id, endpoint_id)


def _once(request: HttpRequest) -> str:
    """What names the form: sent twice, it makes one endpoint."""
    try:
        return str(UUID(request.POST.get("once", "")))
    except ValueError:
        raise Refused(400, "malformed_request", "Load this page anew and send the form again.") from None


def _sent(request: HttpRequest) -> dict[str, Any]:
    post = request.POST
    return {"url": post.get("url", "").strip(), "name": post.get("name", ""), "events": post.getlist("events")}


def _kept(found: WebhookEndpoint) -> dict[str, Any]:
    return {"url": found.url, "name": found.name, "events": found.event_types.split()}


def _columns(sent: dict[str, Any]) -> dict[str, Any]:
    return wanted.columns({"url": sent["url"], "name": sent["name"].strip(), "event_types": sent["events"]})


def _form(
    request: HttpRequest,
    sent: dict[str, Any],
    refused: Refused | None = None,
    found: WebhookEndpoint | None = None,
    once: str = "",
) -> HttpResponse:
    """The page of a new endpoint, or of the one that is `found`."""
    context: dict[str, Any] = {
        "sent": sent, "refused": refused, "events": EVENTS, "once": once or str(uuid4()),
        "url_length": addresses.MAX_URL, "name_length": wanted.MAX_NAME,
    }  # fmt: skip
    if found is not None:
        context |= {"row": _row(found), "rotating": _is_rotating(found), "hint": endpoints.hint(found)}
    status = refused.status if refused else 200
    return render(request, "webhooks/endpoint.html" if found else "webhooks/new.html", context, status=status)


def _is_rotating(found: WebhookEndpoint) -> bool:
    return found.previous_until is not None and found.previous_until > clock.now()


def _row(found: WebhookEndpoint, last: WebhookDelivery | None = None) -> Row:
    events = [EVENTS[kind] for kind in found.event_types.split() if kind in EVENTS]
    match found.disabled_reason:
        case "":
            state, look = "Enabled", "good"
        case WebhookEndpoint.Disabled.GONE:
            state, look = "Gone", "bad"
        case _:
            state, look = "Disabled", "still"
    sent = _delivered(last, found, clock.now()) if last else None
    return Row(found, addresses.origin(found.url), events, state, look, sent)


def _delivered(delivery: WebhookDelivery, found: WebhookEndpoint, now: Any) -> Sent:
    state, look = DELIVERY_LOOKS[WebhookDelivery.State(delivery.state)]
    sending = bool(delivery.lease_token) and delivery.next_at is not None and delivery.next_at > now
    if sending:
        state, look = "Sending", "busy"
    elif delivery.state == WebhookDelivery.State.PENDING and delivery.attempts:
        state = "Trying again"
    outcome = _outcome(delivery.last_status, delivery.last_error) if delivery.last_at or delivery.last_error else ""
    what = EVENTS.get(delivery.event_type, delivery.event_type)
    about_batch = delivery.event_type != webhooks.SPENDING
    replayable = not sending and not found.disabled_reason
    return Sent(delivery, what, state, look, outcome, about_batch, _subject(delivery), replayable)


def _subject(delivery: WebhookDelivery) -> str:
    """What the event is about: the batch's id; of an alert, how much of which month."""
    data = webhooks.data(delivery.event_type, delivery.subject)
    return f"{data['percent']}% in {data['month']}" if "percent" in data else str(data["id"])


def _outcome(status: int | None, error: str) -> str:
    """What came of an attempt, in words."""
    answered = f"Your server answered {status}." if status else ""
    words = DELIVERY_ERRORS.get(error, error)
    return f"{answered} {words}".strip()
