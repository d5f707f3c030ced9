"""Charges by transaction: a percentage and a fee of each event's own amount of money.

Where events or money are free, which ones is a matter of order: the order in which events
happened (`occurred_at`, then source and id), never that in which they were recorded. So the
charge is a function of the set of the period's events, as with every charge model.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.domain.money import EXACT, RATE_DECIMALS, plain
from ledger.domain.tiers import ZERO, check_number

PERCENT_DECIMALS = RATE_DECIMALS - 2
"""Most decimals of a percentage, so that its hundredth is a rate."""


class TransactionModel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What each event of a period costs by its amount.

    The first events are free, as many as ``free_events`` says and as long as something of
    ``free_amount`` is left after each; where both are set, until the first of the two ends. The
    event that ends the free money is charged for the rest of its amount, with fee and limits.

    Attributes:
        percent: of the amount, >= 0.
        fee: of each charged event, >= 0.
        min_amount: least that a charged event costs; None has none.
        max_amount: most that an event costs; None has none.
        free_events: events of a period that are free; None sets no such limit.
        free_amount: money of a period that is free; None sets no such limit.

    Raises:
        InvalidInput: ``invalid_rate``, ``invalid_fee``, ``invalid_limit``,
            ``invalid_free_quantity``.
    """

    percent: Decimal
    fee: Decimal = ZERO
    min_amount: Decimal | None = None
    max_amount: Decimal | None = None
    free_events: int | None = None
    free_amount: Decimal | None = None

    def __post_init__(self) -> None:
        for name, code, decimals in (
            ("percent", "invalid_rate", PERCENT_DECIMALS),
            ("fee", "invalid_fee", RATE_DECIMALS),
            ("min_amount", "invalid_limit", RATE_DECIMALS),
            ("max_amount", "invalid_limit", RATE_DECIMALS),
            ("free_amount", "invalid_free_quantity", QUANTITY_DECIMALS),
        ):
            value = getattr(self, name)
            if value is not None:
                check_number(value, what=name, code=code, pointer=f"/{name}", decimals=decimals)
        if self.free_events is not None and self.free_events < 0:
            raise InvalidInput(
                f"{self.free_events} events cannot be free; 0 or more can",
                code="invalid_free_quantity",
                pointer="/free_events",
            )
        if (
            self.min_amount is not None
            and self.max_amount is not None
            and self.min_amount > self.max_amount
        ):
            raise InvalidInput(
                f"the least of an event, {self.min_amount}, is above the most, {self.max_amount}",
                code="invalid_limit",
                pointer="/min_amount",
            )

    def amounts(self, events: Sequence[Decimal]) -> tuple[Decimal, ...]:
        """Return what each event costs, in the order in which they happened; unrounded.

        Raises:
            InvalidInput: ``invalid_quantity``.
        """
        free_events, free_amount = self.free_events, self.free_amount
        is_free = free_events is not None or free_amount is not None
        costs = []
        with localcontext(EXACT):
            for number, value in enumerate(events):
                _check_amount(value, number)
                free = ZERO
                if is_free:
                    if free_events == 0:
                        is_free = False
                    elif free_amount is None or free_amount > value:
                        free = value
                    else:
                        free, is_free = free_amount, False
                    free_events = None if free_events is None else free_events - 1
                    free_amount = None if free_amount is None else free_amount - free
                costs.append(ZERO if is_free else self._cost(value - free))
        return tuple(plain(cost) for cost in costs)

    def charge(self, events: Sequence[Decimal]) -> Decimal:
        """Return what a period's events cost together."""
        with localcontext(EXACT):
            return plain(sum(self.amounts(events), ZERO))

    def charge_totals(
        self, amount: Decimal, *, events: int, free_totals: Sequence[Decimal] = ()
    ) -> Decimal:
        """Return the charge from totals alone, for a model without limits by event.

        The same figure as `charge`, from what a rollup holds: then a period's events need not be
        read again. Without any amount nothing is charged.

        Args:
            amount: sum of all events' amounts.
            events: how many there were.
            free_totals: running totals of the first events, as many as may be free.

        Raises:
            InvalidInput: ``invalid_limit`` if the model has limits by event.
        """
        if self.min_amount is not None or self.max_amount is not None:
            raise InvalidInput("limits by event need every event, not totals", code="invalid_limit")
        _check_amount(amount, 0)
        with localcontext(EXACT):
            free_amount, free_events = self._allowance_used(free_totals)
            charged = max(amount - free_amount, ZERO)
            fees = max(events - free_events, 0) if amount else 0
            return plain(charged * self.percent / 100 + fees * self.fee)

    def _allowance_used(self, totals: Sequence[Decimal]) -> tuple[Decimal, int]:
        """Return the money and the number of events that are free, by the first limit reached."""
        used: list[Decimal] = []
        count: list[int] = []
        if self.free_events is not None:
            count.append(self.free_events)
            within = totals[: self.free_events]
            used.append(within[-1] if within else ZERO)
        if self.free_amount is not None:
            count.append(sum(1 for total in totals if total < self.free_amount))
            used.append(min(totals[-1], self.free_amount) if totals else ZERO)
        return min(used, default=ZERO), min(count, default=0)

    def _cost(self, value: Decimal) -> Decimal:
        cost = value * self.percent / 100 + self.fee
        if self.min_amount is not None:
            cost = max(cost, self.min_amount)
        return cost if self.max_amount is None else min(cost, self.max_amount)


def _check_amount(value: Decimal, number: int) -> None:
    check_number(
        value,
        what="an event's amount",
        code="invalid_quantity",
        pointer=f"/events/{number}",
        decimals=QUANTITY_DECIMALS,
        limit=Decimal(QUANTITY_LIMIT),
    )
