"""The price of a plan's charge on the days of a stretch, compiled: F of a running quantity.

A leaf that a plan charges is billed F(Q + q) - F(Q), Q being what the stretch, or its window, holds
so far. Shapes keep the charge model as it is for their days, so that an entry can be rated again
from its own ledger alone. The running quantity is a state row beside the balance.
"""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

import msgspec

from ledger.domain.charge_models import ChargeModel, amount_decimals
from ledger.domain.errors import InvariantViolation
from ledger.domain.meters import QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.domain.money import AMOUNT_DECIMALS, EXACT, from_scaled
from ledger.domain.periods import day_of, hour_of
from ledger.domain.tiers import ZERO, TierMode
from ledger.domain.whole_charges import whole_charge

RUNNING = "\t"
"""First character of the running quantities of plans among a ledger's accumulator keys.

Those of sessions begin with the session's id, which is never empty.
"""
_PROMISED = f"{RUNNING}promised\t"
_RESERVED = f"{RUNNING}reserved\t"
_MOST = QUANTITY_LIMIT * 10**QUANTITY_DECIMALS - 1
_KEPT = 4096


def promised_key(key: str) -> str:
    """Return the accumulator key of what open holds may still use of a plan's charge.

    Args:
        key: of the charge's running quantity.
    """
    return _PROMISED + key[1:]


def reserved_key(key: str) -> str:
    """Return the accumulator key of what open holds have reserved for a plan's charge x 10^18.

    Args:
        key: of the charge's running quantity.
    """
    return _RESERVED + key[1:]


def is_of_holds(key: str) -> bool:
    """Tell whether an accumulator key is of what open holds promise, or have reserved."""
    return key.startswith((_PROMISED, _RESERVED))


def is_amount(key: str) -> bool:
    """Tell whether what is kept under an accumulator key is an amount, not a quantity."""
    return key.startswith(_RESERVED)


class PlanRate(msgspec.Struct, frozen=True, array_like=True):
    """What a plan's charge costs on the days of a stretch, as a shape keeps it.

    Attributes:
        version: ``plan/<name>@<version>#<charge>:<first day>/<day after the last>``; of part of a
            period ``~`` and the days of the period follow.
        window: ``hour`` or ``day`` where the model runs anew in each; "" over the stretch.
        model: JSON of the charge model, prorated to these days.
    """

    version: str
    window: str
    model: bytes


class Track:
    """A `PlanRate`, ready to be computed with.

    Attributes:
        rate: as the shape keeps it.
        model: of it.
        decimals: of its amounts.
    """

    __slots__ = ("_ends", "_known", "_prefix", "_step", "_whole", "decimals", "model", "rate")

    def __init__(self, rate: PlanRate) -> None:
        self.rate = rate
        self.model = msgspec.json.decode(rate.model, type=ChargeModel)
        self.decimals = min(amount_decimals(self.model), AMOUNT_DECIMALS)
        self._prefix = f"{RUNNING}{rate.version}\t"
        self._known: dict[int, int] = {}
        self._whole = whole_charge(self.model)
        self._step = 10 ** (AMOUNT_DECIMALS - self.decimals)
        self._ends = _ends(self.model)

    def key(self, timezone: str, at: int) -> str:
        """Return the accumulator key of the running quantity at an instant.

        Args:
            timezone: of the ledger.
            at: microseconds since the epoch.
        """
        window = self.rate.window
        if not window:
            return self._prefix
        return self._prefix + (day_of(timezone, at) if window == "day" else hour_of(timezone, at))

    def charge(self, quantity: int) -> int:
        """Return F of a running quantity x 10^6, x 10^``decimals``.

        Raises:
            InvariantViolation: the quantity is below zero: more is taken back than there was.
        """
        known = self._known.get(quantity)
        if known is None:
            if quantity < 0:
                raise InvariantViolation(
                    f"{self.rate.version} would have used {quantity} millionths of a unit"
                )
            if len(self._known) >= _KEPT:
                self._known.clear()
            if self._whole is not None:
                known = self._whole(quantity) // self._step
            else:
                amount = self.model.charge(from_scaled(quantity, QUANTITY_DECIMALS))
                known = int(amount.scaleb(self.decimals, EXACT))
            self._known[quantity] = known
        return known

    def most(self, start: int, end: int) -> int:
        """Return the largest F of the running quantities from one to another.

        F falls only where a volume price comes to a cheaper tier.

        Args:
            start: x 10^6.
            end: x 10^6, not below ``start``; what is beyond any quantity counts as the last one.
        """
        last = min(end, max(start, _MOST))
        peaks = [self.charge(one) for one in self._ends if start < one < last]
        return max([self.charge(start), self.charge(last), *peaks])


def _ends(model: ChargeModel) -> tuple[int, ...]:
    """Return the last quantity x 10^6 of each tier of a volume price but the last; else nothing."""
    if model.mode is not TierMode.VOLUME:
        return ()
    ends = []
    for tier in range(len(model.tiers) - 1):
        low, high = 0, _MOST
        while low < high:
            middle = (low + high + 1) // 2
            billed = model.billed_quantity(from_scaled(middle, QUANTITY_DECIMALS))
            low, high = (middle, high) if model.tier_at(billed) <= tier else (low, middle - 1)
        ends.append(low)
    return tuple(ends)


@lru_cache(maxsize=16384)
def track_of(rate: PlanRate) -> Track:
    """Return the compiled form of a rate."""
    return Track(rate)


def linear_rate(model: ChargeModel) -> Decimal | None:
    """Return the price of one unit where F(Q) is Q times it, so that nothing depends on Q."""
    tier = model.tiers[0]
    if (
        len(model.tiers) > 1
        or tier.rate is None
        or tier.blocks is not None
        or tier.flat is not None
        or tier.cap is not None
        or model.conversion is not None
        or model.free_quantity
        or model.discount_percent
        or model.rounding is not None
        or model.commitment is not None
        or model.max_amount is not None
    ):
        return None
    return EXACT.divide(tier.rate, tier.unit_size)


def at_rest(model: ChargeModel) -> Decimal:
    """Return F(0): what is owed without any use, which no event brings and the close adds."""
    return model.charge(ZERO)
