"""Tax on an amount, rounded once to the currency's minor unit."""

from __future__ import annotations

from decimal import Decimal, localcontext

from ledger.domain.errors import InvalidInput
from ledger.domain.money import EXACT, RoundingMode, decimals_of, minor_units, plain, round_to

TAX_PERCENT_DECIMALS = 6
"""Most decimals of a tax rate in percent."""
MOST_PERCENT = Decimal(100)


def check_tax_percent(percent: Decimal, *, pointer: str = "/tax_percent") -> None:
    """Check a tax rate: 0 to 100 percent with at most 6 decimals.

    Raises:
        InvalidInput: ``invalid_tax_rate``.
    """
    if (
        not percent.is_finite()
        or not 0 <= percent <= MOST_PERCENT
        or decimals_of(percent) > TAX_PERCENT_DECIMALS
    ):
        raise InvalidInput(
            f"{percent} is no tax rate; give 0 to {MOST_PERCENT} percent with at most"
            f" {TAX_PERCENT_DECIMALS} decimals",
            code="invalid_tax_rate",
            pointer=pointer,
        )


def tax_on(
    net: Decimal,
    *,
    percent: Decimal,
    currency: str,
    mode: RoundingMode = RoundingMode.HALF_EVEN,
) -> Decimal:
    """Return the tax on a net amount; below zero for a credit.

    Raises:
        InvalidInput: ``invalid_tax_rate``, ``unknown_currency``.
    """
    check_tax_percent(percent)
    with localcontext(EXACT):
        return plain(round_to(net * percent / 100, minor_units(currency), mode))
