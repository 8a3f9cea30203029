"""How a batch goes, and why it does not: what its page shows above all, with the sentence that says what to do.

A handful of queries, whatever its size. What to do: advice.py.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from django.db.models import Count, Min, Q, Sum, Value
from django.db.models.functions import Length, Substr

from batches import codes, digest, upstreams
from batches.core import causes
from batches.core.states import TERMINAL, Status
from batches.engine import health
from batches.engine.leases import SUSPECT_AFTER
from batches.models import Batch, Runner, Slice, Upstream

TOLD = 5  # causes of failures
_HIDDEN = 17  # characters at the end of a step's token that are its secret: "/" and 16 digits


class Server(NamedTuple):
    """An upstream that a model of the batch is sent to, or would be."""

    pk: int
    address: str
    state: str  # upstreams.state
    resting_until: datetime | None  # it failed, and is tried again then
    slots: int
    in_flight: int  # of all batches


class Model(NamedTuple):
    """What is left of one model, and who serves it."""

    name: str
    lines: int  # in slices that are not done
    is_own: bool  # by upstreams of the tenant's own
    servers: tuple[Server, ...]

    @property
    def usable(self) -> list[Server]:
        return [server for server in self.servers if server.state == "on"]


class Held(NamedTuple):
    """Slices in the hands of one runner."""

    runner: str
    slices: int
    lines: int
    until: datetime | None  # the first lease that ends
    is_over: bool


class Cut(NamedTuple):
    """The batch's slices."""

    waiting: int = 0
    ready: int = 0  # of these: not before a time that has yet to come
    leased: int = 0
    done: int = 0
    suspects: int = 0
    not_before: datetime | None = None
    held: tuple[Held, ...] = ()


class Step(NamedTuple):
    """The reading of the input, or the writing of the files."""

    holder: str  # host and pid; empty: nobody
    until: datetime | None
    attempts: int


class Failure(NamedTuple):
    cause: str
    lines: int
    why: str
    cure: str


class How(NamedTuple):
    """What the page shows of a batch beside its own columns."""

    now: datetime
    cut: Cut
    models: tuple[Model, ...]
    runners: int  # that take work
    step: Step | None
    failures: tuple[Failure, ...]
    at_risk: bool
    retries: tuple[str, ...]  # batches that ran again what it did not deliver


def of(batch: Any, now: datetime) -> How:
    """Of a Batch with its tenant and `risk` (expecting.at_risk)."""
    active = batch.status not in TERMINAL
    slices = list(_slices(batch, now)) if active else []
    return How(
        now=now,
        cut=_cut(slices, now),
        models=tuple(_models(batch, slices, now)),
        runners=Runner.objects.filter(lease_until__gte=now, draining=False).count() if active else 0,
        step=_step(batch, now) if batch.status in (Status.VALIDATING, Status.FINALIZING) else None,
        failures=tuple(_failures(batch)),
        at_risk=bool(batch.risk),
        retries=() if active else tuple(retries([batch.pk])),
    )


def retries(batches: list[int]) -> Iterable[str]:
    """Batches that ran again what these did not deliver; a few of them."""
    return Batch.objects.filter(retry_of__in=batches).order_by("pk").values_list("public_id", flat=True)[:TOLD]


def _slices(batch: Batch, now: datetime) -> Iterable[dict[str, Any]]:
    """Added up by model, state and runner."""
    rows = Slice.objects.filter(batch=batch).order_by()
    held = ("model", "state", "runner_id", "runner__host", "runner__pid")
    is_open, is_ready = Q(state__lt=Slice.State.DONE), Q(not_before=None) | Q(not_before__lte=now)
    added: Iterable[dict[str, Any]] = rows.values(*held).annotate(
        count=Count("pk"),
        sum=Sum("lines"),
        until=Min("lease_until"),
        later=Min("not_before"),
        ready=Count("pk", filter=is_ready),
        suspects=Count("pk", filter=is_open & Q(attempts__gte=SUSPECT_AFTER)),
    )
    return added


def _cut(slices: list[dict[str, Any]], now: datetime) -> Cut:
    of_state = {state: [row for row in slices if row["state"] == state] for state in Slice.State}
    waiting, leased = of_state[Slice.State.WAITING], of_state[Slice.State.LEASED]
    held = [
        Held(
            f"{row['runner__host']}:{row['runner__pid']}" if row["runner_id"] else "a runner that is gone",
            row["count"],
            row["sum"],
            row["until"],
            row["until"] is None or row["until"] < now,
        )
        for row in leased
    ]
    return Cut(
        waiting=sum(row["count"] for row in waiting),
        ready=sum(row["ready"] for row in waiting),
        leased=sum(row["count"] for row in leased),
        done=sum(row["count"] for row in of_state[Slice.State.DONE]),
        suspects=sum(row["suspects"] for row in slices),
        not_before=min((row["later"] for row in waiting if row["later"]), default=None),
        held=tuple(sorted(held, key=lambda each: each.until or now)),
    )


def _models(batch: Batch, slices: list[dict[str, Any]], now: datetime) -> Iterable[Model]:
    left: dict[str, int] = {}
    for row in slices:
        if row["state"] != Slice.State.DONE:
            left[row["model"]] = left.get(row["model"], 0) + row["sum"]
    if not left:
        return
    reachable = Upstream.objects.filter(Q(tenant=None) | Q(tenant=batch.tenant_id), model__in=left)
    found: dict[str, list[tuple[bool, Server]]] = {name: [] for name in left}
    told = health.of_upstreams(reachable)
    for one in reachable.defer("api_key").order_by("pk"):
        in_flight = told[one.pk].in_flight
        state = upstreams.state(one, now, in_flight)
        rest = one.cooling_until if state == "resting" else None
        server = Server(one.pk, one.base_url, state, rest, one.max_in_flight, in_flight)
        found[one.model].append((one.tenant_id is not None, server))
    for name, servers in sorted(found.items()):
        is_own = any(own for own, _ in servers)  # they take the place of the shared ones
        yield Model(name, left[name], is_own, tuple(server for own, server in servers if own is is_own))


def _step(batch: Batch, now: datetime) -> Step:
    """Who has it; the token's secret end stays in the database."""
    holder = Substr("step_token", Value(1), Length("step_token") - _HIDDEN)
    held = Batch.objects.filter(pk=batch.pk).exclude(step_token="")
    host, _, rest = (held.annotate(holder=holder).values_list("holder", flat=True).first() or "").partition("/")
    is_held = host and batch.step_until is not None and batch.step_until >= now
    return Step(f"{host}:{rest.partition('/')[0]}" if is_held else "", batch.step_until, batch.step_attempts)


def _failures(batch: Batch) -> Iterable[Failure]:
    """The most frequent causes; of a batch that never ran, what is wrong with its input."""
    found: list[tuple[str, str, int | None, int]]
    if batch.status == Status.FAILED:
        counts = json.loads(batch.errors)["counts"] if batch.errors else {}
        found = sorted(((code, code, None, count) for code, count in counts.items()), key=lambda each: -each[3])
    elif batch.failed:
        rows = digest.counts(batch)
        found = [
            (causes.name(row["error_code"], row["status_code"]), row["error_code"], row["status_code"], row["count"])
            for row in rows
        ]
    else:
        found = []
    for cause, code, status, count in found[:TOLD]:
        meaning = codes.meaning(code, status)
        why, cure = (meaning.cause, meaning.cure) if meaning else ("", "")
        yield Failure(cause, count, why.replace("`", ""), cure.replace("`", ""))
