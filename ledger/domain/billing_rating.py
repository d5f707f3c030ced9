"""Rates the days of a billing period from rollups: plan charges, and list prices for the rest.

`rate_span` says what is owed for a span; `less_billed` takes off what earlier invoices billed of
the same days. So all invoices of a span together bill what one would have, whatever came late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from functools import lru_cache
from typing import NamedTuple

import msgspec

from ledger.domain.billing_calendar import Span, Stretch
from ledger.domain.billing_periods import BillingPeriod
from ledger.domain.invoice_parts import LineKind, LinePart
from ledger.domain.invoices import UnpricedLine
from ledger.domain.line_formulas import charge_formula
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.money import EXACT, plain
from ledger.domain.patterns import matches
from ledger.domain.plan_periods import PlanLine, PlanLineKind, rate_plan
from ledger.domain.plan_rates import at_rest
from ledger.domain.plans import HOUR, Plan, PlanCharge
from ledger.domain.tenant_plans import PLAN_PRICE, price_of
from ledger.domain.tiers import ZERO, ChargePart, PartKind

PlanKey = tuple[str, int]
"""Name and version."""


class UsageRow(msgspec.Struct, frozen=True, array_like=True):
    """A billing rollup's row.

    Attributes:
        day: local day of the tenant, or the first of several that are summed.
        meter: "" holds what belongs to no leaf: reversals' charges and what credit paid.
        platform: the platform pays; nothing is charged.
        price_version: of the sell price; "" where there is none.
        rate: of one unit.
        charge: unrounded, at list prices.
        unpriced: part of the quantity that has no price.
        credit: what prepaid credit paid.
    """

    day: date
    provider: str
    model: str
    meter: str
    byok: bool
    platform: bool
    price_version: str
    rate: Decimal
    quantity: Decimal
    charge: Decimal
    unpriced: Decimal
    credit: Decimal


class LineKey(NamedTuple):
    """What makes two lines of two invoices the same position."""

    first_day: date
    after_day: date
    kind: str
    name: str
    price_version: str
    provider: str = ""
    model: str = ""
    meter: str = ""
    byok: bool = False


class RatedLine(msgspec.Struct, frozen=True, kw_only=True):
    """What is owed for one position; the members of `InvoiceLine` before rounding and tax.

    Attributes:
        plan: that held on its days; None where none did.
        continues: an earlier invoice billed part of it.
    """

    key: LineKey
    description: str
    unrounded: Decimal
    quantity: Decimal | None = None
    billed: Decimal | None = None
    unit: str = ""
    unit_size: Decimal | None = None
    unit_price: Decimal | None = None
    parts: tuple[LinePart, ...] = ()
    formula: str = ""
    plan: PlanKey | None = None
    continues: bool = False

    @property
    def has_entries(self) -> bool:
        """Whether entries of the ledger are behind it."""
        return self.key.kind in (LineKind.CHARGE, LineKind.USAGE, LineKind.REVERSAL)


class RatedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What is owed for a span.

    Attributes:
        lines: in the order in which they stand on an invoice.
        credit: what prepaid credit paid of its usage.
        unpriced: usage that no line holds.
        settled: what the ledger charged is what the plan's charges come to; else usage is to be
            rated again, for a subscription changed after it was recorded.
        waiting: usage without a price is of a charge's kind; rating it again may find one.
    """

    lines: tuple[RatedLine, ...]
    credit: Decimal
    unpriced: tuple[UnpricedLine, ...]
    settled: bool = True
    waiting: bool = False


def rate_span(
    span: Span,
    stretches: Sequence[Stretch],
    rows: Iterable[UsageRow],
    *,
    plans: Mapping[PlanKey, Plan],
    unit_size: Callable[[str], Decimal],
) -> RatedSpan:
    """Return what is owed for a span.

    Args:
        span: its days.
        stretches: which plan holds when.
        rows: of these days.
        plans: those of the stretches.
        unit_size: units that a price row's rate was given for, by its version.
    """
    rows = list(rows)
    credit = _sum(row.credit for row in rows)
    lines: list[RatedLine] = []
    unpriced: dict[tuple[str, str, str], Decimal] = {}
    settled, waiting = True, False
    for stretch, found in _by_stretch(stretches, rows).items():
        plan = plans[stretch.plan, stretch.version] if stretch.plan else None
        rest = [row for row in found if not row.platform]
        if plan is not None:
            taken, rest = _shared(plan, _prices(plan, stretch, span.period), rest)
            lines += _plan_lines(plan, span, stretch, taken)
            settled = settled and _is_settled(plan, span, stretch, taken)
            waiting = waiting or any(one.unpriced for one in taken.values())
        # What another plan charged sums to nothing once it is rated again, over all of its days.
        listed = [row for row in rest if not _charged_by_plan(row)]
        lines += _list_lines(stretch, listed, plan, unit_size)
        settled = settled and not any(_charged_by_plan(row) and row.quantity for row in rest)
        for row in found:
            if row.unpriced and not row.platform:
                key = (row.provider, row.model, row.meter)
                unpriced[key] = EXACT.add(unpriced.get(key, ZERO), row.unpriced)
    return RatedSpan(
        lines=tuple(lines),
        credit=plain(credit),
        unpriced=tuple(
            UnpricedLine(provider=key[0], model=key[1], meter=key[2], quantity=plain(quantity))
            for key, quantity in sorted(unpriced.items())
            if quantity
        ),
        settled=settled,
        waiting=waiting,
    )


