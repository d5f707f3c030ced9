"""What is owed beyond what was billed: the lines of a span, less those of its earlier invoices.

So all invoices of a span together bill what one would have, whatever came late.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from ledger.domain.billing_calendar import Span
from ledger.domain.billing_rating import LineKey, RatedLine
from ledger.domain.invoice_parts import InvoiceLine, ServiceDays
from ledger.domain.invoices import Invoice
from ledger.domain.money import EXACT, plain, text
from ledger.domain.tiers import ZERO

_DIFFERENCE = " (difference from "


_MOST_NAMES = 3


class Billed(NamedTuple):
    """What earlier invoices billed of one position; their numbers, "" of a draft."""

    line: InvoiceLine
    unrounded: Decimal
    quantity: Decimal
    billed: Decimal
    numbers: tuple[str, ...]


def billed_lines(invoices: Iterable[Invoice], span: Span) -> tuple[dict[LineKey, Billed], Decimal]:
    """Return what invoices billed of a span's days, and what credit they took off for them."""
    found: dict[LineKey, Billed] = {}
    credit = ZERO
    for invoice in invoices:
        for one in invoice.credits:
            if _within(one.service, span):
                credit = EXACT.add(credit, one.unrounded)
        for line in invoice.lines:
            if not _within(line.service, span):
                continue
            key = key_of(line)
            known = found.get(key) or Billed(line, ZERO, ZERO, ZERO, ())
            found[key] = Billed(
                line,
                EXACT.add(known.unrounded, line.unrounded),
                EXACT.add(known.quantity, line.quantity or ZERO),
                EXACT.add(known.billed, line.billed or ZERO),
                (*known.numbers, invoice.number),
            )
    return found, credit


def key_of(line: InvoiceLine) -> LineKey:
    """Return the position of an invoice's line."""
    query = line.evidence.query if line.evidence is not None else None
    return LineKey(
        line.service.first_day,
        line.service.after_day,
        line.kind.value,
        line.name,
        line.price_version,
        query.provider if query is not None else "",
        query.model if query is not None else "",
        query.meter if query is not None else "",
        query.byok if query is not None else False,
    )


def less_billed(lines: Iterable[RatedLine], billed: Mapping[LineKey, Billed]) -> list[RatedLine]:
    """Return what is owed beyond what was billed; nothing for a position that did not change.

    The description of a difference names the invoices that it is a difference from.
    """
    left = dict(billed)
    differences = []
    for line in lines:
        before = left.pop(line.key, None)
        changed = line if before is None else _less(line, before)
        if changed is not None:
            differences.append(changed)
    for key, before in left.items():
        gone = _less(_nothing(key, before.line), before)
        if gone is not None:
            differences.append(gone)
    return differences


def _less(line: RatedLine, before: Billed) -> RatedLine | None:
    amount = EXACT.subtract(line.unrounded, before.unrounded)
    quantity = EXACT.subtract(line.quantity or ZERO, before.quantity)
    if not amount and not quantity:
        return None
    billed = EXACT.subtract(line.billed or ZERO, before.billed)
    tiers = line.quantity is not None and line.unit_price is None
    formula = f"{text(line.unrounded)} - {text(before.unrounded)} billed before"
    priced = line.quantity is not None and not tiers and not line.formula
    return msgspec.structs.replace(
        line,
        description=f"{line.description}{_DIFFERENCE}{_names(before.numbers)})",
        unrounded=plain(amount),
        quantity=None if line.quantity is None else plain(quantity),
        billed=None if line.billed is None else plain(billed),
        parts=(),
        continues=True,
        formula="" if priced else "; ".join(one for one in (formula, line.formula) if one),
    )


def _names(numbers: Sequence[str]) -> str:
    if all(numbers) and len(numbers) <= _MOST_NAMES:
        return ", ".join(numbers)
    return "what was billed before"


def _nothing(key: LineKey, line: InvoiceLine) -> RatedLine:
    """Return a position as it is where nothing is owed for it any more."""
    query = line.evidence.query if line.evidence is not None else None
    none = None if line.quantity is None else ZERO
    return RatedLine(
        key=key,
        # Of a difference that an earlier invoice billed, what it is a difference of.
        description=line.description.partition(_DIFFERENCE)[0],
        unrounded=ZERO,
        quantity=none,
        billed=none,
        unit=line.unit,
        unit_size=line.unit_size,
        unit_price=line.unit_price,
        plan=(query.plan, query.plan_version) if query is not None and query.plan else None,
    )


def _within(service: ServiceDays, span: Span) -> bool:
    return span.first_day <= service.first_day and service.after_day <= span.after_day
