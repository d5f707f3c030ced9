"""Proration: shares of a period, and quantities that change level within one.

A fee for part of a period is amount x part / whole, rounded once, by a rule that is said. A level
(seats, reserved capacity) is charged for as long as it lasts: the unit prices of its tiers are
averaged over the period by time, flat fees follow the highest level.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext
from fractions import Fraction

import msgspec

from ledger.domain.charge_models import Rounding
from ledger.domain.errors import InvalidInput
from ledger.domain.money import AMOUNT_DECIMALS, EXACT, RoundingMode, plain, whole_steps
from ledger.domain.tiers import ONE, ZERO, PartKind, TierMode, TierTable

UNROUNDED = AMOUNT_DECIMALS
"""Decimals of a share that is not rounded any further."""


def share_of(
    amount: Decimal,
    *,
    part: Decimal | int,
    whole: Decimal | int,
    decimals: int = UNROUNDED,
    mode: RoundingMode = RoundingMode.HALF_EVEN,
) -> Decimal:
    """Return ``amount`` x ``part`` / ``whole``, rounded once to ``decimals`` by ``mode``.

    Args:
        amount: what the whole costs; may be below zero.
        part: how much of the period, 0 to ``whole``; days, or microseconds.
        whole: how long the period is, above 0, in the same unit.
        decimals: decimals of the result; 18 keeps as much as amounts can hold.
        mode: how the result is rounded.

    Raises:
        InvalidInput: ``invalid_proration``.
    """
    length, total = Decimal(part), Decimal(whole)
    if not (length.is_finite() and total.is_finite()) or total <= 0 or not 0 <= length <= total:
        raise InvalidInput(
            f"{part} of {whole} is no share of a period; give 0 up to the whole, which is above 0",
            code="invalid_proration",
        )
    with localcontext(EXACT):
        step = ONE.scaleb(-decimals)
        steps = whole_steps(abs(amount) * length, total * step, mode)
        return plain((steps * step).copy_sign(amount))


class LevelMove(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a level within a period, in the order in which they happened.

    Attributes:
        units: by how much the level rises; below zero it falls.
        weighted: ``units`` x the share of the period that was left: 5 seats from half of the
            period on are 2.5. Same sign as ``units``.
    """

    units: Decimal
    weighted: Decimal


def level_move(units: Decimal, *, left: int, whole: int) -> LevelMove:
    """Return the move of a level where ``left`` of ``whole`` units of time of the period remain.

    Raises:
        InvalidInput: ``invalid_proration``.
    """
    return LevelMove(units=units, weighted=share_of(units, part=left, whole=whole))


def rate_levels(table: TierTable, moves: Iterable[LevelMove], *, rounding: Rounding) -> Decimal:
    """Return what a level costs over a period.

    Each move costs what the unit prices charge between the level before and after it, times the
    share of the period that was left; summed over a period that is the time-weighted average of
    the unit prices' F(level). The flat fees of every tier that the highest level reached are
    charged whole. A rise with nothing of the period left counts for nothing, and so does a fall
    without weight to below zero, which ends a rise that did not count. Usage is never below zero.

    Args:
        table: graduated tiers.
        moves: in order of time; the level starts at 0.
        rounding: of the result, which is otherwise exact.

    Raises:
        InvalidInput: ``invalid_tiers`` for volume tiers, ``invalid_proration``.
    """
    if table.mode is not TierMode.GRADUATED:
        raise InvalidInput(
            "a level is charged by graduated tiers only", code="invalid_tiers", pointer="/mode"
        )
    with localcontext(EXACT):
        level = peak = ZERO
        usage = Fraction(0)
        for number, move in enumerate(moves):
            _check_move(move, number)
            after = level + move.units
            if not move.weighted and (move.units >= 0 or after < 0):
                continue
            rise = Fraction(_usage(table, after)) - Fraction(_usage(table, level))
            usage += rise * Fraction(move.weighted) / Fraction(move.units)
            level = after
            peak = max(peak, level)
        if level < 0:
            return ZERO
        flat = sum((part.amount for part in table.parts(peak) if part.kind is PartKind.FLAT), ZERO)
        return _rounded(max(usage, Fraction(0)) + Fraction(flat), rounding)


def _check_move(move: LevelMove, number: int) -> None:
    if (
        not move.units.is_finite()
        or not move.weighted.is_finite()
        or abs(move.weighted) > abs(move.units)
        or move.weighted * move.units < 0
    ):
        raise InvalidInput(
            f"{move.weighted} is no share of {move.units} units",
            code="invalid_proration",
            pointer=f"/moves/{number}/weighted",
        )


def _usage(table: TierTable, level: Decimal) -> Decimal:
    parts = table.parts(max(level, ZERO))
    return sum((part.amount for part in parts if part.kind is PartKind.USAGE), ZERO)


def _rounded(value: Fraction, rounding: Rounding) -> Decimal:
    with localcontext(EXACT):
        step = ONE.scaleb(-rounding.decimals)
        steps = whole_steps(
            Decimal(value.numerator), Decimal(value.denominator) * step, rounding.mode
        )
        return plain(steps * step)
