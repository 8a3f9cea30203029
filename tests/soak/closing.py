"""The end: everything comes to rest, then what is there is gathered for the books."""

import os
import time
from collections import defaultdict
from typing import Any

import psycopg

from batches.core.marks import Mark
from tests.soak.books import Row, Stored
from tests.soak.watching import spooled
from tests.soak.world import World

REST = 720.0  # seconds for all to come to rest: a line's retries take minutes
LEFT = {  # what must be none
    "batches that have not ended": "SELECT count(*) FROM batches_batch WHERE ended_at IS NULL",
    "ended batches without receipts": "SELECT count(*) FROM batches_batch WHERE status IN "
    "('completed', 'cancelled', 'expired') AND receipts_file_id IS NULL",
    "slices": "SELECT count(*) FROM batches_slice",
    "segments": "SELECT count(*) FROM batches_segment",
    "runners": "SELECT count(*) FROM batches_runner",
    "permits": "SELECT count(*) FROM batches_permit",
    "tasks that are due": "SELECT count(*) FROM django_q_ormq WHERE lock <= now()",  # others died with their worker
    "deliveries under way": "SELECT count(*) FROM batches_webhookdelivery WHERE state = 'pending'",
}
DUE_NOW = """
UPDATE batches_webhookdelivery SET next_at = now() WHERE state = 'pending' AND lease_token = '' RETURNING 1"""
OLD = 2 * 86_400  # seconds: what is older and named by no row is an orphan


def rest(world: World) -> list[str]:
    """Wait until nothing is left to do; what was not done in time. Deliveries that wait for an hour are due now."""
    end = time.monotonic() + REST
    while time.monotonic() < end:
        world.sql(DUE_NOW)
        if not left(world):
            return []
        time.sleep(2)
    return left(world)


def left(world: World) -> list[str]:
    try:
        counts = {what: int(world.sql(query)[0][0]) for what, query in LEFT.items()}
    except psycopg.Error as error:
        return [f"the database does not answer: {error}"]
    return [f"{count} {what} are left" for what, count in counts.items() if count]


def storage_findings(world: World) -> tuple[int, list[str]]:
    """After the sweep of orphans, a day later: an object for every row that names one, no other. How many went."""
    before = _objects(world)
    old = time.time() - OLD
    for key in before:
        os.utime(world.files / key, (old, old))
    world.service.manage("shell", "-v0", "-c", "from batches import orphans; orphans.remove()")
    kept = _objects(world)
    named = {key for (key,) in world.sql("SELECT storage_key FROM batches_file WHERE storage_key <> ''")}
    [(number, token)] = world.sql("SELECT number, token FROM tenants_mark")
    named.add(f"mark/{Mark(number, token).name}")
    findings = [f"{key} is stored, and named by no row" for key in sorted(kept - named)]
    findings += [f"{key} is named, and not stored" for key in sorted(named - kept)]
    if count := spooled(world):
        findings.append(f"{count} files are left in the spools")
    return len(before - kept), findings


def _objects(world: World) -> set[str]:
    return {str(path.relative_to(world.files)) for path in world.files.rglob("*") if path.is_file()}


def stored(world: World) -> list[Stored]:
    """Every batch, without its results."""
    found = world.sql(
        "SELECT public_id, metadata, status, total, completed, failed, cost, errors FROM batches_batch ORDER BY id"
    )
    charges = defaultdict(list)
    for batch, amount in world.sql("SELECT reference, amount FROM billing_ledgerentry WHERE kind = 'batch_charge'"):
        charges[batch].append(int(amount))
    return [
        Stored(
            batch, _number(metadata), status, total, completed, failed, int(cost), charges=charges[batch], errors=errors
        )
        for batch, metadata, status, total, completed, failed, cost, errors in found
    ]


def _number(metadata: str) -> int | None:
    digits = "".join(filter(str.isdigit, metadata))
    return int(digits) if digits else None


def results(world: World, batch: str) -> dict[int, Row]:
    rows = world.sql(
        "SELECT line, error_code, cost, extract(epoch FROM finished_at)::float FROM batches_result "
        "WHERE batch_id = (SELECT id FROM batches_batch WHERE public_id = %s)",
        batch,
    )
    return {line: Row(not code, int(cost), at, code) for line, code, cost, at in rows}


def heard(world: World) -> dict[str, tuple[int, float]]:
    """Every line by its marker: its good answers at all upstreams, and when it came to one last."""
    found: dict[str, tuple[int, float]] = {}
    for witness in world.witnesses.values():
        for name, (answered, at) in witness.lines().items():
            before, last = found.get(name, (0, 0.0))
            found[name] = (before + answered, max(last, at))
    return found


def told(world: World) -> dict[str, set[str]]:
    """Batches, and the events about them that came."""
    found: dict[str, set[str]] = defaultdict(set)
    for received in list(world.receiver.received):
        event: dict[str, Any] = received.event
        found[event["data"]["id"]].add(event["type"])
    return found
