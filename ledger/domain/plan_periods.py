"""What a plan charges for a period, or for the days of one: its lines and their total.

A plan that changes in mid-period has two stretches of days. Each is rated on its own, from a
running quantity of 0, with fees, included units, limits and commitments by its days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from enum import StrEnum

import msgspec

from ledger.domain.billing_periods import BillingPeriod, ProratedAmount, prorate_by_day
from ledger.domain.charge_lines import ChargeLine, rate_line
from ledger.domain.charge_models import rate_windows
from ledger.domain.errors import InvalidInput
from ledger.domain.line_formulas import minimum_formula, overage_formula, true_up_formula
from ledger.domain.money import AMOUNT_DECIMALS, EXACT, RATE_DECIMALS, plain
from ledger.domain.plans import HOUR, Plan, PlanCharge, PlanFee, overage_on
from ledger.domain.tiers import ZERO


class PlanLineKind(StrEnum):
    """What a line of a plan is for, in the order in which lines stand."""

    FEE = "fee"
    CHARGE = "charge"
    OVERAGE = "overage"
    TRUE_UP = "true_up"
    MINIMUM = "minimum"


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a plan's period.

    Attributes:
        kind: what it is for.
        name: of the fee or the charge; "" for what concerns the whole plan.
        amount: unrounded, in the plan's currency.
        quantity: metered units of a charge.
        charge: how a charge came about; None where it ran in windows.
        proration: how a fee came about; None where all of it is due.
        formula: how an amount about all charges together came about.
    """

    kind: PlanLineKind
    name: str
    amount: Decimal
    quantity: Decimal = ZERO
    charge: ChargeLine | None = None
    proration: ProratedAmount | None = None
    formula: str = ""


class PlanPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan charges for the days of a period from ``first_day`` to before ``after_day``.

    Attributes:
        period: the period.
        first_day: first local day charged, within the period.
        after_day: local day after the last one charged.
        lines: in the order of `PlanLineKind`, then of the plan.
    """

    period: BillingPeriod
    first_day: date
    after_day: date
    lines: tuple[PlanLine, ...]

    @property
    def total(self) -> Decimal:
        """Return the sum of the lines, unrounded."""
        with localcontext(EXACT):
            return plain(sum((line.amount for line in self.lines), ZERO))


def rate_plan(
    plan: Plan,
    period: BillingPeriod,
    usage: Mapping[str, Sequence[Decimal]],
    *,
    first_day: date | None = None,
    after_day: date | None = None,
    posted: Mapping[str, Decimal] | None = None,
) -> PlanPeriod:
    """Return what a plan charges for a closed period, or for some days of it.

    Args:
        plan: the version in force on those days.
        period: one of the plan's cycle.
        usage: metered units by charge name, summed; for a charge with a window one number a
            window, and a window that is left out is not charged, not even what 0 costs. A charge
            that is not named had no use.
        first_day: first local day of the stretch; by default the period's first.
        after_day: day after its last; by default the one after the period's last.
        posted: what was charged by now, by charge name; where it is given it is what charges that
            run anew every hour come to, whose numbers are then of whatever windows.

    Raises:
        InvalidInput: ``unknown_charge``, ``invalid_quantity``; ``invalid_proration`` if the days
            are in the wrong order or outside the period.
    """
    first = period.first_day if first_day is None else first_day
    after = period.after_day if after_day is None else after_day
    if not period.first_day <= first <= after <= period.after_day:
        raise InvalidInput(
            f"{first} to before {after} is no stretch of days of {period.name}",
            code="invalid_proration",
        )
    unknown = usage.keys() - {charge.name for charge in plan.charges}
    if unknown:
        raise InvalidInput(
            f"{plan.name} has no charge {', '.join(sorted(unknown))}", code="unknown_charge"
        )
    rated = PlanPeriod(period=period, first_day=first, after_day=after, lines=())
    if first == after:
        return rated
    known = {} if posted is None else posted
    charges = [
        _charge_line(charge, usage.get(charge.name, ()), rated, known.get(charge.name))
        for charge in plan.charges
    ]
    fees = [_fee_line(fee, rated) for fee in plan.fees]
    whole = _plan_lines(plan, charges, rated)
    return msgspec.structs.replace(rated, lines=(*fees, *charges, *whole))


def _share(full: Decimal, rated: PlanPeriod, *, decimals: int = AMOUNT_DECIMALS) -> ProratedAmount:
    return prorate_by_day(
        full,
        period=rated.period,
        first_day=rated.first_day,
        after_day=rated.after_day,
        decimals=decimals,
    )


def _fee_line(fee: PlanFee, rated: PlanPeriod) -> PlanLine:
    proration = _share(fee.amount, rated) if fee.prorated else None
    amount = fee.amount if proration is None else proration.amount
    return PlanLine(kind=PlanLineKind.FEE, name=fee.name, amount=amount, proration=proration)


def _charge_line(
    charge: PlanCharge,
    quantities: Sequence[Decimal],
    rated: PlanPeriod,
    posted: Decimal | None,
) -> PlanLine:
    model = charge.model_for(rated.period, first_day=rated.first_day, after_day=rated.after_day)
    with localcontext(EXACT):
        quantity = sum(quantities, ZERO)
        if charge.window == HOUR and posted is not None:
            amount, line = posted, None
        elif charge.window:
            amount, line = sum(rate_windows(model, quantities), ZERO), None
        else:
            line = rate_line(model, quantity, last=True)
            amount = line.amount
        return PlanLine(
            kind=PlanLineKind.CHARGE,
            name=charge.name,
            amount=plain(amount),
            quantity=plain(quantity),
            charge=line,
        )


def _plan_lines(plan: Plan, charges: Sequence[PlanLine], rated: PlanPeriod) -> list[PlanLine]:
    """Return the lines about all charges together: overage, true-up, minimum."""
    with localcontext(EXACT):
        charged = sum((line.amount for line in charges), ZERO)
        commitment = plan.commitment
        overage = true_up = ZERO
        lines = []
        if commitment is not None and commitment.amount is not None:
            promised = _share(commitment.amount, rated, decimals=RATE_DECIMALS)
            commitment = msgspec.structs.replace(commitment, amount=promised.amount)
            true_up = max(promised.amount - charged, ZERO) if commitment.true_up else ZERO
            overage = overage_on(charged, commitment)
            factor = commitment.overage_factor
            said = overage_formula(overage, charged=charged, promised=promised, factor=factor)
            lines.append((PlanLineKind.OVERAGE, overage, said))
            said = true_up_formula(true_up, charged=charged, promised=promised)
            lines.append((PlanLineKind.TRUE_UP, true_up, said))
        if plan.min_amount is not None:
            least = _share(plan.min_amount, rated, decimals=RATE_DECIMALS)
            minimum = max(least.amount - charged - overage - true_up, ZERO)
            said = minimum_formula(
                minimum, charged=charged, overage=overage, true_up=true_up, least=least
            )
            lines.append((PlanLineKind.MINIMUM, minimum, said))
    return [
        PlanLine(kind=kind, name="", amount=plain(amount), formula=said)
        for kind, amount, said in lines
        if amount
    ]
