"""Prices: rows of a price book, and where each came from.

A row says what one meter of one model costs from a date on. *Cost* rows say what a provider
charges us; *sell* rows what we charge tenants of a plan. Rows are proposed by sources, approved
by people, retired, never edited. docs/spec/prices.md.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.money import RATE_DECIMALS, RoundingMode, decimals_of, minor_units, plain

PLAN_BOOK = "plan"
"""What stands for a sell book where a plan charges; none has this name."""


class PriceKind(StrEnum):
    """Whose price it is."""

    COST = "cost"
    SELL = "sell"


class PriceStatus(StrEnum):
    """Where a row stands; only approved rows rate anything."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    RETIRED = "retired"


class RoundingScope(StrEnum):
    """Over what a quantity is summed before it is rounded.

    ``none`` does not round; ``request`` rounds each event; ``session`` rounds the running total
    of a session within a billing period and bills the difference; ``line`` rounds the quantity of
    the invoice line.
    """

    NONE = "none"
    REQUEST = "request"
    SESSION = "session"
    LINE = "line"


class QuantityRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a quantity becomes a billed quantity.

    Attributes:
        increment: step in units, > 0; 0 bills the quantity as it is.
        minimum: least billed quantity in units when there was any use, >= 0.
        mode: how a quantity between two steps is rounded.
        scope: over what it is summed before rounding.
    """

    increment: Decimal = Decimal(0)
    minimum: Decimal = Decimal(0)
    mode: RoundingMode = RoundingMode.UP
    scope: RoundingScope = RoundingScope.NONE


EXACT_QUANTITY = QuantityRule()
"""Bills every quantity as it is; tokens use it."""


class PriceKey(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """What a price is for.

    Attributes:
        provider: who runs the call, lower-case.
        model: the model or SKU as the price source names it.
        meter: a leaf of `ledger.domain.meters`.
        region: "" is every region that has no row of its own.
        tier: service tier; "" is the standard one.
        batch: the provider's batch price.
        context_over: applies to requests with more input tokens than this; 0 is every request.
    """

    provider: str
    model: str
    meter: str
    region: str = ""
    tier: str = ""
    batch: bool = False
    context_over: int = 0


class PriceRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One price from a date on.

    Attributes:
        key: what it is for.
        effective_from: start of validity, UTC, inclusive.
        rate: price of ``unit_size`` units, >= 0, in ``currency``.
        unit_size: units that ``rate`` buys, > 0: 1000000 for a price per million tokens.
        currency: ISO 4217.
        quantity_rule: rounding and minimum of the quantity.
        source: ``genai-prices``, ``litellm``, ``manual``, ``markup`` …
        source_digest: hex digest of the source's data that said so.
        note: how it was derived, where the source does not say it literally.
    """

    key: PriceKey
    effective_from: datetime
    rate: Decimal
    unit_size: Decimal = Decimal(1)
    currency: str = "USD"
    quantity_rule: QuantityRule = EXACT_QUANTITY
    source: str = "manual"
    source_digest: str = ""
    note: str = ""

    def check(self) -> None:
        """Check the row's own rules.

        Raises:
            InvalidInput: ``invalid_rate``, ``invalid_unit_size``, ``rate_not_exact``,
                ``invalid_quantity_rule``, ``unknown_currency``, ``invalid_time``.
        """
        minor_units(self.currency)
        if not self.rate.is_finite() or self.rate < 0 or self.rate >= 10**9:
            raise InvalidInput(
                f"rate {self.rate} is not a number from 0 to below 10^9",
                code="invalid_rate",
                pointer="/rate",
            )
        if not self.unit_size.is_finite() or not 0 < self.unit_size <= 10**9:
            raise InvalidInput(
                f"unit size {self.unit_size} is not a number above 0 up to 10^9",
                code="invalid_unit_size",
                pointer="/unit_size",
            )
        rule = self.quantity_rule
        for name, number in (("increment", rule.increment), ("minimum", rule.minimum)):
            if not number.is_finite() or number < 0 or decimals_of(number) > 6:
                raise InvalidInput(
                    f"{name} {number} is not a number >= 0 with at most 6 decimals",
                    code="invalid_quantity_rule",
                    pointer=f"/quantity_rule/{name}",
                )
        if self.effective_from.tzinfo is None:
            raise InvalidInput(
                "effective_from has no offset", code="invalid_time", pointer="/effective_from"
            )
        self.unit_rate()

    def unit_rate(self) -> Decimal:
        """Return the exact price of one unit.

        Raises:
            InvalidInput: ``rate_not_exact`` if it needs more than 12 decimals, as 1/60 does.
        """
        quotient = self.rate / self.unit_size
        if decimals_of(quotient) > RATE_DECIMALS or quotient * self.unit_size != self.rate:
            raise InvalidInput(
                f"{self.rate} per {self.unit_size} units is not exact in {RATE_DECIMALS} decimals;"
                " give the rate of a unit size that divides it, or the unit rate already rounded",
                code="rate_not_exact",
                pointer="/rate",
            )
        return plain(quotient)


class ModelMatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which model names of responses mean a priced model.

    Attributes:
        provider: who runs it.
        model: the model of the price rows.
        clause: ``{"equals": s}``, ``{"starts_with": s}``, ``{"ends_with": s}``,
            ``{"contains": s}``, ``{"regex": s}``, ``{"or": [...]}`` or ``{"and": [...]}``.
    """

    provider: str
    model: str
    clause: dict[str, Any]


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """What one source proposes.

    Attributes:
        source: the source's name.
        digest: hex digest of the source's data.
        rows: the proposed rows, dated where the source has history.
        matches: model names that mean a priced model, in order of precedence.
        skipped: ``provider/model: reason`` for what the source has but a row cannot say.
    """

    source: str
    digest: str
    rows: tuple[PriceRow, ...]
    matches: tuple[ModelMatch, ...] = ()
    skipped: tuple[str, ...] = ()
