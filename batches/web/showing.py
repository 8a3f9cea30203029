"""What a batch's page says: the part that moves, the part that changes with its state, and what stays."""

import json
from datetime import datetime
from typing import Any, NamedTuple

from batches import erasing
from batches.api import serializers
from batches.core import caps
from batches.core.states import ACTIVE, RUN, TERMINAL, Status
from batches.models import Batch
from batches.web import looks, watching
from billing import money

SEALED_WITHIN = 300.0  # seconds after its end for which a page waits for the receipts
CURES = {
    "tenant_suspended": "Ask the operator of this service. The deadline runs on.",
    "upstream_unavailable": "Nothing to do for you: it goes on by itself when the operator has one up again.",
    "retry_later": "Nothing to do: it goes on by itself.",
    "behind_others": "Nothing to do: it goes on by itself, and its deadline counts when its turn is decided.",
}
RESUMED = {
    caps.MAX_COST: (
        "It has cost what you let it cost.",
        "Let it cost more, or leave the field empty for no limit. What is done is kept, whatever you choose.",
    ),
    caps.MAX_ERROR_RATE: (
        "More lines fail than you wanted to see.",
        "Look at the failed lines first. To go on, let a larger share fail, or leave the field empty for no limit.",
    ),
    caps.CREDITS: (
        "Your credits cover no more.",
        "It goes on by itself when there are credits again; a smaller batch of yours may end first.",
    ),
    caps.SPENDING: (
        "Your spending limit of this month covers no more.",
        "It goes on by itself when the limit is raised, or the month is over.",
    ),
    caps.OPERATOR: (
        "The operator of this service stopped it.",
        "Ask them: they alone let it go on. What is done is kept. The 24 hours are promised as before.",
    ),
}


class Head(NamedTuple):
    """The part of the page that moves, as it is shown."""

    label: str
    look: str
    status: str
    done: int
    total: int
    progress: str
    percent: str
    failed: str
    speed: str
    end: str
    end_at: looks.Moment | None
    left: str
    left_at: looks.Moment | None
    waits: str
    cure: str
    cost: str
    reserved: str
    tokens: tuple[str, str, str]
    cached: str


def is_moving(batch: Batch, now: datetime) -> bool:
    """Whether the page should look again: it is active, or its receipts are being written."""
    if batch.status in ACTIVE:
        return True
    unsealed = batch.status in RUN and batch.receipts_file_id is None and batch.ended_at is not None
    return unsealed and (now - (batch.ended_at or now)).total_seconds() < SEALED_WITHIN


def state(batch: Batch) -> str:
    """What the other parts of the page depend on."""
    sealed = "sealed" if batch.receipts_file_id else ""
    closing = "closing" if batch.cancelling_at else ""
    erased = "erased" if batch.erased_at else ""
    return ".".join([batch.status, batch.paused_reason, closing, sealed, erased])


def is_erasable(batch: Batch) -> bool:
    """Whether its data may be deleted, and there is some: an input that was in use then may be left."""
    left = batch.erased_at is None or batch.input_file.deleted_at is None
    return left and erasing.refusal(batch) is None


def head(batch: Any, now: datetime) -> Head:
    done = batch.completed + batch.failed
    active = batch.status in ACTIVE
    reason = serializers.waiting_reason(batch.waiting_reason) if active and not batch.paused_reason else None
    soon = looks.expected(batch, now)
    shown = serializers.native(batch)
    share = shown["prefix_cache"]["share"]
    reserved = shown["cost"]["reserved_usd"]
    rate = watching.speed(batch, now)
    return Head(
        label=looks.label(batch),
        look=looks.look(batch),
        status=batch.status,
        done=done,
        total=batch.total or 1,
        progress=f"{done:,} of {batch.total:,} lines",
        percent=_percent(done, batch.total),
        failed=f"{batch.failed:,} failed" if batch.failed else "",
        speed=_speed(rate, batch.status in TERMINAL),
        end=soon,
        end_at=looks.moment(batch.expected_at) if soon else None,
        left=_left(batch, now) if active else "",
        left_at=looks.moment(batch.deadline) if active else None,
        waits=reason["message"] if reason else "",
        cure=CURES.get(reason["code"], "") if reason else "",
        cost=looks.cents(money.usd(batch.cost)),
        reserved=looks.cents(reserved) if reserved and batch.reserved > batch.cost else "",
        tokens=(f"{batch.input_tokens:,}", f"{batch.cached_tokens:,}", f"{batch.output_tokens:,}"),
        cached="" if share is None else f"{share:.1%}",
    )