def rows_at_list_prices(
    stretches: Sequence[Stretch], rows: Iterable[UsageRow], *, plans: Mapping[PlanKey, Plan]
) -> list[UsageRow]:
    """Return the rows whose charge is billed as it is: no plan's charge takes them.

    Args:
        stretches: which plan holds when; of all days of the rows.
        rows: of any days.
        plans: those of the stretches.
    """
    found = []
    for stretch, own in _by_stretch(stretches, rows).items():
        rest = [row for row in own if not row.platform]
        if stretch.plan:
            plan = plans[stretch.plan, stretch.version]
            rest = _shared(plan, dict.fromkeys((one.name for one in plan.charges), ""), rest)[1]
        found += [row for row in rest if not _charged_by_plan(row)]
    return found


def _by_stretch(
    stretches: Sequence[Stretch], rows: Iterable[UsageRow]
) -> dict[Stretch, list[UsageRow]]:
    found: dict[Stretch, list[UsageRow]] = {one: [] for one in stretches}
    for row in rows:
        for stretch in stretches:
            if stretch.first_day <= row.day < stretch.after_day:
                found[stretch].append(row)
    return found


class _Taken(msgspec.Struct):
    """What a charge takes.

    Attributes:
        days: priced quantity by day.
        posted: what the ledger charged by the charge's price on these days.
        strange: whether something of it is charged by another price.
        unpriced: whether something of it has no price.
    """

    days: dict[date, Decimal]
    posted: Decimal = ZERO
    strange: bool = False
    unpriced: bool = False

    @property
    def quantity(self) -> Decimal:
        """Return the sum of the days."""
        return _sum(self.days.values())


def _shared(
    plan: Plan, prices: Mapping[str, str], rows: Iterable[UsageRow]
) -> tuple[dict[str, _Taken], list[UsageRow]]:
    """Return what each charge takes, and the rows that none takes.

    Args:
        plan: that holds.
        prices: what stands for a price version on these days, by charge name.
        rows: of these days.
    """
    taken: dict[str, _Taken] = {}
    rest = []
    # Many days are of few kinds of usage.
    charges: dict[tuple[str, str, str, bool], PlanCharge | None] = {}
    for row in rows:
        if not row.meter:
            rest.append(row)
            continue
        kind = (row.provider, row.model, row.meter, row.byok)
        try:
            charge = charges[kind]
        except KeyError:
            charge = charges[kind] = plan.charge_for(
                provider=row.provider, model=row.model, meter=row.meter, byok=row.byok
            )
        if charge is None:
            rest.append(row)
            continue
        one = taken.setdefault(charge.name, _Taken({}))
        priced = EXACT.subtract(row.quantity, row.unpriced)
        one.days[row.day] = EXACT.add(one.days.get(row.day, ZERO), priced)
        one.unpriced = one.unpriced or bool(row.unpriced)
        if row.price_version == prices[charge.name]:
            one.posted = EXACT.add(one.posted, row.charge)
        else:
            one.strange = one.strange or bool(priced)
    return taken, rest


def _prices(plan: Plan, stretch: Stretch, period: BillingPeriod) -> dict[str, str]:
    return {
        charge.name: price_of(charge, plan.name, stretch, period).version for charge in plan.charges
    }


def _is_settled(plan: Plan, span: Span, stretch: Stretch, taken: Mapping[str, _Taken]) -> bool:
    """Tell whether the ledger charged what the charges come to, to the digit."""
    for charge in plan.charges:
        one = taken.get(charge.name)
        if one is None:
            continue
        if one.strange:
            return False
        if charge.window == HOUR:
            # Rollups have no hours.
            continue
        model = charge.model_for(
            span.period, first_day=stretch.first_day, after_day=stretch.after_day
        )
        runs = one.days.values() if charge.window else [one.quantity]
        with localcontext(EXACT):
            if sum((model.charge(run) - at_rest(model) for run in runs), ZERO) != one.posted:
                return False
    return True


def _charged_by_plan(row: UsageRow) -> bool:
    return row.price_version.startswith(PLAN_PRICE)


def _plan_lines(
    plan: Plan, span: Span, stretch: Stretch, taken: Mapping[str, _Taken]
) -> list[RatedLine]:
    windows = {charge.name: charge.window for charge in plan.charges}
    usage = {
        name: [quantity for quantity in one.days.values() if quantity]
        if windows[name]
        else [one.quantity]
        for name, one in taken.items()
    }
    rated = rate_plan(
        plan,
        span.period,
        usage,
        first_day=stretch.first_day,
        after_day=stretch.after_day,
        posted={name: one.posted for name, one in taken.items()},
    )
    charges = {charge.name: charge for charge in plan.charges}
    made = (_plan_line(line, stretch, charges) for line in rated.lines)
    return [line for line in made if line.unrounded or line.quantity]


