"""Charge models: the order of their steps, what the close adds, what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ledger.domain.charge_lines import rate_line, split_period
from ledger.domain.charge_models import (
    ChargeModel,
    Commitment,
    Conversion,
    Operation,
    Rounding,
    graduated,
    package,
    per_unit,
    percentage,
    rate_windows,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.money import RoundingMode
from ledger.domain.tiers import Tier

D = Decimal
AT_TWO = (Tier(rate=D(2)),)
HOURS = Conversion(
    operation=Operation.DIVIDE, factor=D(3600), rounding=Rounding(mode=RoundingMode.UP)
)


@pytest.mark.parametrize(
    ("members", "quantity", "charge"),
    [
        ({}, "7", "14"),
        ({"free_quantity": D(3)}, "7", "8"),
        ({"free_quantity": D(8)}, "7", "0"),
        ({"conversion": HOURS}, "3601", "4"),
        ({"conversion": HOURS, "free_quantity": D("0.5")}, "3601", "3"),
        ({"discount_percent": D(25)}, "7", "10.5"),
        ({"discount_percent": D(100)}, "7", "0"),
        ({"max_amount": D(10)}, "7", "10"),
        ({"discount_percent": D(25), "max_amount": D(10)}, "6", "9"),
        ({"commitment": Commitment(amount=D(6), overage_factor=D(3))}, "7", "30"),
        ({"commitment": Commitment(amount=D(6), overage_factor=D(0))}, "7", "6"),
        ({"commitment": Commitment(quantity=D(5), overage_factor=D(2))}, "7", "18"),
        (
            {
                "commitment": Commitment(quantity=D(5), overage_factor=D(2)),
                "discount_percent": D(50),
            },
            "7",
            "9",
        ),
        (
            {"commitment": Commitment(amount=D(6), overage_factor=D(3)), "max_amount": D(20)},
            "7",
            "20",
        ),
        ({"rounding": Rounding(decimals=1, mode=RoundingMode.DOWN)}, "0.19", "0.3"),
        ({"rounding": Rounding(decimals=-1, mode=RoundingMode.HALF_UP)}, "7.5", "20"),
    ],
)
def test_steps_follow_each_other_in_the_stated_order(
    members: dict[str, Any], quantity: str, charge: str
) -> None:
    """Convert, free units, tiers, discount, overage, maximum."""
    assert ChargeModel(tiers=AT_TWO, **members).charge(D(quantity)) == D(charge)


@pytest.mark.parametrize(
    ("members", "quantity", "true_up", "minimum"),
    [
        ({"min_amount": D(9)}, "2", "0", "5"),
        ({"min_amount": D(9)}, "5", "0", "0"),
        ({"commitment": Commitment(amount=D(9))}, "2", "5", "0"),
        ({"commitment": Commitment(amount=D(9), true_up=False)}, "2", "0", "0"),
        ({"commitment": Commitment(quantity=D(4))}, "1", "6", "0"),
        ({"commitment": Commitment(amount=D(9)), "min_amount": D(12)}, "2", "5", "3"),
        ({"commitment": Commitment(amount=D(9)), "min_amount": D(8)}, "2", "5", "0"),
    ],
)
def test_the_close_adds_what_is_missing(
    members: dict[str, Any], quantity: str, true_up: str, minimum: str
) -> None:
    """First to the commitment, then to the minimum; events never see either."""
    model = ChargeModel(tiers=AT_TWO, **members)
    close = model.at_close(D(quantity))
    assert (close.true_up, close.minimum) == (D(true_up), D(minimum))
    assert model.charge(D(quantity)) == 2 * D(quantity)
    assert model.total(D(quantity)) == 2 * D(quantity) + D(true_up) + D(minimum)


def test_an_event_is_charged_the_difference_and_its_void_takes_it_back() -> None:
    """The fourth unit opens the second package; without it the package is not owed."""
    model = package(D(5), unit_size=D(3))
    assert model.difference(D(2), D(1)) == 0
    assert model.difference(D(3), D(1)) == 5
    assert model.difference(D(4), D(-1)) == -5
    assert model.difference(D(4), D("-0.5")) == 0


def test_a_percentage_is_of_money() -> None:
    """2.9 % of 40."""
    assert percentage(D("2.9")).charge(D(40)) == D("1.16")


def test_windows_run_the_model_anew() -> None:
    """Two windows of three do not reach the tier that six in one would."""
    model = graduated([Tier(up_to=D(4), rate=D(1)), Tier(rate=D(10))])
    assert rate_windows(model, [D(3), D(3)]) == (3, 3)
    assert rate_windows(model, [D(6)]) == (24,)


def test_the_maximum_counts_what_earlier_lines_really_billed() -> None:
    """A line that was billed less than F says leaves more room for the next."""
    model = ChargeModel(tiers=AT_TWO, max_amount=D(20))
    assert rate_line(model, D(6), before=D(6)).amount == 8
    assert rate_line(model, D(6), before=D(6), billed_before=D(5)).amount == 12
    assert rate_line(model, D(6), before=D(6), billed_before=D(20)).amount == 0
    line = rate_line(model, D(6), before=D(6), billed_before=D(15))
    assert (line.gross, line.discount, line.amount) == (12, 7, 5)


def test_a_first_line_bills_what_is_owed_without_use_and_later_ones_do_not() -> None:
    """Three lines of nothing owe one fee; a line after them none."""
    model = graduated([Tier(rate=D(1), flat=D(30))])
    lines = split_period(model, [D(0), D(0), D(2)])
    assert [line.amount for line in lines] == [30, 0, 2]
    assert [line.gross for line in lines] == [30, 0, 2]
    assert not any(line.discount for line in lines)


def test_a_line_shows_only_what_changed() -> None:
    """Inside a tier whose fee is billed there is no part but usage; voids take parts back."""
    model = graduated([Tier(up_to=D(5), flat=D(9)), Tier(rate=D(2), flat=D(4))])
    assert rate_line(model, D(1), before=D(2)).parts == ()
    assert [part.amount for part in rate_line(model, D(3), before=D(4)).parts] == [4, 4]
    assert [part.amount for part in rate_line(model, D(-3), before=D(7)).parts] == [-4, -4]
    assert [part.quantity for part in rate_line(model, D(1), before=D(7)).parts] == [1]


def test_a_period_has_a_line() -> None:
    """Nothing to bill is a line of nothing, not no line."""
    with pytest.raises(InvalidInput) as refused:
        split_period(per_unit(D(1)), [])
    assert refused.value.code == "invalid_quantity"


@pytest.mark.parametrize(
    ("members", "code", "pointer"),
    [
        ({"free_quantity": D(-1)}, "invalid_free_quantity", "/free_quantity"),
        ({"free_quantity": D("NaN")}, "invalid_free_quantity", "/free_quantity"),
        ({"discount_percent": D("100.000001")}, "invalid_discount", "/discount_percent"),
        ({"discount_percent": D(-5)}, "invalid_discount", "/discount_percent"),
        ({"max_amount": D(-1)}, "invalid_limit", "/max_amount"),
        ({"min_amount": D("Infinity")}, "invalid_limit", "/min_amount"),
        ({"min_amount": D(9), "max_amount": D(8)}, "invalid_limit", "/min_amount"),
        (
            {"commitment": Commitment(quantity=D(9)), "max_amount": D(17)},
            "invalid_limit",
            "/commitment",
        ),
        (
            {
                "tiers": (Tier(rate=D("0.000000000001")),),
                "conversion": Conversion(operation=Operation.DIVIDE, factor=D(8)),
            },
            "amount_not_exact",
            "/rounding",
        ),
    ],
)
def test_what_makes_no_model_is_refused(members: dict[str, Any], code: str, pointer: str) -> None:
    """Each refusal has its code and the place of the member."""
    with pytest.raises(InvalidInput) as refused:
        ChargeModel(**{"tiers": AT_TWO, **members})
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_a_model_too_fine_to_be_kept_exactly_is_fine_with_a_rounding() -> None:
    """The refusal of amounts beyond 18 decimals says what would be right, and that is right."""
    model = ChargeModel(
        tiers=(Tier(rate=D("0.000000000001")),),
        conversion=Conversion(operation=Operation.DIVIDE, factor=D(8)),
        rounding=Rounding(decimals=12, mode=RoundingMode.UP),
    )
    assert model.charge(D(1)) == D("0.000000000001")


@pytest.mark.parametrize(
    ("members", "code", "pointer"),
    [
        ({"factor": D(0)}, "invalid_conversion", "/conversion/factor"),
        ({"factor": D(-2)}, "invalid_conversion", "/conversion/factor"),
        (
            {"operation": Operation.DIVIDE, "factor": D(60)},
            "conversion_not_exact",
            "/conversion/factor",
        ),
    ],
)
def test_what_is_no_conversion_is_refused(members: dict[str, Any], code: str, pointer: str) -> None:
    """A division without end needs a rounding."""
    with pytest.raises(InvalidInput) as refused:
        Conversion(**members)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"amount": D(1), "quantity": D(1)},
        {"amount": D(-1)},
        {"quantity": D("NaN")},
        {"amount": D(1), "overage_factor": D(-1)},
    ],
)
def test_what_is_no_commitment_is_refused(members: dict[str, Any]) -> None:
    """Money or units, one of the two."""
    with pytest.raises(InvalidInput) as refused:
        Commitment(**members)
    assert refused.value.code == "invalid_commitment"


@pytest.mark.parametrize("decimals", [-13, 13])
def test_a_rounding_has_bounds(decimals: int) -> None:
    """Nobody rounds to a trillion, or to less than a rate can be."""
    with pytest.raises(InvalidInput) as refused:
        Rounding(decimals=decimals)
    assert refused.value.code == "invalid_rounding"


@pytest.mark.parametrize("quantity", ["-0.000001", "NaN", "1e18", "0.0000001"])
def test_a_quantity_that_no_period_holds_is_refused(quantity: str) -> None:
    """Also as the sum of what was and a void that takes back more."""
    with pytest.raises(InvalidInput) as refused:
        per_unit(D(1)).charge(D(quantity))
    assert refused.value.code == "invalid_quantity"
    with pytest.raises(InvalidInput):
        per_unit(D(1)).difference(D(3), D("-3.000001"))
