"""Money is whole pico-USD: exact against fractions, and never more than half of the standard price."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batches.core.answers import MAX_TOKENS
from billing.money import FREE, MILLION, PICO, Rates, cost, discounted, rate, usd
from tests.core import searched

PRICES = st.decimals(0, 1_000, places=6, allow_nan=False)
DISCOUNTS = st.integers(50, 100)
TOKENS = st.integers(0, MAX_TOKENS)
RATES = st.builds(Rates, *[st.integers(0, 10**16)] * 3)
BIGINT = 2**63 - 1


def rates_of(*prices: Decimal, discount: int = 50) -> Rates:
    fresh, cached, made = (discounted(rate(f"{price:f}"), discount) for price in prices)
    return Rates(fresh, cached, made, discount)


@pytest.mark.parametrize(
    ("price", "pico"),
    [
        ("0", 0), ("0.000001", 1), ("0.075", 75_000), ("0.15", 150_000), ("1", MILLION), ("1.00", MILLION), ("2.50", 2_500_000),
        ("0.1500000000", 150_000), ("0.999999", 999_999), ("1000", 10**9), ("00.5", 500_000),
    ],
)  # fmt: skip
def test_a_price_is_a_whole_number_of_pico_a_token(price: str, pico: int) -> None:
    assert rate(price) == pico


@pytest.mark.parametrize(
    "price",
    [
        "", " ", "abc", "1,5", "0x10", "$1", "1 USD", "1.2.3", "-1", "-0.000001", "nan", "sNaN", "inf", "-inf", "1000000.000001",
        "1e7", "1e999999", "0.0000001", "0.1500001", "1e-7", "1e-400", "0.00000049999", "1e999999999999999999999",
    ],
)  # fmt: skip
def test_what_is_no_price_is_refused_with_a_reason(price: str) -> None:
    with pytest.raises(ValueError, match=r"price|decimals"):
        rate(price)


@pytest.mark.parametrize("price", ["0.15" + "0" * 28 + "1", "1e-2000000", "1e-999999999999999999"])
def test_a_price_with_very_many_decimals_is_refused_too(price: str) -> None:
    with pytest.raises(ValueError, match=r"price|decimals"):
        rate(price)


@pytest.mark.parametrize("price", ["1_0", "１", "١"])
def test_a_price_is_written_in_plain_digits(price: str) -> None:
    with pytest.raises(ValueError, match="price"):
        rate(price)


@given(PRICES)
@searched
def test_six_decimals_are_exact(price: Decimal) -> None:
    assert Fraction(rate(f"{price:f}"), PICO) == Fraction(price) / MILLION


@given(st.decimals(0, 1_000, places=7, allow_nan=False).filter(lambda price: price != round(price, 6)))
@searched
def test_seven_decimals_are_refused(price: Decimal) -> None:
    with pytest.raises(ValueError, match="6 decimals"):
        rate(f"{price:f}")


def test_the_example_of_the_decisions() -> None:
    assert discounted(rate("0.075")) == 37_500_000_000
    assert cost(rates_of(Decimal("0.075"), Decimal(0), Decimal(0)), 1, 0, 0) == 37_500


@given(st.integers(0, 10**18), DISCOUNTS)
@searched
def test_what_a_discount_leaves_of_any_standard_rate_is_whole(standard: int, discount: int) -> None:
    assert 2 * discounted(standard) == standard * MILLION
    assert 100 * discounted(standard, discount) == standard * MILLION * (100 - discount)


def exact(rates: Rates, taken: int, cached: int, made: int) -> Fraction:
    """Pico-USD of a line, with nothing rounded."""
    return Fraction((taken - cached) * rates.input + cached * rates.cached_input + made * rates.output, MILLION)


@given(RATES, TOKENS, TOKENS, TOKENS)
@searched
def test_a_cost_is_exact_but_for_a_part_of_one_pico_that_is_given_away(
    rates: Rates, taken: int, cached: int, made: int
) -> None:
    cached = min(cached, taken)
    assert 0 <= exact(rates, taken, cached, made) - cost(rates, taken, cached, made) < 1


@given(PRICES, PRICES, PRICES, TOKENS, TOKENS, TOKENS, DISCOUNTS)
@example(Decimal("0.000001"), Decimal("0.000001"), Decimal("0.000001"), 1, 1, 1, 50)
@searched
def test_a_batch_is_never_dearer_than_half_of_the_standard_price(
    price: Decimal, cached_price: Decimal, output_price: Decimal, taken: int, cached: int, made: int, discount: int
) -> None:
    cached = min(cached, taken)
    standard = Fraction(price) * (taken - cached) + Fraction(cached_price) * cached + Fraction(output_price) * made
    rates = rates_of(price, cached_price, output_price, discount=discount)
    charged = Fraction(cost(rates, taken, cached, made), PICO)
    left = standard / MILLION * (100 - discount) / 100
    assert charged <= left <= standard / MILLION / 2
    assert left - charged < Fraction(1, PICO)


@given(RATES, TOKENS, st.integers(-10, 2 * MAX_TOKENS), TOKENS)
@searched
def test_cached_tokens_are_a_part_of_the_input_whatever_is_said(
    rates: Rates, taken: int, cached: int, made: int
) -> None:
    assert cost(rates, taken, cached, made) == cost(rates, taken, min(max(cached, 0), taken), made)


@given(RATES, TOKENS, TOKENS)
@searched
def test_more_tokens_are_never_cheaper_and_none_are_free(rates: Rates, some: int, more: int) -> None:
    assert cost(rates, some, 0, 0) <= cost(rates, some + more, 0, 0)
    assert cost(rates, some, 0, some) <= cost(rates, some, 0, some + more)
    assert cost(rates, 0, 0, 0) == cost(FREE, some, more, more) == 0


def dearest_line(price: str) -> int:
    """Pico-USD of the most tokens that are believed, at `price` for all of them; 0 where that is no price."""
    try:
        rates = rates_of(*[Decimal(price)] * 3)
    except ValueError:
        return 0
    return max(*rates, cost(rates, MAX_TOKENS, 0, MAX_TOKENS))


def test_the_dearest_line_fits_its_column() -> None:
    assert 0 < dearest_line("1000") <= BIGINT


@pytest.mark.parametrize("price", ["9224", "10000", "1000000"])
def test_no_price_is_taken_at_which_a_line_could_not_be_stored(price: str) -> None:
    assert dearest_line(price) <= BIGINT


@pytest.mark.parametrize(
    ("pico", "shown"),
    [
        (0, "0"), (1, "0.000000000001"), (12_345_000, "0.000012345"), (37_500, "0.0000000375"), (PICO, "1"),
        (PICO + 1, "1.000000000001"), (15 * 10**11, "1.5"), (10 * PICO, "10"), (1000 * PICO, "1000"), (10**38 - 1, "9" * 26 + "." + "9" * 12),
        (10**37 + 1, "1" + "0" * 25 + ".000000000001"),
    ],
)  # fmt: skip
def test_dollars_are_shown_exactly(pico: int, shown: str) -> None:
    assert usd(pico) == shown


@given(st.integers(0, 10**38 - 1))
@searched
def test_dollars_are_exact_without_exponent_or_needless_zeros(pico: int) -> None:
    shown = usd(pico)
    assert Fraction(shown) * PICO == pico
    assert set(shown) <= set("0123456789.")
    assert shown == shown.strip("0") or "." not in shown or shown.startswith("0.")
    assert "." not in shown or shown[-1] not in "0."


@pytest.mark.parametrize(("pico", "shown"), [(-1, "-0.000000000001"), (-15 * 10**11, "-1.5"), (-PICO // 2, "-0.5")])
def test_a_credit_is_shown_with_its_sign(pico: int, shown: str) -> None:
    assert usd(pico) == shown
