"""Amounts, quantities and instants as documents have them: text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache

from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text, text
from ledger.domain.periods import LATEST_US, from_us

_SECOND = 1_000_000


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
    if not 0 < at < LATEST_US:
        return None
    second, rest = divmod(at, _SECOND)
    return f"{_second_text(second)}.{rest:06}Z" if rest else f"{_second_text(second)}Z"


@lru_cache(maxsize=1024)
def _second_text(second: int) -> str:
    """Return a whole second without its zone; the answers of one time are about few of them."""
    return from_us(second * _SECOND).replace(tzinfo=None).isoformat()
