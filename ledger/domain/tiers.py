"""Tiers: what a period's quantity costs before discounts, limits and commitments.

A table of tiers is the one form behind per-unit, graduated, volume, package and percentage
prices: a plain price is a table of one tier, a package a tier that counts started unit sizes, a
percentage a tier whose rate is a hundredth of the percentage. See docs/spec/charges.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from enum import StrEnum

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.domain.money import EXACT, RATE_DECIMALS, RoundingMode, decimals_of, whole_steps

MAX_TIERS = 100
"""Most tiers of one table."""
AMOUNT_LIMIT = Decimal(10**15)
"""Fees, rates and limits of money lie below this."""
ZERO = Decimal(0)
ONE = Decimal(1)


class TierMode(StrEnum):
    """Which units a tier's price is for.

    ``graduated`` prices the units inside each tier; ``volume`` prices all units by the one tier
    that the whole quantity falls into.
    """

    GRADUATED = "graduated"
    VOLUME = "volume"


class Boundary(StrEnum):
    """Whose a quantity exactly at a tier's ``up_to`` is: its own, or the next tier's."""

    INCLUSIVE = "inclusive"
    EXCLUSIVE = "exclusive"


class PartKind(StrEnum):
    """What a part of a charge is for; ``cap`` is what a tier's cap takes off, below zero."""

    USAGE = "usage"
    FLAT = "flat"
    CAP = "cap"


