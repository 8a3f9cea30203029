"""Numbers and times on the console's home."""

from datetime import datetime, timedelta

from django import template

from batches.attainment import Attainment
from batches.web import looks
from billing import money

register = template.Library()


@register.filter
def usd(pico: int) -> str:
    """To whole cents; what is there is never nothing."""
    cents = money.cents(abs(pico))
    if pico and not cents:
        return "under 0.01"
    whole, _, fraction = money.dollars(cents).partition(".")
    return f"{'-' if pico < 0 else ''}{int(whole):,}.{fraction}"


@register.filter
def kept(attained: Attainment) -> str:
    """In percent, rounded down: 100 % is all of them."""
    share = attained.share
    return looks.NONE if share is None else f"{int(share * 10_000 + 0.5) / 100:g} %"


@register.filter
def until(at: datetime | None, now: datetime) -> str:
    """How long until then: "in 12 min"; of what is over, "12 min ago"."""
    if at is None:
        return "nobody knows"
    return looks.ahead(at, now) if at > now else f"{looks.lasted((now - at).total_seconds())} ago"


@register.filter
def lasted(time: timedelta) -> str:
    return looks.lasted(time.total_seconds())


@register.filter
def compact(number: int) -> str:
    """To three digits, beyond 10,000: "12.3 k", "4.56 M", "789 G"."""
    if number < 10_000:
        return f"{number:,}"
    size = float(number)
    for unit in ("k", "M", "G", "T"):
        size /= 1000
        if size < 999.5 or unit == "T":
            break
    return f"{size:.{max(0, 3 - len(str(int(size))))}f} {unit}"