def pause(batch: Batch) -> dict[str, Any] | None:
    """Of a paused batch: what paused it, the cure, whether its tenant may end it, and with which field of the form."""
    if not batch.paused_reason:
        return None
    title, cure = RESUMED[batch.paused_reason]
    now = {
        caps.MAX_COST: "" if batch.max_cost is None else money.usd(batch.max_cost),
        caps.MAX_ERROR_RATE: "" if batch.max_error_rate is None else f"{batch.max_error_rate:g}",
    }
    field = batch.paused_reason if batch.paused_reason in now else ""
    own = batch.paused_reason != caps.OPERATOR
    return {"title": title, "cure": cure, "own": own, "field": field, "value": now.get(field, "")}


def facts(batch: Any, shown: dict[str, Any]) -> list[tuple[str, str]]:
    """What changes with its state alone, as the API shows it."""
    rate, cap = shown["max_error_rate"], shown["max_cost_usd"]
    found = [
        ("Endpoint", shown["endpoint"]),
        ("Model", looks.models(batch)),
        ("Lines", f"{batch.total:,}"),
        (
            "Discount",
            f"{float(shown['cost']['discount']):.0%} off the standard price" if shown["cost"]["discount"] else "",
        ),
        ("Cost limit", f"{looks.cents(cap)} USD" if cap else ""),
        ("Limit of failed lines", f"{rate:.4g} of all" if rate else ""),
        ("A bad line", "fails alone" if batch.on_invalid_line == "skip" else ""),
        ("24 hours", {True: "kept", False: "missed", None: ""}[batch.sla_met]),
        ("Credit for it", f"{looks.cents(money.usd(batch.sla_credit))} USD" if batch.sla_credit else ""),
        ("Input file", shown["input_file_id"]),
        ("Output file", shown["output_file_id"] or ""),
        ("Error file", shown["error_file_id"] or ""),
    ]
    return [(name, value) for name, value in found if value]


def timeline(batch: Batch, now: datetime) -> list[dict[str, Any]]:
    """The states that it has been in, each with its beginning and how long it lasted."""
    reached: list[tuple[str, datetime | None]] = [
        ("Submitted", batch.created_at),
        ("In progress", batch.in_progress_at),
        ("Cancelling", batch.cancelling_at),
        ("Expiring", batch.expiring_at),
        ("Finalizing", batch.finalizing_at),
        (looks.LABELS[Status(batch.status)], batch.ended_at),
        ("Data deleted", batch.erased_at),
    ]
    known = [(name, at) for name, at in reached if at is not None]
    ends = [at for _, at in known[1:]] + [None if batch.ended_at else now]
    return [
        {
            "name": name,
            "at": looks.moment(at),
            "lasted": looks.lasted((end - at).total_seconds()) if end else "",
            "now": end is now,
        }
        for (name, at), end in zip(known, ends, strict=True)
    ]


def faults(shown: dict[str, Any]) -> dict[str, Any] | None:
    """What is wrong with the input, as the API shows it: entries by line, and how many there are of each code."""
    errors = shown["errors"]
    if not errors:
        return None
    total = sum(errors["counts"].values())
    counts = sorted(errors["counts"].items(), key=lambda item: -item[1])
    return {"entries": errors["data"], "counts": counts, "total": total, "unlisted": total - len(errors["data"])}


def metadata(batch: Batch) -> list[tuple[str, str]]:
    return list(json.loads(batch.metadata).items())


def _percent(done: int, total: int) -> str:
    """Never 100% before the last line, nor 0% after the first."""
    if not total or not done:
        return "0%"
    return f"{min(max(done * 100 // total, 1), 100)}%"


def _speed(rate: float, ended: bool) -> str:
    if not rate:
        return ""
    number = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}" if rate >= 0.1 else ""
    if not number:
        return f"{rate * 60:.2g} lines a minute"
    return f"{number} lines/s" + (" on average" if ended else "")


def _left(batch: Batch, now: datetime) -> str:
    seconds = (batch.deadline - now).total_seconds()
    return looks.lasted(seconds // 60 * 60) if seconds >= 60 else "less than a minute"
