"""Money: exact decimals, rounding where it is named, and totals that are split without loss."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ledger.domain.errors import InvalidInput
from ledger.domain.money import (
    RoundingMode,
    decimals_of,
    from_scaled,
    minor_units,
    plain,
    round_money,
    round_to,
    scaled_text,
    spread,
    text,
    to_scaled,
    whole_steps,
)


@pytest.mark.parametrize(("currency", "decimals"), [("USD", 2), ("JPY", 0), ("KWD", 3)])
def test_a_currency_has_its_minor_unit(currency: str, decimals: int) -> None:
    """ISO 4217 says how many decimals are paid."""
    assert minor_units(currency) == decimals


@pytest.mark.parametrize("currency", ["usd", "XXX", "", "DEM"])
def test_what_is_no_currency_in_use_is_refused(currency: str) -> None:
    """Lower case, none at all, or one of the past."""
    with pytest.raises(InvalidInput) as refused:
        minor_units(currency)
    assert refused.value.code == "unknown_currency"


@pytest.mark.parametrize(
    ("number", "canonical", "decimals"),
    [
        ("1E+2", "100", 0),
        ("1.500", "1.5", 1),
        ("-0", "0", 0),
        ("0.000", "0", 0),
        ("-0.10", "-0.1", 1),
        ("1E-18", "0.000000000000000001", 18),
        ("-1.50E-7", "-0.00000015", 8),
        ("1.230E+3", "1230", 0),
        ("0E+5", "0", 0),
        ("-0E-9", "0", 0),
        ("100", "100", 0),
    ],
)
def test_decimals_have_one_text(number: str, canonical: str, decimals: int) -> None:
    """No exponent, no trailing zeros, no negative zero."""
    assert text(Decimal(number)) == canonical
    assert plain(Decimal(number)).as_tuple() == Decimal(canonical).as_tuple()
    assert decimals_of(Decimal(number)) == decimals


@pytest.mark.parametrize(
    ("number", "decimals", "shown"),
    [(120200, 7, "0.01202"), (-5, 1, "-0.5"), (0, 6, "0"), (7, 0, "7"), (1_000_000, 6, "1")],
)
def test_scaled_integers_are_shown_as_decimals(number: int, decimals: int, shown: str) -> None:
    """(120200, 7) is 0.01202."""
    assert scaled_text(number, decimals) == shown
    assert from_scaled(number, decimals) == Decimal(shown)
    assert to_scaled(Decimal(shown), decimals) == number


def test_what_does_not_fit_the_scale_is_refused() -> None:
    """Nothing is rounded on the way into a scaled integer."""
    with pytest.raises(InvalidInput) as refused:
        to_scaled(Decimal("0.0000001"), 6)
    assert refused.value.code == "too_precise"


@pytest.mark.parametrize(
    ("mode", "rounded"),
    [
        (RoundingMode.HALF_EVEN, ["0.12", "0.14", "-0.12"]),
        (RoundingMode.HALF_UP, ["0.13", "0.14", "-0.13"]),
        (RoundingMode.UP, ["0.13", "0.14", "-0.13"]),
        (RoundingMode.DOWN, ["0.12", "0.13", "-0.12"]),
    ],
)
def test_ties_go_where_the_mode_says(mode: RoundingMode, rounded: list[str]) -> None:
    """Up and down are away from and to zero."""
    numbers = [Decimal("0.125"), Decimal("0.135"), Decimal("-0.125")]
    assert [str(round_to(number, 2, mode)) for number in numbers] == rounded


def test_money_is_rounded_half_even_to_the_minor_unit() -> None:
    """Cents, yen, fils."""
    assert round_money(Decimal("0.125"), "USD") == Decimal("0.12")
    assert round_money(Decimal("0.5"), "JPY") == 0
    assert round_money(Decimal("0.0015"), "KWD") == Decimal("0.002")


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        ("1.00", "1 1 1", "0.34 0.33 0.33"),
        ("-1.00", "1 1 1", "-0.34 -0.33 -0.33"),
        ("0.05", "3 7", "0.02 0.03"),
        ("0.10", "5 1", "0.08 0.02"),
        ("0.05", "0 0", "0.03 0.02"),
        ("0.01", "0 1", "0 0.01"),
        ("10.00", "0.1 0.2 0.7", "1 2 7"),
    ],
)
def test_a_rounded_total_is_spread_by_largest_remainder(
    total: str, weights: str, parts: str
) -> None:
    """Ties go to the earlier part; parts sum to the total."""
    split = spread(Decimal(total), [Decimal(one) for one in weights.split()], 2)
    assert split == [Decimal(one) for one in parts.split()]


def test_spreading_refuses_negative_weights_and_unrounded_totals() -> None:
    """And no weights take no parts."""
    assert spread(Decimal(1), [], 2) == []
    with pytest.raises(InvalidInput) as refused:
        spread(Decimal(1), [Decimal(-1)], 2)
    assert refused.value.code == "invalid_weight"
    with pytest.raises(InvalidInput):
        spread(Decimal("0.001"), [Decimal(1)], 2)


@pytest.mark.parametrize(
    ("value", "step", "up", "down", "half_up", "half_even"),
    [
        ("7", "2", 4, 3, 4, 4),
        ("5", "2", 3, 2, 3, 2),
        ("100", "3", 34, 33, 33, 33),
        ("6", "3", 2, 2, 2, 2),
        ("0", "3", 0, 0, 0, 0),
        ("0.000001", "1000", 1, 0, 0, 0),
    ],
)
def test_steps_are_counted_from_the_exact_quotient(
    value: str, step: str, up: int, down: int, half_up: int, half_even: int
) -> None:
    """Also where the quotient has no end."""
    counted = [whole_steps(Decimal(value), Decimal(step), mode) for mode in RoundingMode]
    assert dict(zip(RoundingMode, counted, strict=True)) == {
        RoundingMode.UP: up,
        RoundingMode.DOWN: down,
        RoundingMode.HALF_UP: half_up,
        RoundingMode.HALF_EVEN: half_even,
    }
