"""Exact arithmetic in pico-USD (10^-12), pure: no floats, no Django.

A batch rate is pico-USD per MILLION tokens, so that half of any whole standard rate is whole too.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

PICO = 10**12
MILLION = 10**6
LEAST_DISCOUNT = 50  # percent: a batch never costs more than half of the standard price
CENT = PICO // 100
PRICE_DECIMALS = 6
AMOUNT_DECIMALS = 12
_DECIMAL = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,40}))?")
MAX_PRICE = 10_000  # USD per million tokens: a line's cost fits in 63 bits
MAX_AMOUNT = 1_000_000  # USD


class Rates(NamedTuple):
    """Frozen batch rates of one model, pico-USD per million tokens."""

    input: int
    cached_input: int
    output: int
    discount: int = LEAST_DISCOUNT  # percent of the standard price: these are what is left of it


FREE = Rates(0, 0, 0)


def rate(usd_per_million: str) -> int:
    """Pico-USD per token of a standard price in USD per million tokens. Raises ValueError with the cure."""
    match = _DECIMAL.fullmatch(usd_per_million)
    if match is None:
        raise ValueError(f"{usd_per_million[:40]!r} is not a price: write USD per million tokens, such as 0.15.")
    whole, decimals = match[1], (match[2] or "").rstrip("0")
    if len(decimals) > PRICE_DECIMALS:
        raise ValueError("A price has at most 6 decimals: it is a whole number of pico-USD a token.")
    pico = int(whole + decimals.ljust(PRICE_DECIMALS, "0"))
    if pico > MAX_PRICE * MILLION:
        raise ValueError(f"A price is at most {MAX_PRICE:,} USD per million tokens.")
    return pico


def amount(usd: str) -> int:
    """Pico-USD of a positive sum such as "12.50", exactly. Raises ValueError with the cure."""
    match = _DECIMAL.fullmatch(usd)
    if match is None:
        raise ValueError("Write USD as a decimal, such as 12.50.")
    whole, decimals = match[1], (match[2] or "").rstrip("0")
    if len(decimals) > AMOUNT_DECIMALS:
        raise ValueError(f"USD has at most {AMOUNT_DECIMALS} decimals here.")
    pico = int(whole + decimals.ljust(AMOUNT_DECIMALS, "0"))
    if not 0 < pico <= MAX_AMOUNT * PICO:
        raise ValueError(f"Write more than 0 and at most {MAX_AMOUNT:,} USD.")
    return pico


def discounted(standard: int, discount: int = LEAST_DISCOUNT) -> int:
    """The batch rate (pico-USD per million tokens) of a standard rate (pico-USD per token); exact at any percent."""
    return standard * MILLION * (100 - discount) // 100


def share(discounts: Iterable[int]) -> str | None:
    """The discount of several models as a share of 1 ("0.5"); None where they differ, or there is none."""
    found = set(discounts)
    return usd(found.pop() * PICO // 100) if len(found) == 1 else None


def cents(pico: int) -> int:
    """Whole cents, half a cent up: the one rounding there is, of an invoice's sum."""
    return (2 * pico + CENT) // (2 * CENT)


def dollars(cents: int) -> str:
    """Whole cents in USD, always with both decimals ("12.30")."""
    return f"{cents // 100}.{cents % 100:02d}"


def cost(rates: Rates, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Pico-USD of one line; `cached_tokens` is a part of `input_tokens`. A fraction of a pico is not charged."""
    cached = min(max(cached_tokens, 0), input_tokens)
    total = (input_tokens - cached) * rates.input + cached * rates.cached_input + output_tokens * rates.output
    return total // MILLION


def most(rates: Rates, input_tokens: int, output_tokens: int) -> int:
    """Pico-USD of lines with these tokens in all, whether or not a prefix cache has their input."""
    return max(cost(rates, input_tokens, cached, output_tokens) for cached in (0, input_tokens))


def usd(pico: int) -> str:
    """A decimal string in USD: exact, no exponent, no needless zeros ("0.000012345")."""
    whole, fraction = divmod(abs(pico), PICO)
    digits = f"{fraction:012d}".rstrip("0")
    sign = "-" if pico < 0 else ""
    return f"{sign}{whole}.{digits}" if digits else f"{sign}{whole}"


def per_million(pico_per_token: int) -> str:
    """A standard price, USD per million tokens, as it is typed."""
    return usd(pico_per_token * MILLION)
