"""Tiers: whose a boundary is, when a fee is due, what a block and a cap do, what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ledger.domain.errors import InvalidInput
from ledger.domain.money import RoundingMode
from ledger.domain.tiers import (
    MAX_TIERS,
    Boundary,
    PartKind,
    Tier,
    TierMode,
    TierRange,
    TierTable,
    tiers_of,
)


def tier(up_to: str | None = None, **members: str | RoundingMode) -> Tier:
    """Return a tier with its numbers as text."""
    numbers: dict[str, Any] = {
        name: value if isinstance(value, RoundingMode) else Decimal(value)
        for name, value in members.items()
    }
    return Tier(up_to=None if up_to is None else Decimal(up_to), **numbers)


LADDER = (tier("8", rate="3", flat="1"), tier("20", rate="2", flat="4"), tier(flat="9"))


@pytest.mark.parametrize(
    ("mode", "boundary", "quantity", "gross"),
    [
        (TierMode.GRADUATED, Boundary.INCLUSIVE, "0", "1"),
        (TierMode.GRADUATED, Boundary.INCLUSIVE, "8", "25"),
        (TierMode.GRADUATED, Boundary.EXCLUSIVE, "8", "29"),
        (TierMode.GRADUATED, Boundary.INCLUSIVE, "8.25", "29.5"),
        (TierMode.GRADUATED, Boundary.INCLUSIVE, "20", "53"),
        (TierMode.GRADUATED, Boundary.EXCLUSIVE, "20", "62"),
        (TierMode.GRADUATED, Boundary.INCLUSIVE, "1000", "62"),
        (TierMode.VOLUME, Boundary.INCLUSIVE, "0", "1"),
        (TierMode.VOLUME, Boundary.INCLUSIVE, "8", "25"),
        (TierMode.VOLUME, Boundary.EXCLUSIVE, "8", "20"),
        (TierMode.VOLUME, Boundary.INCLUSIVE, "20", "44"),
        (TierMode.VOLUME, Boundary.EXCLUSIVE, "20", "9"),
        (TierMode.VOLUME, Boundary.INCLUSIVE, "1000", "9"),
    ],
)
def test_mode_and_boundary_say_which_tier_prices_a_unit(
    mode: TierMode, boundary: Boundary, quantity: str, gross: str
) -> None:
    """The same three tiers under both modes and both boundaries."""
    table = TierTable(tiers=LADDER, mode=mode, boundary=boundary)
    assert table.gross(Decimal(quantity)) == Decimal(gross)


@pytest.mark.parametrize("mode", list(TierMode))
def test_the_first_fee_without_use_is_due_only_if_said(mode: TierMode) -> None:
    """`flat_at_zero` is about nothing at all; the smallest use owes the fee either way."""
    lenient = TierTable(tiers=LADDER, mode=mode, flat_at_zero=False)
    assert lenient.gross(Decimal(0)) == 0
    assert lenient.gross(Decimal("0.000001")) == Decimal("1.000003")


@pytest.mark.parametrize(
    ("blocks", "quantity", "billed", "amount"),
    [
        (RoundingMode.UP, "12.000001", "18", "21"),
        (RoundingMode.UP, "12", "12", "14"),
        (RoundingMode.DOWN, "17.999999", "12", "14"),
        (RoundingMode.HALF_UP, "15", "18", "21"),
        (RoundingMode.HALF_EVEN, "15", "12", "14"),
        (RoundingMode.HALF_EVEN, "15.000001", "18", "21"),
        (RoundingMode.UP, "0", "0", "0"),
    ],
)
def test_a_started_block_counts_as_the_tier_says(
    blocks: RoundingMode, quantity: str, billed: str, amount: str
) -> None:
    """Blocks of 6 units at 7 each."""
    table = TierTable(tiers=(tier(rate="7", unit_size="6", blocks=blocks),))
    (part,) = table.parts(Decimal(quantity))
    assert (part.quantity, part.billed) == (Decimal(quantity), Decimal(billed))
    assert part.amount == Decimal(amount)


def test_blocks_begin_anew_in_each_graduated_tier() -> None:
    """Five units in blocks of two cost three blocks; the next tier counts from its own start."""
    tiers = (
        tier("5", rate="1", unit_size="2", blocks=RoundingMode.UP),
        tier(rate="10", unit_size="4", blocks=RoundingMode.UP),
    )
    assert TierTable(tiers=tiers).gross(Decimal(5)) == 3
    assert TierTable(tiers=tiers).gross(Decimal("5.5")) == 13
    assert TierTable(tiers=tiers).gross(Decimal(9)) == 13


def test_a_rate_of_a_unit_size_charges_its_exact_share() -> None:
    """Per million, without blocks."""
    table = TierTable(tiers=(tier(rate="2.5", unit_size="1000000"),))
    assert table.gross(Decimal(1)) == Decimal("0.0000025")


def test_a_cap_limits_its_own_tier_and_shows_what_it_took_off() -> None:
    """Usage and fee of a tier together; other tiers go on."""
    table = TierTable(tiers=(tier("10", rate="2", flat="1", cap="12"), tier(rate="1")))
    assert table.gross(Decimal(5)) == 11
    assert table.gross(Decimal(15)) == 17
    kinds = [(part.tier, part.kind, part.amount) for part in table.parts(Decimal(15))]
    assert kinds == [
        (0, PartKind.USAGE, Decimal(20)),
        (0, PartKind.FLAT, Decimal(1)),
        (0, PartKind.CAP, Decimal(-9)),
        (1, PartKind.USAGE, Decimal(5)),
    ]


def test_a_tier_without_rate_has_no_usage_part() -> None:
    """A price of nothing is a part; no price is none."""
    assert [part.kind for part in TierTable(tiers=(tier(flat="1"),)).parts(Decimal(3))] == [
        PartKind.FLAT
    ]
    (part,) = TierTable(tiers=(tier(rate="0"),)).parts(Decimal(3))
    assert (part.kind, part.amount) == (PartKind.USAGE, 0)


@pytest.mark.parametrize(
    ("tiers", "code", "pointer"),
    [
        ((), "invalid_tiers", "/tiers"),
        (tuple(tier(rate="1") for _ in range(MAX_TIERS + 1)), "invalid_tiers", "/tiers"),
        ((tier("5", rate="1"),), "invalid_tiers", "/tiers/0/up_to"),
        ((tier(rate="1"), tier(rate="1")), "invalid_tiers", "/tiers/0/up_to"),
        ((tier("0", rate="1"), tier()), "invalid_tiers", "/tiers/0/up_to"),
        ((tier("-1"), tier()), "invalid_tiers", "/tiers/0/up_to"),
        ((tier("0.0000001"), tier()), "invalid_tiers", "/tiers/0/up_to"),
        ((tier("NaN"), tier()), "invalid_tiers", "/tiers/0/up_to"),
        ((tier("5"), tier("5"), tier()), "overlapping_tiers", "/tiers/1/up_to"),
        ((tier("5"), tier("4"), tier()), "overlapping_tiers", "/tiers/1/up_to"),
        ((tier("5"), tier(rate="-0.01")), "invalid_rate", "/tiers/1/rate"),
        ((tier(rate="0.0000000000001"),), "invalid_rate", "/tiers/0/rate"),
        ((tier(rate="Infinity"),), "invalid_rate", "/tiers/0/rate"),
        ((tier(rate="1e15"),), "invalid_rate", "/tiers/0/rate"),
        ((tier(flat="-1"),), "invalid_fee", "/tiers/0/flat"),
        ((tier(flat="sNaN"),), "invalid_fee", "/tiers/0/flat"),
        ((tier(cap="-1"),), "invalid_fee", "/tiers/0/cap"),
        ((tier(rate="1", unit_size="0"),), "invalid_unit_size", "/tiers/0/unit_size"),
        ((tier(rate="1", unit_size="3"),), "rate_not_exact", "/tiers/0/rate"),
    ],
)
def test_what_is_no_table_is_refused(tiers: tuple[Tier, ...], code: str, pointer: str) -> None:
    """Each refusal has its code and the place of the member."""
    with pytest.raises(InvalidInput) as refused:
        TierTable(tiers=tiers)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_whole_blocks_of_any_size_are_exact() -> None:
    """1 per 3 units is no rate a unit, but a fine price of a package."""
    table = TierTable(tiers=(tier(rate="1", unit_size="3", blocks=RoundingMode.UP),))
    assert table.gross(Decimal(7)) == 3


def _ranges(*ends: tuple[str, str | None]) -> list[TierRange]:
    return [
        TierRange(start=Decimal(start), end=None if end is None else Decimal(end), tier=Tier())
        for start, end in ends
    ]


@pytest.mark.parametrize(
    ("ranges", "whole_units"),
    [(_ranges(("0", "7"), ("8", None)), True), (_ranges(("0", "7"), ("7", None)), False)],
)
def test_ranges_with_both_ends_are_tiers(ranges: list[TierRange], whole_units: bool) -> None:
    """A start one unit on and a start at the end say the same."""
    assert [made.up_to for made in tiers_of(ranges, whole_units=whole_units)] == [Decimal(7), None]


@pytest.mark.parametrize(
    ("ranges", "whole_units", "code", "pointer"),
    [
        (_ranges(("1", None)), True, "tier_gap", "/ranges/0/from"),
        (_ranges(("0", "7"), ("9", None)), True, "tier_gap", "/ranges/1/from"),
        (_ranges(("0", "7"), ("8", None)), False, "tier_gap", "/ranges/1/from"),
        (_ranges(("0", "7"), ("7", None)), True, "overlapping_tiers", "/ranges/1/from"),
        (_ranges(("0", "7"), ("5", None)), False, "overlapping_tiers", "/ranges/1/from"),
        (_ranges(("0", None), ("1", None)), True, "overlapping_tiers", "/ranges/0/to"),
    ],
)
def test_ranges_with_gaps_or_overlaps_are_refused(
    ranges: list[TierRange], whole_units: bool, code: str, pointer: str
) -> None:
    """No unit is without a price, none has two."""
    with pytest.raises(InvalidInput) as refused:
        tiers_of(ranges, whole_units=whole_units)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)
