"""Capacity: one price for the smallest tier that a period's quantities of several meters fit in."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.domain.money import RATE_DECIMALS, plain
from ledger.domain.tiers import MAX_TIERS, ZERO, check_number


class CapacityTier(msgspec.Struct, frozen=True, kw_only=True):
    """A price for quantities up to limits.

    Attributes:
        price: of the period, >= 0.
        limits: most of each meter, itself included; None is no limit.
    """

    price: Decimal
    limits: dict[str, Decimal | None]


class CapacityModel(msgspec.Struct, frozen=True, kw_only=True):
    """Capacity tiers from small to large; the last one holds any quantity.

    F is a function of all meters' cumulative quantities: `difference` is the charge of an event.

    Attributes:
        tiers: in ascending order; all limit the same meters.

    Raises:
        InvalidInput: ``invalid_tiers``, ``overlapping_tiers``, ``invalid_fee``.
    """

    tiers: tuple[CapacityTier, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.tiers) <= MAX_TIERS:
            raise InvalidInput(
                f"there are {len(self.tiers)} tiers; 1 to {MAX_TIERS} are possible",
                code="invalid_tiers",
                pointer="/tiers",
            )
        for index, tier in enumerate(self.tiers):
            check_number(
                tier.price,
                what="price",
                code="invalid_fee",
                pointer=f"/tiers/{index}/price",
                decimals=RATE_DECIMALS,
            )
            self._check_limits(index)

    def tier_of(self, quantities: Mapping[str, Decimal]) -> int:
        """Return the position of the first tier that every quantity fits in.

        Args:
            quantities: meter to cumulative quantity >= 0; one left out is 0.

        Raises:
            InvalidInput: ``invalid_meter`` for a meter without limits, ``invalid_quantity``.
        """
        for meter, quantity in quantities.items():
            if meter not in self.tiers[0].limits:
                known = ", ".join(sorted(self.tiers[0].limits))
                raise InvalidInput(
                    f"{meter!r} is no meter of this charge, which has {known}",
                    code="invalid_meter",
                    pointer=f"/quantities/{meter}",
                )
            check_number(
                quantity,
                what="quantity",
                code="invalid_quantity",
                pointer=f"/quantities/{meter}",
                decimals=QUANTITY_DECIMALS,
                limit=Decimal(QUANTITY_LIMIT),
            )
        for index, tier in enumerate(self.tiers):
            if all(_fits(quantity, tier.limits[meter]) for meter, quantity in quantities.items()):
                return index
        return len(self.tiers) - 1

    def charge(self, quantities: Mapping[str, Decimal]) -> Decimal:
        """Return F of the period's cumulative quantities; without any use the smallest tier's."""
        return plain(self.tiers[self.tier_of(quantities)].price)

    def difference(self, before: Mapping[str, Decimal], change: Mapping[str, Decimal]) -> Decimal:
        """Return the charge of one event, whose quantities are below zero to void another."""
        after = {
            meter: before.get(meter, ZERO) + change.get(meter, ZERO)
            for meter in {**before, **change}
        }
        return plain(self.charge(after) - self.charge(before))

    def _check_limits(self, index: int) -> None:
        limits = self.tiers[index].limits
        at = f"/tiers/{index}/limits"
        if not limits or limits.keys() != self.tiers[0].limits.keys():
            raise InvalidInput(
                f"tier {index + 1} limits {', '.join(sorted(limits)) or 'nothing'}; every tier"
                " limits the same meters, at least one",
                code="invalid_tiers",
                pointer=at,
            )
        for meter, limit in limits.items():
            if limit is not None:
                check_number(
                    limit,
                    what="limit",
                    code="invalid_tiers",
                    pointer=f"{at}/{meter}",
                    decimals=QUANTITY_DECIMALS,
                    limit=Decimal(QUANTITY_LIMIT),
                )
            if index and not _fits(self.tiers[index - 1].limits[meter], limit):
                raise InvalidInput(
                    f"tier {index + 1} holds less of {meter} than tier {index}",
                    code="overlapping_tiers",
                    pointer=f"{at}/{meter}",
                )
        if index == len(self.tiers) - 1 and any(limit is not None for limit in limits.values()):
            raise InvalidInput(
                "the last tier holds any quantity, so it has no limits",
                code="invalid_tiers",
                pointer=at,
            )


def _fits(quantity: Decimal | None, limit: Decimal | None) -> bool:
    """Whether a quantity, or a smaller tier's limit, lies within a limit; None is infinite."""
    return limit is None or (quantity is not None and quantity <= limit)