_WHOLE_PLAN = {
    PlanLineKind.OVERAGE: "use beyond the commitment",
    PlanLineKind.TRUE_UP: "commitment that was not used up",
    PlanLineKind.MINIMUM: "up to the minimum charge",
}


def _plan_line(line: PlanLine, stretch: Stretch, charges: Mapping[str, PlanCharge]) -> RatedLine:
    key = LineKey(
        stretch.first_day,
        stretch.after_day,
        line.kind.value,
        line.name,
        f"plan/{stretch.plan}@{stretch.version}",
    )
    plan = (stretch.plan, stretch.version)
    if line.kind is PlanLineKind.CHARGE:
        charge = charges[line.name]
        detail = line.charge
        single = _single_price(charge)
        return RatedLine(
            key=key,
            description=line.name,
            unrounded=line.amount,
            quantity=line.quantity,
            billed=None if detail is None else detail.billed,
            unit=_unit(charge.meters),
            unit_price=None if single is None else single[0],
            unit_size=None if single is None else single[1],
            parts=() if detail is None or single else tuple(map(_part, detail.parts)),
            formula=f"each {charge.window} by the tiers on its own, then summed"
            if detail is None
            else charge_formula(detail, single),
            plan=plan,
        )
    proration = line.proration
    shared = proration is not None and proration.amount != proration.full
    return RatedLine(
        key=key,
        description=_WHOLE_PLAN.get(line.kind, line.name),
        unrounded=line.amount,
        formula=proration.formula if proration is not None and shared else line.formula,
        plan=plan,
    )


def _single_price(charge: PlanCharge) -> tuple[Decimal, Decimal] | None:
    """Return the one price of a charge and its unit size; None where the amount has other parts."""
    model = charge.model
    tier = model.tiers[0]
    simple = len(model.tiers) == 1 and not charge.window and not model.discount_percent
    if not simple or tier.rate is None or tier.flat is not None or tier.cap is not None:
        return None
    return tier.rate, tier.unit_size


def _part(part: ChargePart) -> LinePart:
    usage = part.kind is PartKind.USAGE
    return LinePart(
        kind=part.kind.value,
        tier=part.tier + 1,
        quantity=part.billed if usage else part.quantity,
        amount=part.amount,
        unit_price=part.rate if usage else None,
        unit_size=part.unit_size if usage else None,
    )


@lru_cache(maxsize=4096)
def _unit(meters: tuple[str, ...]) -> str:
    units = {meter.unit for meter in STANDARD_METERS.values() if matches(meters, meter.name)}
    return units.pop() if len(units) == 1 else ""


def _list_lines(
    stretch: Stretch,
    rows: Iterable[UsageRow],
    plan: Plan | None,
    unit_size: Callable[[str], Decimal],
) -> list[RatedLine]:
    sums: dict[LineKey, list[Decimal]] = {}
    for row in rows:
        key = LineKey(
            stretch.first_day,
            stretch.after_day,
            (LineKind.USAGE if row.meter else LineKind.REVERSAL).value,
            "",
            row.price_version,
            row.provider,
            row.model,
            row.meter,
            row.byok,
        )
        known = sums.setdefault(key, [ZERO, ZERO, row.rate])
        known[0] = EXACT.add(known[0], EXACT.subtract(row.quantity, row.unpriced))
        known[1] = EXACT.add(known[1], row.charge)
    held = None if plan is None else (stretch.plan, stretch.version)
    return [
        _list_line(key, *numbers, held=held, unit_size=unit_size)
        for key, numbers in sorted(sums.items(), key=lambda one: (not one[0].meter, one[0]))
        if numbers[1] or (numbers[0] and numbers[2])
    ]


def _list_line(
    key: LineKey,
    quantity: Decimal,
    charge: Decimal,
    rate: Decimal,
    *,
    held: PlanKey | None,
    unit_size: Callable[[str], Decimal],
) -> RatedLine:
    if not key.meter:
        return RatedLine(
            key=key,
            description=_words(key.provider, key.model, "reversed"),
            unrounded=plain(charge),
            plan=held,
        )
    size = unit_size(key.price_version)
    with localcontext(EXACT):
        # An amount is billed units times the rate, so this has an end.
        billed = charge / rate if rate else quantity
    return RatedLine(
        key=key,
        description=_words(key.provider, key.model, key.meter, "own key" if key.byok else ""),
        unrounded=plain(charge),
        quantity=plain(quantity),
        billed=plain(billed),
        unit=_unit((key.meter,)),
        unit_size=size,
        unit_price=plain(EXACT.multiply(rate, size)),
        plan=held,
    )


def _words(*words: str) -> str:
    return " ".join(word for word in words if word)


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    with localcontext(EXACT):
        return sum(numbers, ZERO)
