"""What a runner may use and what it takes in hand: upstreams, permits on them, and the claims that keep them busy."""

import logging
import time
from datetime import timedelta

from django.db.models import Q

from batches import lifecycle, objects
from batches.engine import leases, permits
from batches.engine.channel import Channel
from batches.engine.lines import Held, LaneKey
from batches.engine.pump import Pump
from batches.engine.suspects import Parole
from batches.models import Permit, Runner, Slice, Upstream
from tenants import clock, observed

log = logging.getLogger(__name__)

NOTED = 1.0  # seconds that a slice must wait, for it to be noted
PAUSE = 0.25  # seconds before a lane that had nothing to claim is asked again
MAX_HELD = 8192  # lines in hand at most, a lane
MAX_HELD_BYTES = 256 * 1024 * 1024  # of slices in hand at most
SUSPECT_LOOK = 5.0  # seconds between looks for suspects
STORAGE_PAUSE = timedelta(seconds=10)  # before a slice whose bytes could not be read is tried again
SPEED_WINDOW = 0.5  # seconds


class Speed:
    """Lines a second that a lane finished lately."""

    def __init__(self, finished: int) -> None:
        self._since, self._finished, self.value = time.monotonic(), finished, 0.0

    def measure(self, finished: int) -> float:
        span = time.monotonic() - self._since
        if span > SPEED_WINDOW:
            self.value = (finished - self._finished) / span
            self._since, self._finished = time.monotonic(), finished
        return self.value


def _note_rest(channel: Channel) -> None:
    """Let the database know when an upstream begins to rest, goes on resting, or answers again."""
    if channel.failures != channel.noted:
        channel.noted = channel.failures
        until = clock.now() + timedelta(seconds=channel.cool_until - time.monotonic()) if channel.failures else None
        Upstream.objects.filter(pk=channel.id).update(cooling_until=until)


