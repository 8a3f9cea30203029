"""The work and who does it, by the rules of the console's alerts."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone
from django_q.models import Schedule

from batches.console import home, runners
from batches.models import Upstream
from batches.probing import probe_all
from billing.models import Price
from provocative import queue_health
from provocative.doctor.findings import Finding, error, ok, warning
from tenants import clock
from tenants.models import User

OVERDUE = timedelta(minutes=5)  # of the sweep, which the queue's scheduler rings every minute
NAMED = 3


def _alerts(*names: str) -> Iterator[Finding]:
    """Those of these kinds, as the console's home shows them."""
    for alert in home.home(home.PERMISSIONS, queue_health.figures()).alerts:
        if alert.name in names:
            yield (error if alert.urgent else warning)(alert.text, alert.cure)


def workers() -> Iterator[Finding]:
    """Whether anybody takes what the scheduler should ring; which runners are at work."""
    found = [*_alerts("runners"), *_schedules()]
    hosts = [host for host in runners.hosts(clock.now()) if host.live or host.draining]
    live = ", ".join(f"{host.name}: {host.live}" for host in hosts[: 5 * NAMED])
    yield from found or [ok(f"Runners at work on {live}." if hosts else "Workers are there; nothing is to be run.")]


def _schedules() -> Iterator[Finding]:
    sweep = Schedule.objects.filter(name="sweep").first()
    cure = "Start `manage.py up`, or `manage.py worker` on each worker host, and read its log."
    if sweep is None:
        yield error("The queue has no schedules: no worker was ever started on this database.", cure)
    elif sweep.next_run and sweep.next_run < timezone.now() - OVERDUE:
        yield error(f"No worker takes the queue's schedules since {sweep.next_run:%Y-%m-%d %H:%M} UTC.", cure)


def holds() -> Iterator[Finding]:
    """Whether nothing is sent or charged until an operator has decided."""
    yield from [*_alerts("held")] or [ok("The service works: it does not hold.")]


def queue() -> Iterator[Finding]:
    yield from [*_alerts("chores", "tasks")] or [ok("Nothing waits long in the queue.")]


def jobs() -> Iterator[Finding]:
    yield from [*_alerts("stuck", "late", "stopped", "suspended")] or [ok("No batch is stuck or late.")]


def webhooks() -> Iterator[Finding]:
    yield from [*_alerts("gone", "deliveries")] or [ok("Webhooks arrive.")]


def invoices() -> Iterator[Finding]:
    yield from [*_alerts("unsent")] or [ok("No invoice waits for Stripe.")]


def upstreams() -> Iterator[Finding]:
    """Each that is on is asked for its models; what runners say of them."""
    rows = list(Upstream.objects.filter(enabled=True).order_by("model", "pk"))
    probed = list(zip(rows, probe_all(rows), strict=True))
    served = {(row.model, row.tenant_id) for row, probe in probed if not probe.problem}
    found = [*_alerts("resting", "refusing")]
    cure = "`manage.py upstream check` asks again; start the server, or `upstream disable` it."
    for row, probe in probed:
        if probe.problem:
            say = warning if (row.model, row.tenant_id) in served else error  # another one answers for the model
            found.append(say(f"Upstream {row.pk} for {row.model}: {probe.problem}.", cure))
    yield from found or [ok(f"All {len(rows)} upstreams answer.")]


def models() -> Iterator[Finding]:
    """That can be asked for, and what they cost."""
    found = [*_alerts("stranded", "free")]
    on = Upstream.objects.filter(model=OuterRef("model"), enabled=True)
    unserved = Price.objects.filter(~Exists(on)).order_by("model").values_list("model", flat=True).distinct()
    if names := list(unserved):
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        cure = "`manage.py upstream add` or `upstream enable`; a name that was mistyped does no harm."
        found.append(warning(f"They have a price, and no upstream is on: {', '.join(names[:NAMED])}{more}.", cure))
    if not Upstream.objects.filter(enabled=True).exists():
        found.append(warning("No upstream is on: nothing can be run.", "`manage.py upstream add MODEL BASE_URL`"))
    yield from found or [ok("Every model has a price and an upstream.")]


def staff() -> Iterator[Finding]:
    """The console asks for a second step; who has none sets one up at the next visit, with the password alone."""
    people: Any = User.objects.filter(Q(is_staff=True) | Q(is_superuser=True), is_active=True)
    without = people.exclude(authenticator__type__in=("totp", "webauthn")).order_by("email")
    if names := list(without.values_list("email", flat=True)):
        yield warning(
            f"{len(names)} of the staff have no second step: {', '.join(names[:NAMED])}.",
            "Let each sign in and set one up now: until then the password alone is the way to the console.",
        )
    else:
        yield ok(
            f"{people.count()} of the staff, each with a second step." if people.exists() else "There is no staff."
        )
