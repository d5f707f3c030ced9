"""Lines of a charge: one period billed at once or in several lines, which then sum to the same.

A line bills F(Q + q) - F(Q), Q being what the lines before it billed. The first line of a period
also bills F(0), what is owed without any use; the last one what the close adds.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

import msgspec

from ledger.domain.charge_models import ChargeModel, CloseAmounts
from ledger.domain.errors import InvalidInput
from ledger.domain.money import EXACT, plain
from ledger.domain.tiers import ZERO, ChargePart, PartKind


class ChargeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a period.

    Attributes:
        quantity: metered units of the line; below zero takes back.
        billed: billed units of the line, after conversion and free units.
        gross: what the tiers charge for them.
        discount: what discount and maximum take off, less what overage adds.
        close: what the close adds, in a last line.
        amount: gross - discount + close: what the line bills, unrounded unless the model rounds.
        parts: usage, fees and caps behind the gross amount; they sum to it unless it is rounded.
    """

    quantity: Decimal
    billed: Decimal
    gross: Decimal
    discount: Decimal
    close: CloseAmounts
    amount: Decimal
    parts: tuple[ChargePart, ...]


def rate_line(
    model: ChargeModel,
    quantity: Decimal,
    *,
    before: Decimal = ZERO,
    first: bool | None = None,
    last: bool = False,
    billed_before: Decimal | None = None,
) -> ChargeLine:
    """Return one line of a period.

    Args:
        model: what is charged.
        quantity: metered units of this line.
        before: metered units of the lines before it.
        first: whether it is the period's first line; by default the one with nothing before it.
        last: whether it closes the period.
        billed_before: what the lines before it billed, where that is not F(before), because a
            line was rounded or a price was another; the limits count what was really billed.

    Raises:
        InvalidInput: ``invalid_quantity``.
    """
    if first is None:
        first = not before
    with localcontext(EXACT):
        after = before + quantity
        units_before, units = model.billed_quantity(before), model.billed_quantity(after)
        gross_before = ZERO if first else model.gross(units_before)
        gross = model.gross(units)
        net_before = ZERO if first else model.net(gross_before)
        net = model.net(gross)
        charged_before = ZERO if first else model.charge(before)
        charged = model.charge(after)
        usage = charged - charged_before
        if billed_before is not None:
            usage = net - net_before
            if model.max_amount is not None:
                usage = min(usage, max(model.max_amount - billed_before, ZERO))
            charged = billed_before + usage
        close = model.close_of(charged) if last else CloseAmounts()
        return ChargeLine(
            quantity=plain(quantity),
            billed=plain(units - (ZERO if first else units_before)),
            gross=plain(gross - gross_before),
            discount=plain(gross - gross_before - usage),
            close=close,
            amount=plain(usage + close.total),
            parts=_between(() if first else model.parts(units_before), model.parts(units)),
        )


def split_period(model: ChargeModel, quantities: Sequence[Decimal]) -> tuple[ChargeLine, ...]:
    """Return the lines of a whole period that is billed in as many lines as quantities.

    Raises:
        InvalidInput: ``invalid_quantity``, also where there is no line at all.
    """
    if not quantities:
        raise InvalidInput("a period has at least one line", code="invalid_quantity")
    lines = []
    before = ZERO
    for number, quantity in enumerate(quantities, start=1):
        lines.append(
            rate_line(
                model,
                quantity,
                before=before,
                first=number == 1,
                last=number == len(quantities),
            )
        )
        before = EXACT.add(before, quantity)
    return tuple(lines)


def _between(before: Sequence[ChargePart], after: Sequence[ChargePart]) -> tuple[ChargePart, ...]:
    """Return the parts that lead from one cumulative charge to another; unchanged ones not."""
    earlier = {(part.tier, part.kind): part for part in before}
    parts = []
    for part in after:
        known = earlier.pop((part.tier, part.kind), None)
        if known is None:
            parts.append(part)
        elif known != part:
            parts.append(_less(part, known))
    gone = [_taken_back(part) for part in earlier.values()]
    return tuple(sorted(gone, key=lambda part: part.tier)) + tuple(parts)


def _less(part: ChargePart, known: ChargePart) -> ChargePart:
    with localcontext(EXACT):
        amount = part.amount - known.amount
        if part.kind is PartKind.CAP:
            return msgspec.structs.replace(part, rate=plain(amount), amount=plain(amount))
        return msgspec.structs.replace(
            part,
            quantity=plain(part.quantity - known.quantity),
            billed=plain(part.billed - known.billed),
            amount=plain(amount),
        )


def _taken_back(part: ChargePart) -> ChargePart:
    return msgspec.structs.replace(
        part,
        quantity=EXACT.minus(part.quantity),
        billed=EXACT.minus(part.billed),
        amount=EXACT.minus(part.amount),
    )
