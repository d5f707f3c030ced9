"""Amounts, quantities and instants as documents have them: text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text, text
from ledger.domain.periods import EPOCH, LATEST_US, MICROSECOND

_EPOCH = EPOCH.replace(tzinfo=None)
"""Without its zone, which takes longer to write and to cut off again than all the rest."""


def amount_text(amount: int) -> str:
    """Return an amount x 10^18 as canonical decimal text."""
    return scaled_text(amount, AMOUNT_DECIMALS)


def measured_text(amount: int, measure: str) -> str:
    """Return what a budget measures as canonical decimal text."""
    decimals = AMOUNT_DECIMALS if measure in ("charge", "cost") else QUANTITY_DECIMALS
    return scaled_text(amount, decimals)


def quantity_text(quantity: int) -> str:
    """Return a quantity x 10^6 as canonical decimal text."""
    return scaled_text(quantity, QUANTITY_DECIMALS)


def texts(numbers: Mapping[str, Decimal]) -> dict[str, str]:
    """Return numbers by name as canonical decimal text, in the order given."""
    return {name: text(number) for name, number in numbers.items()}


def utc_text(at: int) -> str | None:
    """Return an instant for programs; None for 0 and for what is far off, as forecasts can be."""
    return f"{(_EPOCH + at * MICROSECOND).isoformat()}Z" if 0 < at < LATEST_US else None
