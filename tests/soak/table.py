"""The closing table: what was done, and what of it is not as it must be; printed, and written as JSON."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.soak import closing, watching
from tests.soak.asking import Asked, marker
from tests.soak.books import Heard, Stored, batch_findings, hook_findings, sent_again, submissions_findings
from tests.soak.clients import Client
from tests.soak.faults import Faults, asleep, disturbed
from tests.soak.watching import Watch
from tests.soak.world import PRICES, World

SHOWN = 40  # findings


@dataclass
class Told:
    """What the run comes to."""

    figures: dict[str, Any] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def row(self, name: str, **figures: Any) -> None:
        self.figures[name] = figures
        print(f"{name:28}" + "  ".join(f"{key} {_shown(value)}" for key, value in figures.items()), flush=True)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(each)}" for key, each in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def close(
    world: World, clients: list[Client], hooked: list[str], faults: Faults, watch: Watch, path: Path
) -> list[str]:
    """Print and write it; everything that is wrong."""
    told = Told()
    told.findings += closing.rest(world)
    asked = [one for client in clients for one in client.asked]
    lines = closing.heard(world)
    stored = closing.stored(world)
    print()
    _books(told, world, asked, stored, lines, faults)
    _sent_again(told, world, lines, faults)
    _hooks(told, world, asked, stored, hooked)
    _answers(told, clients, faults)
    _growth(told, watch, faults.seconds)
    _rest(told, world)
    _faults(told, faults)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seed": world.seed, "seconds": faults.seconds, **told.__dict__}, indent=1) + "\n")
    print(f"\n{len(told.findings)} findings; {path}")
    for finding in told.findings[:SHOWN]:
        print(f"  {finding}")
    return told.findings


def _owners(asked: list[Asked], stored: list[Stored]) -> dict[str, Asked]:
    """Whose batch is which: by what a client was told, else by what its row says."""
    numbers = {one.number: one for one in asked}
    found = {batch: one for one in asked for batch in one.ids}
    for row in stored:
        if row.batch not in found and row.number in numbers:
            found[row.batch] = numbers[row.number]
    return found


def _books(
    told: Told,
    world: World,
    asked: list[Asked],
    stored: list[Stored],
    lines: dict[str, tuple[int, float]],
    faults: Faults,
) -> None:
    owners, slept = _owners(asked, stored), asleep(faults.happened)
    told.findings += submissions_findings(asked, stored)
    count, cost, waste = Counter[str](), Counter[str](), 0
    for row in stored:
        one = owners.get(row.batch)
        if one is None:
            continue
        row.rows = closing.results(world, row.batch)
        heard = _of(one, lines)
        told.findings += batch_findings(one, row, heard, PRICES[one.model], slept)
        answered = sum(bool(found[0]) for found in heard.values())
        delivered = sum(result.delivered for result in row.rows.values())
        waste += answered - delivered
        count += Counter(total=row.total, results=len(row.rows), delivered=delivered, answered=answered)
        count["never run"] += row.total - len(row.rows) if row.status != "failed" else 0
        cost += Counter(
            results=sum(result.cost for result in row.rows.values()), batches=row.cost, charged=sum(row.charges)
        )
        cost["read"] += one.read.cost if one.read else row.cost
        row.rows = {}
    told.row("batches", all=len(stored), **Counter(row.status for row in stored))
    told.row("submissions", all=len(asked), refused=sum(not one.ids and not one.uncertain for one in asked),
             unanswered=sum(one.uncertain for one in asked), read=sum(one.read is not None for one in asked),
             deleted=sum(one.deleted for one in asked))  # fmt: skip
    told.row("lines", **count)
    told.row("answers too late to be taken", lines=waste)
    told.row("pico-USD", **cost)
    if len(set(cost.values())) > 1:
        told.findings.append(f"the sums of the ledgers differ: {dict(cost)}")


def _of(one: Asked, lines: dict[str, tuple[int, float]]) -> Heard:
    """The lines of a submission, as the upstreams saw them."""
    names = {line: marker(one.number, line) for line in range(1, len(one.sizes) + 1)}
    return {line: lines[name] for line, name in names.items() if name in lines}


def _sent_again(told: Told, world: World, lines: dict[str, tuple[int, float]], faults: Faults) -> None:
    stats = {name: witness.stats() for name, witness in world.witnesses.items()}
    endings = sum((Counter(one["endings"]) for one in stats.values()), Counter[str]())
    gone = sum(count for how, count in endings.items() if how.endswith(" gone"))
    drips = endings["drip gone"]
    twice, allowed = sent_again(lines), sum(one.allowed for one in faults.happened) + drips
    told.row("requests", all=sum(one["requests"] for one in stats.values()), **dict(endings.most_common(8)))
    told.row("at most in flight", **{name: one["peak_in_flight"] for name, one in stats.items()})
    told.row("sent again", answered_twice=twice, cut_off=gone, of_them_drips=drips, allowed=allowed)
    if twice + gone > allowed:
        told.findings.append(f"{twice} + {gone} requests were sent again, {allowed} may be")


def _hooks(told: Told, world: World, asked: list[Asked], stored: list[Stored], hooked: list[str]) -> None:
    owners = _owners(asked, stored)
    ended = {row.batch: row.status for row in stored if row.batch in owners and owners[row.batch].tenant in hooked}
    told.findings += hook_findings(ended, closing.told(world))
    told.row("webhooks", ends=len(ended), posts=len(world.receiver.received))


def _answers(told: Told, clients: list[Client], faults: Faults) -> None:
    """What clients were answered; errors, that only a fault excuses."""
    answers = sum((client.answers for client in clients), Counter[tuple[str, int]]())
    excused = disturbed(faults.happened)
    errors = [error for client in clients for error in client.faults]
    told.row("answers", all=answers.total(), **{str(k): v for k, v in sorted(_by_status(answers).items())})
    bad = [f"at {at:.0f}: {what}" for at, what in errors if not excused(at)]
    told.row("errors", all=len(errors), without_a_fault=len(bad))
    told.findings += bad[:SHOWN]
    told.findings += [finding for client in clients for finding in client.findings] + faults.findings
    told.findings += [f"the client of {client.name} did not come to its end" for client in clients if client.is_alive()]


def _by_status(answers: Counter[tuple[str, int]]) -> Counter[int]:
    found = Counter[int]()
    for (_, status), count in answers.items():
        found[status] += count
    return found


def _growth(told: Told, watch: Watch, seconds: float) -> None:
    print(f"\n{'of the time, medians':52}{'1st quarter':>12}{'4th':>9}{'bound':>9}{'an hour':>10}")
    growths = watching.growths(watch.samples, seconds)
    for one in growths:
        print(f"  {one.figure:50}{one.first:12.1f}{one.last:9.1f}{one.bound:9.1f}{one.an_hour:+10.1f}")
        if not one.flat:
            told.findings.append(f"{one.figure} grew from {one.first:.1f} to {one.last:.1f}")
    told.figures["growth"] = [watching.as_json(one) for one in growths]
    told.figures["samples"] = watch.samples
    print()


def _rest(told: Told, world: World) -> None:
    """What is left, in the storage and of the processes; the product's own check of its books."""
    orphans, findings = closing.storage_findings(world)
    told.findings += findings
    try:
        checked = world.service.manage("reconcile")["findings"]
    except AssertionError as error:
        checked = str(error)
        told.findings.append(f"reconcile: {error}")
    codes = {host.home.name: world.stopped(host) for host in reversed(world.hosts)}
    told.findings += [f"{host} ended with {code}" for host, code in codes.items() if code]
    told.row("left", orphans_swept=orphans, wrong=len(findings), reconcile=checked)


def _faults(told: Told, faults: Faults) -> None:
    told.row("faults", **Counter(one.name for one in faults.happened))
    told.figures["happened"] = [one.__dict__ for one in faults.happened]
