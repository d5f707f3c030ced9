"""Charge models in whole numbers: the same F, some thirty times as fast, for the common ones.

What an event is charged needs F twice, in the write path. Models with tiers, fees, free units and a
maximum need nothing but sums, products and comparisons; others are computed as `ChargeModel` does.
"""

from __future__ import annotations

from collections.abc import Callable

from ledger.domain.charge_models import ChargeModel
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, EXACT, RATE_DECIMALS, to_scaled
from ledger.domain.tiers import Boundary, TierMode

Charge = Callable[[int], int]
"""F of a running quantity x 10^6, x 10^18."""
_WholeTier = tuple[int | None, int, int]
"""End x 10^6, price of a unit x 10^12, fee x 10^18."""


def whole_charge(model: ChargeModel) -> Charge | None:
    """Return F of a model in whole numbers; None where it needs more than these can say."""
    if (
        model.conversion is not None
        or model.rounding is not None
        or model.commitment is not None
        or model.discount_percent
        or any(tier.blocks is not None or tier.cap is not None for tier in model.tiers)
    ):
        return None
    tiers = [
        (
            None if tier.up_to is None else to_scaled(tier.up_to, QUANTITY_DECIMALS),
            0
            if tier.rate is None
            else to_scaled(EXACT.divide(tier.rate, tier.unit_size), RATE_DECIMALS),
            0 if tier.flat is None else to_scaled(tier.flat, AMOUNT_DECIMALS),
        )
        for tier in model.tiers
    ]
    free = to_scaled(model.free_quantity, QUANTITY_DECIMALS)
    most = None if model.max_amount is None else to_scaled(model.max_amount, AMOUNT_DECIMALS)
    inclusive = model.boundary is Boundary.INCLUSIVE
    sum_of = _volume if model.mode is TierMode.VOLUME else _graduated

    def charge(quantity: int) -> int:
        units = max(quantity - free, 0)
        amount = sum_of(tiers, units, bool(units) or model.flat_at_zero, inclusive)
        return amount if most is None else min(amount, most)

    return charge


def _graduated(tiers: list[_WholeTier], units: int, first_fee: bool, inclusive: bool) -> int:
    amount = start = 0
    fee = first_fee
    for end, rate, flat in tiers:
        if fee:
            amount += flat
        fee = True
        if end is None or units < end or (inclusive and units == end):
            return amount + (units - start) * rate
        amount += (end - start) * rate
        start = end
    return amount


def _volume(tiers: list[_WholeTier], units: int, fee: bool, inclusive: bool) -> int:
    for end, rate, flat in tiers:
        if end is None or units < end or (inclusive and units == end):
            return units * rate + (flat if fee else 0)
    return 0
