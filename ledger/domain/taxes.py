"""Tax on an amount, rounded once to the currency's minor unit."""

from __future__ import annotations

from decimal import Decimal, localcontext

from ledger.domain.money import EXACT, RoundingMode, minor_units, plain, round_to
from ledger.domain.tiers import check_number

TAX_PERCENT_DECIMALS = 6
"""Most decimals of a tax rate in percent."""
MOST_PERCENT = Decimal(100)


def check_tax_percent(percent: Decimal, *, pointer: str = "/tax_percent") -> None:
    """Check a tax rate: 0 to 100 percent with at most 6 decimals.

    Raises:
        InvalidInput: ``invalid_tax_rate``.
    """
    check_number(
        percent,
        what="tax rate in percent",
        code="invalid_tax_rate",
        pointer=pointer,
        decimals=TAX_PERCENT_DECIMALS,
        limit=MOST_PERCENT + Decimal("0.000001"),
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
