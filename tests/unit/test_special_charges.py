"""Transactions, capacity, levels and shares of a period, and tax: their rules by example."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ledger.domain.capacity import CapacityModel, CapacityTier
from ledger.domain.charge_models import Rounding, graduated, per_unit, volume
from ledger.domain.errors import InvalidInput
from ledger.domain.money import RoundingMode
from ledger.domain.proration import LevelMove, level_move, rate_levels, share_of
from ledger.domain.taxes import tax_on
from ledger.domain.tiers import Tier
from ledger.domain.transactions import TransactionModel

D = Decimal
FOUR = [D(20), D(30), D(50), D(100)]


@pytest.mark.parametrize(
    ("members", "amounts"),
    [
        ({}, ["0.4", "0.6", "1", "2"]),
        ({"fee": D(1)}, ["1.4", "1.6", "2", "3"]),
        ({"min_amount": D("0.8")}, ["0.8", "0.8", "1", "2"]),
        ({"fee": D(1), "max_amount": D(2)}, ["1.4", "1.6", "2", "2"]),
        ({"fee": D(1), "free_events": 2}, ["0", "0", "2", "3"]),
        ({"fee": D(1), "free_events": 9}, ["0", "0", "0", "0"]),
        ({"fee": D(1), "free_events": 0}, ["1.4", "1.6", "2", "3"]),
        ({"fee": D(1), "free_amount": D(35)}, ["0", "1.3", "2", "3"]),
        ({"fee": D(1), "free_amount": D(50)}, ["0", "1", "2", "3"]),
        ({"fee": D(1), "free_amount": D(35), "free_events": 1}, ["0", "1.6", "2", "3"]),
        ({"fee": D(1), "free_amount": D(35), "free_events": 3}, ["0", "1.3", "2", "3"]),
        ({"min_amount": D("0.8"), "free_amount": D(35)}, ["0", "0.8", "1", "2"]),
    ],
)
def test_each_transaction_costs_its_share(members: dict[str, Any], amounts: list[str]) -> None:
    """Two percent; what ends the free money pays for its rest, with fee and least amount."""
    model = TransactionModel(percent=D(2), **members)
    assert model.amounts(FOUR) == tuple(map(D, amounts))
    assert model.charge(FOUR) == sum(map(D, amounts))


def test_totals_are_enough_where_no_limit_is_by_event() -> None:
    """Two hundred in four events, the first fifty free."""
    model = TransactionModel(percent=D(2), fee=D(1), free_events=2)
    assert model.charge_totals(D(200), events=4, free_totals=[D(20), D(50)]) == 5
    assert model.charge_totals(D(0), events=4) == 0
    with pytest.raises(InvalidInput):
        TransactionModel(percent=D(2), max_amount=D(1)).charge_totals(D(200), events=4)


@pytest.mark.parametrize(
    ("members", "code", "pointer"),
    [
        ({"percent": D(-1)}, "invalid_rate", "/percent"),
        ({"fee": D(-1)}, "invalid_fee", "/fee"),
        ({"free_events": -1}, "invalid_free_quantity", "/free_events"),
        ({"free_amount": D("NaN")}, "invalid_free_quantity", "/free_amount"),
        ({"min_amount": D(3), "max_amount": D(2)}, "invalid_limit", "/min_amount"),
    ],
)
def test_what_is_no_price_of_transactions_is_refused(
    members: dict[str, Any], code: str, pointer: str
) -> None:
    """Each refusal has its code and the place of the member."""
    with pytest.raises(InvalidInput) as refused:
        TransactionModel(**{"percent": D(1), **members})
    assert (refused.value.code, refused.value.pointer) == (code, pointer)
    with pytest.raises(InvalidInput) as refused:
        TransactionModel(percent=D(1)).charge([D(1), D(-1)])
    assert (refused.value.code, refused.value.pointer) == ("invalid_quantity", "/events/1")


def capacity(*tiers: tuple[str, str | None, str | None]) -> CapacityModel:
    """Return a capacity of calls and pages."""
    return CapacityModel(
        tiers=tuple(
            CapacityTier(
                price=D(price),
                limits={
                    "calls": None if calls is None else D(calls),
                    "pages": None if pages is None else D(pages),
                },
            )
            for price, calls, pages in tiers
        )
    )


@pytest.mark.parametrize(
    ("calls", "pages", "price"),
    [("0", "0", "5"), ("10", "3", "5"), ("11", "0", "8"), ("0", "3.1", "8"), ("90", "0", "30")],
)
def test_the_smallest_tier_that_holds_everything_is_owed(
    calls: str, pages: str, price: str
) -> None:
    """Limits themselves still fit."""
    model = capacity(("5", "10", "3"), ("8", "40", "3.5"), ("30", None, None))
    assert model.charge({"calls": D(calls), "pages": D(pages)}) == D(price)
    assert model.charge({}) == 5


@pytest.mark.parametrize(
    ("tiers", "code", "pointer"),
    [
        ([], "invalid_tiers", "/tiers"),
        ([("5", "10", None)], "invalid_tiers", "/tiers/0/limits"),
        ([("-5", None, None)], "invalid_fee", "/tiers/0/price"),
        ([("5", "9", "-1"), ("8", None, None)], "invalid_tiers", "/tiers/0/limits/pages"),
        (
            [("5", "10", "3"), ("8", "9", "4"), ("9", None, None)],
            "overlapping_tiers",
            "/tiers/1/limits/calls",
        ),
        (
            [("5", None, "3"), ("8", "9", "4"), ("9", None, None)],
            "overlapping_tiers",
            "/tiers/1/limits/calls",
        ),
    ],
)
def test_what_is_no_capacity_is_refused(
    tiers: list[tuple[str, str | None, str | None]], code: str, pointer: str
) -> None:
    """Tiers grow in every meter, and the last one has no limits."""
    with pytest.raises(InvalidInput) as refused:
        capacity(*tiers)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_a_meter_without_limits_is_refused() -> None:
    """Neither in the quantities nor between tiers."""
    with pytest.raises(InvalidInput) as refused:
        capacity(("5", None, None)).charge({"images": D(1)})
    assert refused.value.code == "invalid_meter"
    first = CapacityTier(price=D(1), limits={"calls": D(1)})
    with pytest.raises(InvalidInput) as refused:
        CapacityModel(tiers=(first, CapacityTier(price=D(2), limits={"pages": None})))
    assert refused.value.pointer == "/tiers/1/limits"


@pytest.mark.parametrize(
    ("amount", "part", "whole", "decimals", "mode", "share"),
    [
        ("30", 10, 30, 2, RoundingMode.HALF_EVEN, "10"),
        ("100", 1, 3, 2, RoundingMode.HALF_EVEN, "33.33"),
        ("100", 1, 3, 2, RoundingMode.UP, "33.34"),
        ("-100", 1, 3, 2, RoundingMode.UP, "-33.34"),
        ("0.25", 1, 10, 2, RoundingMode.HALF_EVEN, "0.02"),
        ("0.25", 1, 10, 2, RoundingMode.HALF_UP, "0.03"),
        ("100", 1, 3, 18, RoundingMode.HALF_EVEN, "33.333333333333333333"),
    ],
)
def test_a_share_is_rounded_once(
    amount: str, part: int, whole: int, decimals: int, mode: RoundingMode, share: str
) -> None:
    """From the exact quotient, away from zero for `up` on either side of it."""
    got = share_of(D(amount), part=part, whole=whole, decimals=decimals, mode=mode)
    assert got == D(share)


@pytest.mark.parametrize(("part", "whole"), [(-1, 30), (31, 30), (0, 0), (1, -1)])
def test_what_is_no_share_is_refused(part: int, whole: int) -> None:
    """Within the period, which has a length."""
    with pytest.raises(InvalidInput) as refused:
        share_of(D(1), part=part, whole=whole)
    assert refused.value.code == "invalid_proration"


SEATS = graduated([Tier(up_to=D(3), rate=D(12), flat=D(40)), Tier(rate=D(6), flat=D(10))])
CENTS = Rounding(decimals=2)


@pytest.mark.parametrize(
    ("moves", "amount"),
    [
        ([], "40"),
        ([(2, 30)], "64"),
        ([(2, 15)], "52"),
        ([(4, 30)], "92"),
        ([(4, 10)], "64"),
        ([(4, 30), (-4, 15)], "71"),
        ([(2, 30), (2, 20), (-1, 10)], "84"),
        ([(5, 0)], "40"),
        ([(5, 0), (-5, 0)], "40"),
        ([(1, 30), (-2, 10)], "0"),
    ],
)
def test_a_level_is_charged_for_as_long_as_it_lasts(
    moves: list[tuple[int, int]], amount: str
) -> None:
    """Seats over thirty days, with the days left at each change; fees follow the highest level."""
    made = [level_move(D(units), left=left, whole=30) for units, left in moves]
    assert rate_levels(SEATS, made, rounding=CENTS) == D(amount)


def test_a_level_needs_graduated_tiers_and_weights_that_are_shares() -> None:
    """A volume price has no unit price between two levels."""
    with pytest.raises(InvalidInput) as refused:
        rate_levels(volume([Tier(rate=D(1))]), [], rounding=CENTS)
    assert refused.value.code == "invalid_tiers"
    for units, weighted in [("2", "2.1"), ("2", "-1"), ("0", "1"), ("NaN", "1"), ("1", "NaN")]:
        move = LevelMove(units=D(units), weighted=D(weighted))
        with pytest.raises(InvalidInput) as refused:
            rate_levels(per_unit(D(1)), [move], rounding=CENTS)
        assert refused.value.code == "invalid_proration"


@pytest.mark.parametrize(
    ("net", "percent", "currency", "tax"),
    [
        ("10.00", "19", "EUR", "1.90"),
        ("0.50", "5", "EUR", "0.02"),
        ("-0.70", "5", "EUR", "-0.04"),
        ("333", "10", "JPY", "33"),
        ("1.234", "5", "KWD", "0.062"),
        ("50", "0", "USD", "0"),
        ("50", "100", "USD", "50"),
    ],
)
def test_tax_is_rounded_to_the_minor_unit(net: str, percent: str, currency: str, tax: str) -> None:
    """Half to even, as all money, unless another rule is named."""
    assert tax_on(D(net), percent=D(percent), currency=currency) == D(tax)


def test_tax_follows_the_rule_that_is_named() -> None:
    """2.5 cents are three where halves go up."""
    got = tax_on(D("0.50"), percent=D(5), currency="EUR", mode=RoundingMode.HALF_UP)
    assert got == D("0.03")


@pytest.mark.parametrize("percent", ["-1", "100.000001", "NaN", "0.0000001"])
def test_what_is_no_tax_rate_is_refused(percent: str) -> None:
    """Nobody owes more tax than the price."""
    with pytest.raises(InvalidInput) as refused:
        tax_on(D(1), percent=D(percent), currency="EUR")
    assert (refused.value.code, refused.value.pointer) == ("invalid_tax_rate", "/tax_percent")


def test_tax_needs_a_currency_in_use() -> None:
    """Its minor unit is what tax is rounded to."""
    with pytest.raises(InvalidInput) as refused:
        tax_on(D(1), percent=D(5), currency="XYZ")
    assert refused.value.code == "unknown_currency"
