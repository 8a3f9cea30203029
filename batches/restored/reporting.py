"""What there is to decide while the service holds: for programs and for people. Nothing is changed."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from batches import marks, objects
from batches.models import WebhookDelivery
from batches.restored import deciding, finding
from batches.restored.finding import Found
from billing.stripe import client, comparing
from tenants import holding
from tenants.management.console import shown_time

NAMED = 20  # of files that are missing
Document = dict[str, Any]


def report(every_object: bool = False) -> Iterator[Document]:
    """The marks; each batch that would go on; objects that no row names, by kind, or each; files that are missing; what
    Stripe has and the database does not; webhooks that will be sent. Raises OSError, client.Failed."""
    yield _marks()
    unknown = list(finding.unknown())
    yield from _batches(unknown)
    yield from _unknown(unknown, every_object)
    missing = list(islice(finding.missing(), NAMED + 1))
    if missing:
        ids = [file.public_id for file in missing[:NAMED]]
        yield {"missing_files": ids, "more": len(missing) > NAMED}
    if client.configured():
        for found in comparing.findings():
            yield {"stripe": found.check, "where": found.where, "here": found.expected, "there": found.found}
    if waiting := WebhookDelivery.objects.filter(state=WebhookDelivery.State.PENDING).count():
        yield {"webhooks_waiting": waiting}


def _marks() -> Document:
    held, row, there = holding.held(), holding.row(), marks.stored()
    top = there[-1] if there else None
    hold = held and {"since": shown_time(held.since), "by": held.by, "why": held.why, "note": held.note}
    return {
        "hold": hold,
        "database": {"mark": row.number, "at": shown_time(row.moved_at)},
        "storage": top and {"mark": top.number, "at": shown_time(objects.modified(f"{marks.FOLDER}/{top.name}"))},
    }


def _batches(unknown: list[Found]) -> Iterator[Document]:
    batches, decided = list(deciding.open_batches()), deciding.sent_again()
    stored = finding.results(unknown, batches)
    for batch in batches:
        whole = finding.whole(batch, stored.get(batch.pk, []))
        yield {
            "batch": batch.public_id,
            "tenant": batch.tenant.name,
            "status": batch.status,
            "lines": batch.total,
            "would_be_sent": deciding.left(batch),
            "deadline": shown_time(batch.deadline),
            "results": whole and {"key": whole.key, "bytes": whole.bytes, "written": shown_time(whole.modified)},
            "decision": "send again" if batch.public_id in decided else None,
        }


def _unknown(unknown: list[Found], every: bool) -> Iterator[Document]:
    kinds: dict[str, list[Found]] = {}
    for found in unknown:
        kinds.setdefault(found.key.partition("/")[0], []).append(found)
    for kind, some in kinds.items():
        yield {"unknown_objects": kind, "count": len(some), "bytes": sum(found.bytes for found in some)}
    for found in unknown if every else ():
        yield {"object": found.key, "bytes": found.bytes, "written": shown_time(found.modified)}


def summary(documents: list[Document]) -> Iterator[str]:
    """The same in sentences."""
    first = documents[0]
    hold, storage = first["hold"], first["storage"]
    if hold is None:
        yield "The service does not hold: it works."
    else:
        yield f"The service holds since {hold['since']}: {holding.TEXTS[hold['why']]}"
    marked = f"was last marked {storage['at']}" if storage else "has no mark"
    yield f"The database is of {first['database']['at']}, the storage {marked}."
    batches = [each for each in documents if "batch" in each]
    lines, ready = sum(each["would_be_sent"] for each in batches), sum(bool(each["results"]) for each in batches)
    open_ = [each for each in batches if each["decision"] is None]
    yield f"{len(batches)} batches would go on, {lines} lines of them be sent again; the results of {ready} are stored."
    for each in documents:
        if "unknown_objects" in each:
            yield f"{each['count']} objects in {each['unknown_objects']}/ are named by no row ({each['bytes']} bytes)."
        elif "missing_files" in each:
            yield f"The objects of {'more than ' * each['more']}{len(each['missing_files'])} files are missing."
        elif "stripe" in each:
            yield f"Stripe: {each['stripe']}, {each['where']}: here {each['here']}, there {each['there']}."
        elif "webhooks_waiting" in each:
            yield f"{each['webhooks_waiting']} webhooks wait, and will be sent."
    if hold and open_:
        yield f"Decide about {len(open_)} batches: `hold adopt`, `hand-back` or `send-again`. Then `hold release`."
    elif hold:
        yield "Nothing is left to decide: `hold release`."
