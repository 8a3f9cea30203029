"""What somebody should do something about: what it is, what cures it, and where. Nothing is asked of the database."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import NamedTuple

from django.urls import reverse

from batches.console import doing, load
from batches.console.figures import Figures
from batches.web import looks

NAMED = 3  # of several
GRACE = timedelta(seconds=30)  # in which a runner comes by itself
LATE_CHORES, LONG_QUEUE = timedelta(minutes=2), timedelta(minutes=15)
ACT, LOOK = "Act now", "Look into it"

BATCH, UPSTREAM, PRICE = "batches.view_batch", "batches.view_upstream", "billing.view_price"
RUNNER, ENDPOINT, DELIVERY = "batches.view_runner", "batches.view_webhookendpoint", "batches.view_webhookdelivery"
INVOICE, TENANT, QUEUE = "billing.view_invoice", "tenants.view_tenant", "django_q.view_ormq"


class Alert(NamedTuple):
    name: str  # of its kind: one at most is there
    level: str  # ACT: a promise or money is being lost. LOOK: it will be
    text: str
    cure: str
    link: str  # "": nowhere
    needs: str  # the permission to see it

    @property
    def urgent(self) -> bool:
        return self.level == ACT


def alerts(seen: Figures) -> list[Alert]:
    """The worst first."""
    found = [alert for look in LOOKS for alert in look(seen)]
    return sorted(found, key=lambda alert: not alert.urgent)


def _held(seen: Figures) -> Iterator[Alert]:
    if seen.held:
        yield Alert(
            "held", ACT, f"The service holds since {seen.held.since:%Y-%m-%d %H:%M} UTC: nothing is sent, charged or "
            f"taken. {seen.held.text}",
            "Decide what becomes of each batch: `manage.py hold report` lists them (docs/backups.md).", "", BATCH,
        )  # fmt: skip


def _no_runner(seen: Figures) -> Iterator[Alert]:
    waiting = [lane for lane in seen.lanes if lane.waiting and lane.since and lane.since < seen.now - GRACE]
    if waiting and not any(host.live for host in seen.hosts):
        lines = sum(lane.waiting for lane in waiting)
        yield Alert(
            "runners", ACT, f"{_many(lines, 'line')} wait, and no runner is alive.",
            "Start the workers (`manage.py up`, or qcluster of the runners) and read their log.",
            _list("batches_runner"), RUNNER,
        )  # fmt: skip


def _stranded(seen: Figures) -> Iterator[Alert]:
    lanes = [lane for lane in seen.lanes if lane.stranded]
    if lanes:
        yield Alert(
            "stranded", ACT, f"{_many(sum(lane.waiting for lane in lanes), 'line')} wait for "
            f"{_names(_lane(lane) for lane in lanes)}: no upstream of it is on.",
            "Enable an upstream of the model, or add one.", _list("batches_upstream"), UPSTREAM,
        )  # fmt: skip


def _resting(seen: Figures) -> Iterator[Alert]:
    resting = [one for one in seen.doing if one.state == "resting"]
    if resting:
        names = _names(f"{one.model} at {one.base_url} until {one.cooling_until:%H:%M:%S} UTC" for one in resting)
        served = {one.model for one in seen.doing if one.state in ("on", "failing")}
        yield Alert(
            "resting", LOOK if all(one.model in served for one in resting) else ACT,
            f"{_many(len(resting), 'upstream')} failed and {_is(resting, 'rests', 'rest')}: {names}.",
            "See whether the server answers (Test now). It is tried again by itself; drain it to stop that.",
            _list("batches_upstream"), UPSTREAM,
        )  # fmt: skip


def _refusing(seen: Figures) -> Iterator[Alert]:
    bad = [one for one in seen.doing if one.state == "failing"]
    if bad:
        names = _names(
            f"{one.model} at {one.base_url} ({one.now.throttled:,} refused, {one.now.errors:,} failed, "
            f"{one.now.answers:,} answered)"
            for one in bad
        )
        yield Alert(
            "refusing", LOOK, f"Most requests of the last minute came to nothing: {names}.",
            "Refused (429, 503): lower its limit of requests in flight. Failed: read the server's log, or drain it.",
            _list("batches_upstream"), UPSTREAM,
        )  # fmt: skip


def _free(seen: Figures) -> Iterator[Alert]:
    free = sorted({one.model for one in seen.doing if one.enabled and not one.priced})
    if free:
        yield Alert(
            "free", LOOK, f"Without a price, lines are free: {_names(free)}.",
            "Set a price; batches keep the price of when they were submitted. 0 says that free is meant.",
            _list("billing_price"), PRICE,
        )  # fmt: skip


def _at_risk(seen: Figures) -> Iterator[Alert]:
    if seen.promises and (count := seen.promises.at_risk):
        over = "More than " if seen.promises.more else ""
        yield Alert(
            "late", ACT, f"{over}{_many(count, 'batch', 'batches')} will hardly be there within 24 hours.",
            "See what they wait for: enable or add upstreams, or raise those that matter most.",
            _list("batches_batch", "trouble=late"), BATCH,
        )  # fmt: skip


def _batches(seen: Figures) -> Iterator[Alert]:
    found = seen.troubles
    if found.stuck:
        yield Alert(
            "stuck", ACT, f"{_many(found.stuck, 'batch', 'batches')} {_is(found.stuck, 'is', 'are')} stuck: a step "
            "fails again and again, or nothing was finished for long.",
            "Open it: its steps and what it waits for; then the service's log under its id.",
            _list("batches_batch", "trouble=stuck"), BATCH,
        )  # fmt: skip
    if found.stopped:
        yield Alert(
            "stopped", LOOK, f"{_many(found.stopped, 'batch', 'batches')} {_is(found.stopped, 'is', 'are')} paused by "
            "an operator: the 24 hours run on, and stay promised.",
            "Let them go on as soon as the reason is gone.", _list("batches_batch", "trouble=paused"), BATCH,
        )  # fmt: skip
    if found.suspended:
        yield Alert(
            "suspended", LOOK, f"{_many(found.suspended, 'batch', 'batches')} of suspended tenants "
            f"{_is(found.suspended, 'waits', 'wait')}.",
            "Resume the tenant, or cancel its batches.", _list("tenants_tenant", "suspended__exact=1"), TENANT,
        )  # fmt: skip


def _queue(seen: Figures) -> Iterator[Alert]:
    queue = seen.queue
    chores = queue.line("chores") if queue else None
    if chores and chores.oldest > (LONG_QUEUE if seen.troubles.steps else LATE_CHORES):
        waits = looks.lasted(chores.oldest.total_seconds())
        yield Alert(
            "chores", ACT, f"{_many(chores.rows, 'chore')} in the queue, the first for {waits}: nothing is validated "
            "or finished.",
            "Restart the workers of the chores (`manage.py up` does it by itself); read their log.", "", QUEUE,
        )  # fmt: skip
    if queue and queue.failed:
        yield Alert(
            "tasks", LOOK, f"{_many(queue.failed, 'task')} failed in the last day.",
            "The sweep does their work again; read why in the log, and mend it.",
            _list("django_q_task", "success__exact=0"), QUEUE,
        )  # fmt: skip


def _webhooks(seen: Figures) -> Iterator[Alert]:
    found = seen.troubles
    if found.gone:
        yield Alert(
            "gone", LOOK, f"{_many(found.gone, 'webhook endpoint')} answered 410: nothing is sent there any more.",
            "Tell the tenant: it enables the endpoint again, or removes it.",
            _list("batches_webhookendpoint", "disabled_reason__exact=gone"), ENDPOINT,
        )  # fmt: skip
    if found.retried or found.undelivered:
        yield Alert(
            "deliveries", LOOK, f"Webhooks do not arrive: {found.undelivered:,} given up in the last day, "
            f"{found.retried:,} tried again and again.",
            "See the errors: one tenant's server is theirs to mend; many tenants' are our way out to the internet.",
            _list("batches_webhookdelivery", f"state__exact={'failed' if found.undelivered else 'pending'}"), DELIVERY,
        )  # fmt: skip


def _invoices(seen: Figures) -> Iterator[Alert]:
    if seen.dues and (count := seen.dues.unsent):
        yield Alert(
            "unsent", LOOK, f"{_many(count, 'invoice')} could not be sent to Stripe so far.",
            "See the invoice's error, mend it, and send it again.",
            _list("billing_invoice", "status__exact=open"), INVOICE,
        )  # fmt: skip


LOOKS: tuple[Callable[[Figures], Iterator[Alert]], ...] = (
    _held, _no_runner, _stranded, _at_risk, _queue, _batches, _resting, _refusing, _free, _webhooks, _invoices,
)  # fmt: skip


def _list(name: str, query: str = "") -> str:
    return reverse(f"admin:{name}_changelist") + (f"?{query}" if query else "")


def _lane(lane: load.Lane) -> str:
    return f"{lane.model} of {lane.owner}" if lane.owner else lane.model


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _is(counted: int | list[doing.Doing], one: str, several: str) -> str:
    return one if (counted if isinstance(counted, int) else len(counted)) == 1 else several


def _names(names: Iterable[str]) -> str:
    """The first few of them."""
    told = list(names)
    more = f" and {len(told) - NAMED:,} more" if len(told) > NAMED else ""
    return ", ".join(told[:NAMED]) + more
