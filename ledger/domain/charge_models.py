"""Charge models: what a tenant owes for a period's cumulative quantity.

One rule for all: a charge model is a pure function F of the period's cumulative quantity. The
charge of an event is F(Q + q) - F(Q), a void is F(Q - q) - F(Q), the period owes F(Q); so the
running balance is exact at every moment and no order of events changes the total. What depends on
the whole period (minimum, true-up of a commitment) is posted at close. See docs/spec/charges.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext
from enum import StrEnum

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.meters import QUANTITY_DECIMALS, QUANTITY_LIMIT
from ledger.domain.money import (
    AMOUNT_DECIMALS,
    EXACT,
    RATE_DECIMALS,
    RoundingMode,
    decimals_of,
    plain,
    round_to,
    whole_steps,
)
from ledger.domain.tiers import (
    ONE,
    ZERO,
    ChargePart,
    Tier,
    TierMode,
    TierTable,
    check_number,
)

HUNDRED = Decimal(100)
MAX_ROUNDING = 12
"""Numbers are rounded to 10^-12 at the finest and 10^12 at the coarsest."""


class Rounding(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A number of decimals and how to get there; -2 decimals are whole hundreds.

    Attributes:
        decimals: -12 to 12.
        mode: how a number between two steps is rounded.
    """

    decimals: int = 0
    mode: RoundingMode = RoundingMode.HALF_EVEN

    def __post_init__(self) -> None:
        if not -MAX_ROUNDING <= self.decimals <= MAX_ROUNDING:
            raise InvalidInput(
                f"{self.decimals} decimals cannot be rounded to; -12 to 12 can",
                code="invalid_rounding",
                pointer="/rounding/decimals",
            )

    def applied(self, value: Decimal) -> Decimal:
        """Return the rounded number."""
        return plain(round_to(value, self.decimals, self.mode))


class Operation(StrEnum):
    """How a factor converts a quantity."""

    MULTIPLY = "multiply"
    DIVIDE = "divide"


class Conversion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How metered units become billed units: bytes to gigabytes, seconds to started minutes.

    Attributes:
        operation: what is done with the factor.
        factor: above 0.
        rounding: of the converted quantity; None keeps it as it is, which must be exact.
    """

    operation: Operation = Operation.MULTIPLY
    factor: Decimal = ONE
    rounding: Rounding | None = None

    def __post_init__(self) -> None:
        check_number(
            self.factor,
            what="factor",
            code="invalid_conversion",
            pointer="/conversion/factor",
            decimals=RATE_DECIMALS,
            positive=True,
        )
        if self.rounding is None and self.operation is Operation.DIVIDE:
            inverse = EXACT.divide(ONE, self.factor)
            if decimals_of(inverse) > RATE_DECIMALS or EXACT.multiply(inverse, self.factor) != ONE:
                raise InvalidInput(
                    f"a quantity divided by {self.factor} is not exact in {RATE_DECIMALS} decimals;"
                    " round it, or give the price of a unit size instead",
                    code="conversion_not_exact",
                    pointer="/conversion/factor",
                )

    @property
    def decimals(self) -> int:
        """Return the most decimals of a converted quantity."""
        if self.rounding is not None:
            return max(0, self.rounding.decimals)
        if self.operation is Operation.MULTIPLY:
            return QUANTITY_DECIMALS + decimals_of(self.factor)
        return QUANTITY_DECIMALS + decimals_of(EXACT.divide(ONE, self.factor))

    def converted(self, quantity: Decimal) -> Decimal:
        """Return the billed units of a metered quantity >= 0."""
        with localcontext(EXACT):
            if self.operation is Operation.MULTIPLY:
                value = quantity * self.factor
                return value if self.rounding is None else self.rounding.applied(value)
            if self.rounding is None:
                return quantity / self.factor
            step = ONE.scaleb(-self.rounding.decimals)
            return plain(whole_steps(quantity, self.factor * step, self.rounding.mode) * step)


class Commitment(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What a tenant has promised to use in a period.

    Attributes:
        amount: promised amount, >= 0; None where a quantity is promised.
        quantity: promised billed units, worth what the tiers charge for them; None where an
            amount is promised.
        overage_factor: what each unit of money beyond the commitment costs, >= 0.
        true_up: whether the close charges what was promised and not used.
    """

    amount: Decimal | None = None
    quantity: Decimal | None = None
    overage_factor: Decimal = ONE
    true_up: bool = True

    def __post_init__(self) -> None:
        if (self.amount is None) is (self.quantity is None):
            raise InvalidInput(
                "a commitment is either an amount or a quantity",
                code="invalid_commitment",
                pointer="/commitment",
            )
        for name, value, decimals in (
            ("amount", self.amount, RATE_DECIMALS),
            ("quantity", self.quantity, QUANTITY_DECIMALS),
            ("overage_factor", self.overage_factor, QUANTITY_DECIMALS),
        ):
            if value is not None:
                check_number(
                    value,
                    what=f"the commitment's {name}",
                    code="invalid_commitment",
                    pointer=f"/commitment/{name}",
                    decimals=decimals,
                )


class CloseAmounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the close of a period adds to F(Q).

    Attributes:
        true_up: what is missing to the commitment.
        minimum: what is then missing to the minimum.
    """

    true_up: Decimal = ZERO
    minimum: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Return both together."""
        return EXACT.add(self.true_up, self.minimum)


class ChargeModel(
    TierTable, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A table of tiers, what happens to the quantity before it and to the amount after it.

    In this order: the quantity is converted; free units are taken off; the tiers give the gross
    amount; the discount is taken off; what is beyond the commitment costs its overage factor; the
    maximum limits. The result is F(Q). At close the true-up and then the minimum are added.
    Amounts carry no currency: they are in that of whoever owns the model.

    Attributes:
        conversion: metered units to billed units.
        free_quantity: billed units of each period that cost nothing.
        discount_percent: 0 to 100.
        rounding: of the gross amount and of each amount derived from it; None rounds nothing.
        commitment: what the tenant has promised.
        max_amount: most that F comes to.
        min_amount: least that a period comes to, at close.

    Raises:
        InvalidInput: as `TierTable`; ``invalid_free_quantity``, ``invalid_discount``,
            ``invalid_limit``, ``invalid_commitment``; ``amount_not_exact`` where an amount could
            need more than 18 decimals and no rounding is said.
    """

    conversion: Conversion | None = None
    free_quantity: Decimal = ZERO
    discount_percent: Decimal = ZERO
    rounding: Rounding | None = None
    commitment: Commitment | None = None
    max_amount: Decimal | None = None
    min_amount: Decimal | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_numbers(self)
        _check_limits(self)
        _check_exact(self)

    def billed_quantity(self, quantity: Decimal) -> Decimal:
        """Return the billed units of a metered quantity, free units taken off."""
        _check_quantity(quantity)
        units = quantity if self.conversion is None else self.conversion.converted(quantity)
        return plain(max(EXACT.subtract(units, self.free_quantity), ZERO))

    def charge(self, quantity: Decimal) -> Decimal:
        """Return F(Q): what a period's cumulative quantity >= 0 costs, unrounded, before close.

        Raises:
            InvalidInput: ``invalid_quantity``.
        """
        return self._limited(self.net(self.gross(self.billed_quantity(quantity))))

    def charge_parts(self, quantity: Decimal) -> tuple[ChargePart, ...]:
        """Return the parts of the gross amount of a metered quantity."""
        return self.parts(self.billed_quantity(quantity))

    def difference(self, before: Decimal, quantity: Decimal) -> Decimal:
        """Return the charge of one event: F(Q + q) - F(Q); a void is the same with q below zero.

        Raises:
            InvalidInput: ``invalid_quantity``, also if Q + q is below zero.
        """
        after = self.charge(EXACT.add(before, quantity))
        return plain(EXACT.subtract(after, self.charge(before)))

    def at_close(self, quantity: Decimal) -> CloseAmounts:
        """Return what the close adds to F(Q)."""
        return self.close_of(self.charge(quantity))

    def total(self, quantity: Decimal) -> Decimal:
        """Return what a closed period owes: F(Q) and what the close adds."""
        charged = self.charge(quantity)
        return plain(EXACT.add(charged, self.close_of(charged).total))

    def gross(self, quantity: Decimal) -> Decimal:
        """Return the tiers' amount for billed units, rounded where the model says so."""
        return self._rounded(super().gross(quantity))

    def net(self, gross: Decimal) -> Decimal:
        """Return a gross amount after discount and overage, before the maximum."""
        with localcontext(EXACT):
            amount = self._rounded(gross * (HUNDRED - self.discount_percent) / HUNDRED)
            committed = self.committed()
            if self.commitment is None or committed is None or amount <= committed:
                return amount
            over = (amount - committed) * self.commitment.overage_factor
            return self._rounded(committed + over)

    def committed(self) -> Decimal | None:
        """Return the promised amount; None without a commitment."""
        if self.commitment is None:
            return None
        if self.commitment.quantity is None:
            return self.commitment.amount
        with localcontext(EXACT):
            gross = self.gross(self.commitment.quantity)
            return self._rounded(gross * (HUNDRED - self.discount_percent) / HUNDRED)

    def close_of(self, charged: Decimal) -> CloseAmounts:
        """Return what the close adds where ``charged`` was charged."""
        with localcontext(EXACT):
            true_up = minimum = ZERO
            committed = self.committed()
            if self.commitment is not None and committed is not None and self.commitment.true_up:
                true_up = max(committed - charged, ZERO)
            if self.min_amount is not None:
                minimum = max(self.min_amount - charged - true_up, ZERO)
            return CloseAmounts(true_up=plain(true_up), minimum=plain(minimum))

    def _limited(self, amount: Decimal) -> Decimal:
        return plain(amount if self.max_amount is None else min(amount, self.max_amount))

    def _rounded(self, amount: Decimal) -> Decimal:
        return plain(amount) if self.rounding is None else self.rounding.applied(amount)


def _check_quantity(quantity: Decimal) -> None:
    check_number(
        quantity,
        what="quantity",
        code="invalid_quantity",
        pointer="/quantity",
        decimals=QUANTITY_DECIMALS,
        limit=Decimal(QUANTITY_LIMIT),
    )


def _check_numbers(model: ChargeModel) -> None:
    check_number(
        model.free_quantity,
        what="free quantity",
        code="invalid_free_quantity",
        pointer="/free_quantity",
        decimals=QUANTITY_DECIMALS,
        limit=Decimal(QUANTITY_LIMIT),
    )
    check_number(
        model.discount_percent,
        what="discount",
        code="invalid_discount",
        pointer="/discount_percent",
        decimals=QUANTITY_DECIMALS,
        limit=HUNDRED + Decimal("0.000001"),
    )
    for name in ("max_amount", "min_amount"):
        value = getattr(model, name)
        if value is not None:
            check_number(
                value,
                what=name,
                code="invalid_limit",
                pointer=f"/{name}",
                decimals=RATE_DECIMALS,
            )


def _check_limits(model: ChargeModel) -> None:
    """Check that no limit makes another one impossible."""
    if model.max_amount is None:
        return
    if model.min_amount is not None and model.min_amount > model.max_amount:
        raise InvalidInput(
            f"the minimum {model.min_amount} is above the maximum {model.max_amount}",
            code="invalid_limit",
            pointer="/min_amount",
        )
    committed = model.committed()
    if committed is not None and committed > model.max_amount:
        raise InvalidInput(
            f"the commitment {committed} is above the maximum {model.max_amount}",
            code="invalid_limit",
            pointer="/commitment",
        )


def _check_exact(model: ChargeModel) -> None:
    """Check that amounts need no more decimals than are kept."""
    if model.rounding is not None:
        return
    decimals = _used_decimals(model)
    if decimals > AMOUNT_DECIMALS:
        raise InvalidInput(
            f"amounts of this model can need {decimals} decimals; {AMOUNT_DECIMALS} are kept, so"
            " give a rounding or coarser rates",
            code="amount_not_exact",
            pointer="/rounding",
        )


def _used_decimals(model: ChargeModel) -> int:
    conversion = model.conversion
    units = max(
        QUANTITY_DECIMALS if conversion is None else conversion.decimals,
        decimals_of(model.free_quantity),
    )
    decimals = max(_tier_decimals(tier, units) for tier in model.tiers)
    decimals += decimals_of(EXACT.divide(HUNDRED - model.discount_percent, HUNDRED))
    if model.commitment is not None:
        decimals += decimals_of(model.commitment.overage_factor)
    return decimals


def amount_decimals(model: ChargeModel) -> int:
    """Return the most decimals that F(Q) has, whatever the quantity."""
    limits = [decimals_of(model.max_amount)] if model.max_amount is not None else []
    if model.rounding is not None:
        return max([0, model.rounding.decimals, *limits])
    commitment = model.commitment
    if commitment is not None and commitment.amount is not None:
        limits.append(decimals_of(commitment.amount) + decimals_of(commitment.overage_factor))
    return max([_used_decimals(model), *limits])


def _tier_decimals(tier: Tier, units: int) -> int:
    """Return the most decimals of a tier's amount for quantities of ``units`` decimals."""
    found = [decimals_of(fee) for fee in (tier.flat, tier.cap) if fee is not None]
    if tier.rate is not None:
        if tier.blocks is None:
            found.append(units + decimals_of(EXACT.divide(tier.rate, tier.unit_size)))
        else:
            found.append(decimals_of(tier.rate))
    return max(found, default=0)


def per_unit(rate: Decimal, *, unit_size: Decimal = ONE) -> ChargeModel:
    """Return F(Q) = Q x rate / unit size."""
    return ChargeModel(tiers=(Tier(rate=rate, unit_size=unit_size),))


def graduated(tiers: Iterable[Tier]) -> ChargeModel:
    """Return the model that prices the units inside each tier by that tier."""
    return ChargeModel(tiers=tuple(tiers))


def volume(tiers: Iterable[Tier]) -> ChargeModel:
    """Return the model that prices all units by the tier the whole quantity falls into."""
    return ChargeModel(tiers=tuple(tiers), mode=TierMode.VOLUME)


def package(
    rate: Decimal,
    *,
    unit_size: Decimal,
    blocks: RoundingMode = RoundingMode.UP,
    free_quantity: Decimal = ZERO,
) -> ChargeModel:
    """Return the model that sells packages of ``unit_size`` units, counted by ``blocks``."""
    tier = Tier(rate=rate, unit_size=unit_size, blocks=blocks)
    return ChargeModel(tiers=(tier,), free_quantity=free_quantity)


def percentage(percent: Decimal) -> ChargeModel:
    """Return the model that charges a percentage of a quantity that is money itself."""
    return per_unit(percent, unit_size=HUNDRED)


def dynamic(*, minor_units: int = 0, multiplier: Decimal = ONE) -> ChargeModel:
    """Return the model of amounts that events state: their sum is the quantity.

    Args:
        minor_units: decimals of the unit in which events state it: 2 for cents.
        multiplier: what each stated amount is multiplied with.
    """
    unit = ONE.scaleb(minor_units)
    return per_unit(multiplier, unit_size=unit)


def rate_windows(model: ChargeModel, quantities: Iterable[Decimal]) -> tuple[Decimal, ...]:
    """Return what each window of a period owes where the model runs anew in each window."""
    return tuple(model.total(quantity) for quantity in quantities)
