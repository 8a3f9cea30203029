"""The caps of a batch: what pauses it, and what may be written as one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batches.core.caps import MAX_COST, MAX_ERROR_RATE, MEASURED, Caps, error_rate, pause_reason
from billing.money import MAX_AMOUNT, PICO, amount, usd
from tests.core import searched


@pytest.mark.parametrize(
    ("caps", "cost", "completed", "failed", "reason"),
    [
        (Caps(), 10**18, 0, 10**6, ""),
        (Caps(cost=100), 99, 5, 0, ""),
        (Caps(cost=100), 100, 5, 0, MAX_COST),
        (Caps(cost=100), 101, 5, 0, MAX_COST),
        (Caps(error_rate=0.1), 0, 45, 5, ""),
        (Caps(error_rate=0.1), 0, 44, 6, MAX_ERROR_RATE),
        (Caps(error_rate=0.1), 0, 0, MEASURED - 1, ""),
        (Caps(error_rate=0.1), 0, 0, MEASURED, MAX_ERROR_RATE),
        (Caps(error_rate=1.0), 0, 0, 10**6, ""),
        (Caps(cost=1, error_rate=0.1), 1, 0, MEASURED, MAX_COST),
        (Caps(cost=2, error_rate=0.1), 1, 0, MEASURED, MAX_ERROR_RATE),
    ],
)
def test_what_pauses_a_batch(caps: Caps, cost: int, completed: int, failed: int, reason: str) -> None:
    assert pause_reason(caps, cost, completed, failed) == reason


@given(st.integers(1, 99), st.integers(1, 500))
@searched
def test_a_rate_that_is_just_met_does_not_pause(percent: int, hundreds: int) -> None:
    """Exactly, although the share is a float: n of 100 n lines, for every percent."""
    caps, finished, failed = Caps(error_rate=error_rate(f"0.{percent:02}")), 100 * hundreds, percent * hundreds
    assert not pause_reason(caps, 0, finished - failed, failed)
    assert pause_reason(caps, 0, finished - failed - 1, failed + 1)


@pytest.mark.parametrize(("value", "share"), [("0.1", 0.1), ("1", 1.0), ("1.0", 1.0), (0.25, 0.25), (1, 1.0)])
def test_a_share(value: Any, share: float) -> None:
    assert error_rate(value) == share


@pytest.mark.parametrize(
    "value",
    ["", "0", "0.0", "1.1", "2", "-0.1", "+0.1", ".1", "1e-1", " 0.1", "0,1", "nan", "10%", "٠.١", 0, -1, 1.5, True, [], {}, float("nan")],
)  # fmt: skip
def test_what_is_no_share(value: Any) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.1"):
        error_rate(value)


@given(st.integers(1, MAX_AMOUNT * PICO))
@searched
def test_an_amount_is_read_as_it_is_shown(pico: int) -> None:
    assert amount(usd(pico)) == pico


@pytest.mark.parametrize(
    ("text", "pico"),
    [("12.50", 12_500_000_000_000), ("0.000000000001", 1), ("0.0000000000010000", 1), ("007", 7 * PICO), ("1000000", PICO * 10**6)],
)  # fmt: skip
def test_an_amount_is_exact(text: str, pico: int) -> None:
    assert amount(text) == pico


@pytest.mark.parametrize(
    "text",
    ["", "0", "0.00", "-1", "+1", "1e3", ".5", "5.", "1,5", " 1", "1 ", "$1", "١", "0.0000000000001", "1000000.000000000001", "9" * 400],
)  # fmt: skip
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="USD"):
        amount(text)
