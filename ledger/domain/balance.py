"""Balances: what a tenant used and owes in a month, kept in the commit that changes it."""

from __future__ import annotations

from decimal import Decimal

from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, from_scaled


class Balance:
    """What a tenant used and owes in one period, the standing postings' sum.

    Attributes:
        period: ``YYYY-MM`` in the tenant's time zone.
        charge: x 10^18 in the ledger's currency, unrounded.
        costs: currency to provider cost x 10^18.
        quantities: meter to quantity x 10^6; unpriced usage included.
        events: usage events recorded.
        voided: of those, taken back.
        unpriced: of those, standing without a price; excluded from charge and costs, or from costs
            alone where a plan charges them.
    """

    __slots__ = ("charge", "costs", "events", "period", "quantities", "unpriced", "voided")

    def __init__(self, period: str) -> None:
        self.period = period
        self.charge = 0
        self.costs: dict[str, int] = {}
        self.quantities: dict[str, int] = {}
        self.events = 0
        self.voided = 0
        self.unpriced = 0

    def decimal_charge(self) -> Decimal:
        """Return the unrounded charge."""
        return from_scaled(self.charge, AMOUNT_DECIMALS)

    def decimal_costs(self) -> dict[str, Decimal]:
        """Return unrounded provider costs by currency."""
        return {name: from_scaled(cost, AMOUNT_DECIMALS) for name, cost in self.costs.items()}

    def decimal_quantities(self) -> dict[str, Decimal]:
        """Return quantities by meter."""
        return {
            name: from_scaled(quantity, QUANTITY_DECIMALS)
            for name, quantity in self.quantities.items()
        }

    def as_tuple(self) -> tuple[object, ...]:
        """Return everything that must be equal in two balances that say the same."""
        return (
            self.period,
            self.charge,
            {name: cost for name, cost in self.costs.items() if cost},
            {name: quantity for name, quantity in self.quantities.items() if quantity},
            self.events,
            self.voided,
            self.unpriced,
        )