class Supply:
    """The slices in hand and the channels they go out by. Uses the ORM; the pump does the sending."""

    def __init__(self, pump: Pump) -> None:
        self.held: dict[int, Held] = {}
        self._pump = pump
        self._dedicated: set[LaneKey] = set()
        self._enabled: dict[LaneKey, list[Channel]] = {}
        self._speeds: dict[LaneKey, Speed] = {}
        self._asked_again: dict[LaneKey, float] = {}
        self._looks_at = 0.0  # when it looks for suspects again
        self._parole: Parole | None = None  # a suspect in hand: nothing else is

    @property
    def has_suspect(self) -> bool:
        """Whether it runs a suspect slice, whose groups wait for each other's commit."""
        return self._parole is not None

    def unfinished(self, key: LaneKey) -> int:
        """Lines in hand that may still be sent or are in flight."""
        return sum(
            held.open for held in self.held.values() if held.lane == key and not (held.stopped and not held.in_flight)
        )

    def refresh(self, runner: Runner, draining: bool) -> None:
        """Follow the operator's upstreams, and settle permits for what the lines in hand can use."""
        rows = {row.pk: row for row in Upstream.objects.all()}
        self._enabled = {}
        for pk, row in rows.items():
            key: LaneKey = (row.model, row.tenant_id)
            channel = self._channel(row, key)
            _note_rest(channel)
            channel.severed = row.severed
            if row.severed:
                self._pump.sever(channel)
            usable = channel.key == key and row.enabled and bool(channel.targets)
            if usable:
                self._enabled.setdefault(key, []).append(channel)
            wanted = min(self.unfinished(key), channel.usable()) if usable and not draining else 0
            if wanted or channel.granted.slots or channel.asked:
                channel.granted = permits.settle(runner, pk, wanted, channel.busy)
                channel.asked = wanted
        self._dedicated = {(row.model, row.tenant_id) for row in rows.values() if row.tenant_id}
        for pk in set(self._pump.channels) - set(rows):
            self._pump.channels[pk].granted = permits.NOTHING
        for held in self.held.values():  # nobody is left who could take its lines
            held.stopped = held.stopped or held.lane not in self._enabled

    def _channel(self, row: Upstream, key: LaneKey) -> Channel:
        """The upstream's channel; a new one when its model or tenant was changed, once the old one is at rest."""
        channel = self._pump.channels.get(row.pk)
        if channel is None or (channel.key != key and not channel.busy):
            if channel is not None:
                channel.granted = permits.NOTHING
            channel = self._pump.channels[row.pk] = Channel(row, self._pump.lane(key), key)
        if channel.key == key:
            channel.refresh(row)
        return channel

    def tell_figures(self, runner: Runner) -> None:
        """Let the database know how the upstreams do: engine/health.py."""
        for channel in self._pump.channels.values():
            figures = channel.figures(time.monotonic())
            if channel.told != (runner.pk, *figures):
                mine = Permit.objects.filter(upstream=channel.id, runner=runner)
                mine.update(**dict(zip(Permit.FIGURES, figures, strict=True)))
                channel.told = (runner.pk, *figures)

    def tell_counts(self) -> None:
        """Add what upstreams answered to this process's metrics."""
        for channel in self._pump.channels.values():
            channel.tally.tell(channel.id, channel.public_model)

    def note_waits(self) -> None:
        """Let the database know of slices in hand that stand still because all their lines wait."""
        now = time.monotonic()
        for lane in self._pump.lanes.values():
            for held, until in lane.waits().items():
                if until > max(now + NOTED, held.waits_until):
                    leases.note_wait(held.claim, clock.now() + timedelta(seconds=until - now))
                    held.waits_until = until

    def claim(self, runner: Runner) -> None:
        """Claim for the lanes that run low; one that finds nothing is not asked again for a moment."""
        if self._suspects(runner):
            self._pump.hungry_below.clear()
            return
        for key, channels in self._enabled.items():
            lane = self._pump.lane(key)
            lane.drop_stopped()
            slots = sum(channel.granted.limit for channel in channels)
            low = slots + int(self._speed(key).measure(lane.finished) * SPEED_WINDOW)
            self._pump.hungry_below[key] = low // 2
            if len(lane.ready) >= max(low, 1):
                continue
            full = self.unfinished(key) > MAX_HELD or self._held_bytes() > MAX_HELD_BYTES
            if full or time.monotonic() < self._asked_again.get(key, 0.0):
                self._pump.hungry_below[key] = 0
                continue
            if not self._claim_for(runner, key, channels, max(low, 1) - len(lane.ready)):
                self._asked_again[key] = time.monotonic() + PAUSE
                self._pump.hungry_below[key] = 0

    def _suspects(self, runner: Runner) -> bool:
        """Whether a suspect slice is in hand, or hands are being emptied for one."""
        if self._parole is not None:
            if not self.held or not self._parole.widen(self._pump):
                self._end_parole()
            return True
        if time.monotonic() < self._looks_at:
            return False
        wanted = {key: channels for key, channels in self._enabled.items() if self._claimable(key, suspects=True)}
        if wanted and self.held:
            for held in self.held.values():
                held.stopped = True
            return True
        self._looks_at = time.monotonic() + SUSPECT_LOOK
        return any(self._claim_for(runner, key, channels, 1, suspects=True) for key, channels in wanted.items())

    def _end_parole(self) -> None:
        """Every line of it was sent and its runner lives, or it is gone: look for the next one at once."""
        self._parole, self._looks_at = None, 0.0
        for held in self.held.values():
            held.claim.suspect = False

    def _held_bytes(self) -> int:
        return sum(held.claim.length for held in self.held.values())

    def _speed(self, key: LaneKey) -> Speed:
        return self._speeds.setdefault(key, Speed(self._pump.lane(key).finished))

    def _claim_for(
        self, runner: Runner, key: LaneKey, channels: list[Channel], lines: int, suspects: bool = False
    ) -> bool:
        """Claim slices of one lane. Slots come first: a slice in hand that can't be sent is of no use to anybody."""
        if not any(channel.granted.limit for channel in channels):
            if not self._claimable(key, suspects):
                return False
            runners = max(1, leases.live_runners())
            for channel in channels:  # a share for each runner: the others are about to ask for theirs
                channel.asked = -(-channel.max_in_flight // runners)
                channel.granted = permits.settle(runner, channel.id, channel.asked, channel.busy)
            slots = sum(channel.granted.limit for channel in channels)
            lines = min(lines, slots) if suspects else slots
        claims = leases.claim(runner, self._of_lane(key), lines, suspects) if lines else []
        for claim in claims:
            batch, tenant = claim.named
            with observed.within(batch=batch, tenant=tenant):
                self._take_in_hand(claim, key)
        return bool(claims)

    def _claimable(self, key: LaneKey, suspects: bool) -> bool:
        slices = Slice.objects.filter(leases.claimable(clock.now(), suspects), self._of_lane(key))
        return slices.filter(lifecycle.runnable("batch__")).exists()

    def _of_lane(self, key: LaneKey) -> Q:
        model, tenant = key
        if tenant is not None:
            return Q(model=model, tenant_id=tenant)
        return Q(model=model) & ~Q(tenant_id__in=[owner for name, owner in self._dedicated if name == model])

    def _take_in_hand(self, claim: leases.Claim, key: LaneKey) -> None:
        try:
            data = objects.read(claim.plan_key, claim.offset, claim.length)
        except Exception:  # whatever a storage raises: the slice waits, the runner goes on
            log.exception("slice %s: its lines can't be read", claim.slice)
            leases.release(claim, claim.carried, clock.now() + STORAGE_PAUSE)
            return
        held = Held(claim, key)
        lines = held.read(data, leases.finished_lines(claim.batch, held.numbers()))
        if not lines:
            leases.finish(claim)
            return
        self.held[claim.slice] = held
        if claim.suspect:
            self._parole = Parole(held, lines)
        else:
            self._pump.admit(held, lines)
