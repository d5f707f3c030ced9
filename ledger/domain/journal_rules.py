"""The rules of the journal: which accounts a fact moves. The table is in docs/spec/journal.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from typing import assert_never

from ledger.domain.errors import InvariantViolation
from ledger.domain.invoice_parts import InvoiceLine, LineKind
from ledger.domain.invoices import Invoice
from ledger.domain.journal import (
    BILLED,
    BREAKAGE,
    CASH,
    CREDIT_TRANSFERS,
    DEFERRED_CREDIT,
    PLAN_INCOME,
    PROMOTION,
    PROMOTIONAL_CREDIT,
    PROVIDER_COST,
    PROVIDER_PAYABLE,
    ROUNDING,
    TAX,
    UNBILLED,
    USAGE_INCOME,
    WRITE_OFFS,
    Booking,
    Drawn,
    JournalLine,
    Rule,
    account,
    bookings,
)
from ledger.domain.journal_facts import (
    CostAccrued,
    CreditMove,
    CreditMoved,
    DocumentMove,
    DocumentMoved,
    Fact,
    UsageAccrued,
)
from ledger.domain.money import EXACT, minor_units
from ledger.domain.tiers import ZERO

REVERSALS = "reversals"
"""Family of what reversals took back, which belongs to no meter."""
_AT_LIST_PRICES = (LineKind.USAGE, LineKind.REVERSAL)
# Debit, credit, and rule: first of credit that was paid for, then of promotional credit.
_CREDIT = {
    CreditMove.GRANTED: (
        (CASH, DEFERRED_CREDIT, Rule.CREDIT_GRANTED),
        (PROMOTION, PROMOTIONAL_CREDIT, Rule.PROMOTION_GRANTED),
    ),
    CreditMove.TRANSFERRED_IN: (
        (CREDIT_TRANSFERS, DEFERRED_CREDIT, Rule.CREDIT_TRANSFERRED_IN),
        (CREDIT_TRANSFERS, PROMOTIONAL_CREDIT, Rule.PROMOTION_TRANSFERRED_IN),
    ),
    CreditMove.BURNED: (
        (DEFERRED_CREDIT, UNBILLED, Rule.CREDIT_BURNED),
        (PROMOTIONAL_CREDIT, UNBILLED, Rule.PROMOTION_BURNED),
    ),
    CreditMove.EXPIRED: (
        (DEFERRED_CREDIT, BREAKAGE, Rule.CREDIT_EXPIRED),
        (PROMOTIONAL_CREDIT, PROMOTION, Rule.PROMOTION_EXPIRED),
    ),
    CreditMove.REFUNDED: (
        (DEFERRED_CREDIT, CASH, Rule.CREDIT_REFUNDED),
        (PROMOTIONAL_CREDIT, PROMOTION, Rule.PROMOTION_WITHDRAWN),
    ),
    CreditMove.TRANSFERRED_OUT: (
        (DEFERRED_CREDIT, CREDIT_TRANSFERS, Rule.CREDIT_TRANSFERRED_OUT),
        (PROMOTIONAL_CREDIT, CREDIT_TRANSFERS, Rule.PROMOTION_TRANSFERRED_OUT),
    ),
}


def journal(facts: Iterable[Fact]) -> list[Booking]:
    """Return the bookings of facts, in order of tenant, currency, day and rule.

    Raises:
        InvariantViolation: an invoice's sums leave more than roundings.
    """
    return bookings(map(draw, facts))


def draw(fact: Fact) -> Drawn:
    """Return what a fact moves.

    Raises:
        InvariantViolation: as `journal`.
    """
    match fact:
        case UsageAccrued():
            income = account(USAGE_INCOME, family_of(fact.meter))
            lines = _moved(UNBILLED, income, fact.amount)
            return Drawn(fact.tenant, fact.currency, fact.day, Rule.USAGE_ACCRUED, lines)
        case CostAccrued():
            lines = _moved(
                account(PROVIDER_COST, fact.provider),
                account(PROVIDER_PAYABLE, fact.provider),
                fact.amount,
            )
            return Drawn(fact.tenant, fact.currency, fact.day, Rule.PROVIDER_COST_ACCRUED, lines)
        case CreditMoved():
            debit, credit, rule = _CREDIT[fact.move][fact.promotional]
            lines = _moved(debit, credit, fact.amount)
            return Drawn(fact.tenant, fact.currency, fact.day, rule, lines)
        case DocumentMoved():
            return _document(fact)
    assert_never(fact)


def family_of(meter: str) -> str:
    """Return the family of a meter: the first word of its name."""
    return meter.partition(".")[0] or REVERSALS


def _document(fact: DocumentMoved) -> Drawn:
    invoice, note = fact.invoice, fact.note
    lines: Sequence[JournalLine]
    match fact.move:
        case DocumentMove.FINALIZED:
            rule, lines = Rule.INVOICE_FINALIZED, _finalized(invoice)
        case DocumentMove.VOIDED:
            rule = Rule.INVOICE_VOIDED
            lines = [JournalLine(one.account, -one.amount) for one in _finalized(invoice)]
        case DocumentMove.PAID if fact.written_off:
            rule, lines = Rule.UNCOLLECTIBLE_PAID, _moved(CASH, WRITE_OFFS, fact.left)
        case DocumentMove.PAID:
            rule, lines = Rule.INVOICE_PAID, _moved(CASH, BILLED, fact.left)
        case DocumentMove.UNCOLLECTIBLE:
            rule, lines = Rule.INVOICE_UNCOLLECTIBLE, _moved(WRITE_OFFS, BILLED, fact.left)
        case DocumentMove.CREDITED:
            if note is None:
                raise InvariantViolation(f"{invoice.number} was credited by nothing")
            rule = Rule.CREDIT_NOTE_ISSUED
            if fact.written_off:
                rule = Rule.CREDIT_NOTE_OF_UNCOLLECTIBLE
            lines = _credited(invoice, note, written_off=fact.written_off)
        case _:
            assert_never(fact.move)
    number = invoice.number if note is None else note.number
    return Drawn(invoice.tenant, invoice.currency, fact.day, rule, lines, number)


def _moved(debit: str, credit: str, amount: Decimal) -> list[JournalLine]:
    return [JournalLine(debit, amount), JournalLine(credit, -amount)]


def _finalized(invoice: Invoice) -> list[JournalLine]:
    lines = [JournalLine(BILLED, invoice.due), JournalLine(TAX, -invoice.tax)]
    for line in invoice.lines:
        if line.kind in _AT_LIST_PRICES:
            # What was accrued day by day is billed now, to its last digit.
            lines.append(JournalLine(UNBILLED, -line.unrounded))
        else:
            lines.append(JournalLine(_income(line), -line.amount))
    lines += [JournalLine(UNBILLED, one.unrounded) for one in invoice.credits]
    with localcontext(EXACT):
        over = sum((line.amount for line in lines), ZERO)
        roundings = len(invoice.lines) + 1
        if abs(over) > roundings * Decimal("0.5").scaleb(-minor_units(invoice.currency)):
            raise InvariantViolation(
                f"invoice {invoice.number}: lines, tax and prepaid credit miss what is due by"
                f" {over}, more than {roundings} roundings can"
            )
    lines.append(JournalLine(ROUNDING, -over))
    return lines


def _credited(invoice: Invoice, note: Invoice, *, written_off: bool) -> list[JournalLine]:
    cited = {line.number: line for line in invoice.lines}
    lines = [JournalLine(_income(cited[line.of_line]), line.amount) for line in note.lines]
    owed = WRITE_OFFS if written_off else BILLED
    return [*lines, JournalLine(TAX, note.tax), JournalLine(owed, -note.total)]


def _income(line: InvoiceLine) -> str:
    if line.kind not in _AT_LIST_PRICES:
        return account(PLAN_INCOME, line.kind.value)
    meter = line.evidence.query.meter if line.evidence is not None else ""
    return account(USAGE_INCOME, family_of(meter))
