"""Amounts and days on pages: every digit there is, and the commas between thousands."""

from batches.web.looks import cents
from billing import money


def dollars(pico: int) -> str:
    """USD of an amount in pico-USD, exactly, with two decimals at least: "-1,204.500001"."""
    whole, _, fraction = cents(money.usd(abs(pico))).partition(".")
    return f"{'-' if pico < 0 else ''}{int(whole):,}.{fraction}"


def percent(part: int, whole: int) -> str:
    """A share with one decimal, rounded down; "" of nothing."""
    return f"{part * 1000 // whole / 10:.1f}%" if whole else ""