class Tier(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One tier; it begins where the tier before it ends.

    Attributes:
        up_to: where it ends, in billed units; None is without end, and only the last tier is.
        rate: price of ``unit_size`` units, >= 0; None has no price by the unit.
        unit_size: units that ``rate`` buys, > 0.
        blocks: how a started unit size counts; None bills its exact share.
        flat: fee once the tier is entered, >= 0; None has none.
        cap: most that this tier's usage and flat fee come to, >= 0; None is no cap.
    """

    up_to: Decimal | None = None
    rate: Decimal | None = None
    unit_size: Decimal = ONE
    blocks: RoundingMode | None = None
    flat: Decimal | None = None
    cap: Decimal | None = None

    def billed(self, units: Decimal) -> Decimal:
        """Return the billed units of ``units`` in this tier."""
        if self.blocks is None:
            return units
        return whole_steps(units, self.unit_size, self.blocks) * self.unit_size


class ChargePart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a charge: usage, flat fee or cap of one tier.

    Attributes:
        tier: the tier's position, from 0.
        kind: what it is for.
        quantity: units used in the tier; 1 for a fee or a cap.
        billed: units that the rate multiplies.
        unit_size: units that the rate buys.
        rate: price of a unit size, or the fee.
        amount: billed x rate / unit_size, unrounded.
    """

    tier: int
    kind: PartKind
    quantity: Decimal
    billed: Decimal
    unit_size: Decimal
    rate: Decimal
    amount: Decimal


class TierTable(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Tiers without gap or overlap from zero to infinity.

    Attributes:
        tiers: in ascending order, at least one, the last without end.
        mode: which units a tier's price is for.
        boundary: whose a quantity exactly at an ``up_to`` is.
        flat_at_zero: whether the first tier's flat fee is due without any use.

    Raises:
        InvalidInput: ``invalid_tiers``, ``overlapping_tiers``, ``invalid_rate``,
            ``invalid_unit_size``, ``rate_not_exact``, ``invalid_fee``.
    """

    tiers: tuple[Tier, ...]
    mode: TierMode = TierMode.GRADUATED
    boundary: Boundary = Boundary.INCLUSIVE
    flat_at_zero: bool = True

    def __post_init__(self) -> None:
        check_tiers(self.tiers)

    def parts(self, quantity: Decimal) -> tuple[ChargePart, ...]:
        """Return the parts of the charge for a quantity >= 0, tier by tier."""
        with localcontext(EXACT):
            if self.mode is TierMode.VOLUME:
                index = self.tier_at(quantity)
                fee = bool(quantity) or self.flat_at_zero
                return _volume_parts(index, self.tiers[index], quantity, fee)
            return self._graduated_parts(quantity)

    def gross(self, quantity: Decimal) -> Decimal:
        """Return the unrounded charge for a quantity >= 0: the sum of its parts."""
        with localcontext(EXACT):
            return sum((part.amount for part in self.parts(quantity)), ZERO)

    def tier_at(self, quantity: Decimal) -> int:
        """Return the position of the tier that a whole quantity of billed units falls into."""
        for index, tier in enumerate(self.tiers):
            if tier.up_to is None or quantity < tier.up_to:
                return index
            if quantity == tier.up_to and self.boundary is Boundary.INCLUSIVE:
                return index
        return len(self.tiers) - 1

    def _graduated_parts(self, quantity: Decimal) -> tuple[ChargePart, ...]:
        parts: list[ChargePart] = []
        start = ZERO
        for index in range(self.tier_at(quantity) + 1):
            tier = self.tiers[index]
            end = quantity if tier.up_to is None else min(quantity, tier.up_to)
            fee = index > 0 or bool(quantity) or self.flat_at_zero
            parts += _tier_parts(index, tier, end - start, fee)
            start = end
        return tuple(parts)


def _usage(index: int, tier: Tier, units: Decimal) -> ChargePart | None:
    if tier.rate is None:
        return None
    billed = tier.billed(units)
    return ChargePart(
        tier=index,
        kind=PartKind.USAGE,
        quantity=units,
        billed=billed,
        unit_size=tier.unit_size,
        rate=tier.rate,
        amount=billed * (tier.rate / tier.unit_size)
        if tier.blocks is None
        else billed / tier.unit_size * tier.rate,
    )


def _fee(index: int, kind: PartKind, amount: Decimal) -> ChargePart:
    return ChargePart(
        tier=index,
        kind=kind,
        quantity=ONE,
        billed=ONE,
        unit_size=ONE,
        rate=amount,
        amount=amount,
    )


def _capped(index: int, tier: Tier, parts: list[ChargePart]) -> list[ChargePart]:
    amount = sum((part.amount for part in parts), ZERO)
    if tier.cap is not None and amount > tier.cap:
        parts.append(_fee(index, PartKind.CAP, tier.cap - amount))
    return parts


def _tier_parts(index: int, tier: Tier, units: Decimal, fee: bool) -> list[ChargePart]:
    usage = _usage(index, tier, units)
    parts = [] if usage is None else [usage]
    if fee and tier.flat is not None:
        parts.append(_fee(index, PartKind.FLAT, tier.flat))
    return _capped(index, tier, parts)


def _volume_parts(index: int, tier: Tier, units: Decimal, fee: bool) -> tuple[ChargePart, ...]:
    usage = _usage(index, tier, units) if units else None
    parts = [_fee(index, PartKind.FLAT, tier.flat)] if fee and tier.flat is not None else []
    return tuple(_capped(index, tier, parts if usage is None else [*parts, usage]))


def check_number(
    value: Decimal,
    *,
    what: str,
    code: str,
    pointer: str,
    decimals: int,
    positive: bool = False,
    limit: Decimal = AMOUNT_LIMIT,
) -> None:
    """Check that a number of a charge model can be worked with.

    Raises:
        InvalidInput: ``code`` unless it is finite, not negative (above zero where ``positive``),
            below ``limit`` and has at most ``decimals`` decimals.
    """
    least = "above 0" if positive else "from 0"
    if (
        not value.is_finite()
        or value < 0
        or (positive and not value)
        or value >= limit
        or decimals_of(value) > decimals
    ):
        raise InvalidInput(
            f"{what} {value} is not a number {least} to below {limit:f} with at most {decimals}"
            " decimals",
            code=code,
            pointer=pointer,
        )


def check_tiers(tiers: Sequence[Tier]) -> None:
    """Check that tiers cover every quantity once and that their prices are exact.

    Raises:
        InvalidInput: as `TierTable`, with the pointer of the member.
    """
    if not 1 <= len(tiers) <= MAX_TIERS:
        raise InvalidInput(
            f"there are {len(tiers)} tiers; 1 to {MAX_TIERS} are possible",
            code="invalid_tiers",
            pointer="/tiers",
        )
    start = ZERO
    for index, tier in enumerate(tiers):
        at = f"/tiers/{index}"
        _check_price(tier, at)
        last = index == len(tiers) - 1
        if (tier.up_to is None) is not last:
            raise InvalidInput(
                f"tier {index + 1} ends at {tier.up_to}; the last tier, and no other, has no end"
                " (a last tier without rate makes what lies beyond free)",
                code="invalid_tiers",
                pointer=f"{at}/up_to",
            )
        if tier.up_to is None:
            return
        check_number(
            tier.up_to,
            what="the end of a tier",
            code="invalid_tiers",
            pointer=f"{at}/up_to",
            decimals=QUANTITY_DECIMALS,
            positive=True,
            limit=Decimal(QUANTITY_LIMIT),
        )
        if tier.up_to <= start:
            raise InvalidInput(
                f"tier {index + 1} ends at {tier.up_to}, not above {start} where tier {index} ends",
                code="overlapping_tiers",
                pointer=f"{at}/up_to",
            )
        start = tier.up_to


def _check_price(tier: Tier, at: str) -> None:
    check_number(
        tier.unit_size,
        what="unit size",
        code="invalid_unit_size",
        pointer=f"{at}/unit_size",
        decimals=QUANTITY_DECIMALS,
        positive=True,
        limit=Decimal(QUANTITY_LIMIT),
    )
    for name, code in (("rate", "invalid_rate"), ("flat", "invalid_fee"), ("cap", "invalid_fee")):
        value = getattr(tier, name)
        if value is not None:
            check_number(
                value, what=name, code=code, pointer=f"{at}/{name}", decimals=RATE_DECIMALS
            )
    if tier.rate is not None and tier.blocks is None:
        unit_rate = EXACT.divide(tier.rate, tier.unit_size)
        if (
            decimals_of(unit_rate) > RATE_DECIMALS
            or EXACT.multiply(unit_rate, tier.unit_size) != tier.rate
        ):
            raise InvalidInput(
                f"{tier.rate} per {tier.unit_size} units is not exact in {RATE_DECIMALS} decimals;"
                " bill whole unit sizes, or give the rate of a unit size that divides it",
                code="rate_not_exact",
                pointer=f"{at}/rate",
            )


class TierRange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tier as a range with both ends, as price lists write them.

    Attributes:
        start: first unit, or where the range before it ends.
        end: last unit; None is without end.
        tier: its prices; its ``up_to`` is not looked at.
    """

    start: Decimal
    end: Decimal | None
    tier: Tier


def tiers_of(ranges: Sequence[TierRange], *, whole_units: bool) -> tuple[Tier, ...]:
    """Return the tiers that ranges with both ends describe.

    Args:
        ranges: in ascending order.
        whole_units: whether a range starts one unit after the one before it ends (0 to 10, 11 to
            20), or exactly where it ends (0 to 10, 10 to 20). Both put 10.5 into the second.

    Raises:
        InvalidInput: ``tier_gap``, ``overlapping_tiers``, ``invalid_tiers``.
    """
    step = ONE if whole_units else ZERO
    expected = ZERO
    tiers: list[Tier] = []
    for index, item in enumerate(ranges):
        at = f"/ranges/{index}/from"
        if item.start > expected:
            raise InvalidInput(
                f"range {index + 1} starts at {item.start}; nothing covers what lies from"
                f" {expected} on",
                code="tier_gap",
                pointer=at,
            )
        if item.start < expected:
            raise InvalidInput(
                f"range {index + 1} starts at {item.start}, inside the one before; {expected}"
                " would be right",
                code="overlapping_tiers",
                pointer=at,
            )
        if item.end is None and index < len(ranges) - 1:
            raise InvalidInput(
                f"range {index + 1} has no end, so no range can follow it",
                code="overlapping_tiers",
                pointer=f"/ranges/{index}/to",
            )
        tiers.append(msgspec.structs.replace(item.tier, up_to=item.end))
        expected = (item.end or ZERO) + step
    return tuple(tiers)
