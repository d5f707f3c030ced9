"""Facts of a month: usage, costs, credit, an invoice and all that can become of one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from fakes import invoice_samples as invoices

from ledger.domain.billing_account import (
    AccountCommit,
    CreditNoteIssued,
    InvoiceFinalized,
    InvoiceMoved,
)
from ledger.domain.credit_notes import credit_note_of
from ledger.domain.invoice_parts import (
    EvidenceQuery,
    InvoiceLine,
    LineKind,
    evidence_of,
    invoice_line,
)
from ledger.domain.invoices import (
    Invoice,
    InvoiceStatus,
    PrepaidDays,
    finalize,
    invoice_of,
    to_document,
)
from ledger.domain.journal_facts import (
    CostAccrued,
    CreditMove,
    CreditMoved,
    DocumentMoved,
    Fact,
    UsageAccrued,
    document_facts,
)
from ledger.domain.periods import to_us

DAY = date(2026, 11, 5)
ISSUED = datetime(2026, 12, 3, 1, tzinfo=UTC)
BERLIN = "Europe/Berlin"


def used(meter: str, amount: str, *, tenant: str = "acme", currency: str = "EUR") -> UsageAccrued:
    """Return a day's usage."""
    return UsageAccrued(tenant, currency, DAY, meter, Decimal(amount))


def credit(
    move: CreditMove, amount: str, *, promotional: bool = False, tenant: str = "acme"
) -> CreditMoved:
    """Return a move of credit."""
    return CreditMoved(tenant, "EUR", DAY, move, promotional, Decimal(amount))


def usage_line(meter: str, unrounded: Decimal, *, currency: str = "EUR") -> InvoiceLine:
    """Return a line at list prices; "" is a reversal."""
    query = EvidenceQuery(
        tenant="acme",
        since=datetime(2026, 11, 1, tzinfo=UTC),
        until=datetime(2026, 12, 1, tzinfo=UTC),
        through_commit=9,
        provider="openai",
        model="m",
        meter=meter,
    )
    return invoice_line(
        kind=LineKind.USAGE if meter else LineKind.REVERSAL,
        description=meter or "reversed",
        service=invoices.NOVEMBER,
        unrounded=unrounded,
        currency=currency,
        tax=invoices.STANDARD,
        evidence=evidence_of(query, chain=b"\2" * 32),
    )


def plan_line(kind: LineKind, amount: str, *, currency: str = "EUR") -> InvoiceLine:
    """Return a line of a plan."""
    return invoice_line(
        kind=kind,
        description=kind.value,
        service=invoices.NOVEMBER,
        unrounded=Decimal(amount),
        currency=currency,
        tax=invoices.REDUCED,
    )


def invoice(
    lines: Sequence[InvoiceLine],
    *,
    number: str = "INV-000001",
    credit: str = "0",
    currency: str = "EUR",
    tenant: str = "acme",
) -> Invoice:
    """Return a final invoice of November."""
    credits = (PrepaidDays(service=invoices.NOVEMBER, unrounded=Decimal(credit)),)
    draft = invoice_of(
        id=f"2026-11-01-{number}",
        tenant=tenant,
        currency=currency,
        timezone=BERLIN,
        period=invoices.NOVEMBER,
        lines=lines,
        credits=credits if Decimal(credit) else (),
    )
    return finalize(draft, series="INV", number=number, issued_at=ISSUED)


def finalized(one: Invoice) -> InvoiceFinalized:
    """Return what an account says of a final invoice."""
    return InvoiceFinalized(one.id, one.number, to_document(one))


def moved(one: Invoice, status: InvoiceStatus) -> InvoiceMoved:
    """Return what an account says of a move."""
    return InvoiceMoved(one.id, status, "")


def credited(
    one: Invoice, total: str | None, *, number: str, earlier: Sequence[Invoice] = ()
) -> CreditNoteIssued:
    """Return what an account says of a credit note; None gives back all that is left."""
    draft = credit_note_of(
        one,
        id=number,
        reason="r",
        total=None if total is None else Decimal(total),
        earlier=earlier,
    )
    note = finalize(draft, series="INV-CN", number=number, issued_at=ISSUED)
    return CreditNoteIssued(one.id, note.id, note.number, to_document(note))


def history(*events: object) -> list[DocumentMoved]:
    """Return the facts of an account whose events came a day after the other."""
    commits = [
        AccountCommit(to_us(ISSUED.replace(day=3 + place)), "ann", (event,))  # type: ignore[arg-type]
        for place, event in enumerate(events)
    ]
    return list(document_facts(commits, timezone=BERLIN))


def documents_of(currency: str, tenant: str) -> list[Fact]:
    """Return usage and documents in a currency of any decimals, and all that can become of them.

    A paid invoice with a credit note, a void one, one that was uncollectible, credited and paid
    after all, and one that stayed uncollectible.
    """

    def bill(number: str, *lines: InvoiceLine, credit: str = "0") -> Invoice:
        return invoice(lines, number=number, currency=currency, tenant=tenant, credit=credit)

    def used_line(amount: str) -> InvoiceLine:
        return usage_line("tokens.input", Decimal(amount), currency=currency)

    paid = bill(
        "INV-000001",
        used_line("1234.56789"),
        plan_line(LineKind.FEE, "100.4445", currency=currency),
        credit="34.5",
    )
    void = bill("INV-000002", used_line("7.7777"))
    bad = bill("INV-000003", used_line("55.0055"))
    lost = bill("INV-000004", plan_line(LineKind.CHARGE, "9.9995", currency=currency))
    return [
        *(
            UsageAccrued(tenant, currency, DAY, "tokens.input", Decimal(amount))
            for amount in ("1234.56789", "7.7777", "55.0055")
        ),
        CreditMoved(tenant, currency, DAY, CreditMove.GRANTED, False, Decimal("34.5")),
        CreditMoved(tenant, currency, DAY, CreditMove.BURNED, False, Decimal("34.5")),
        *history(
            finalized(paid),
            credited(paid, "10", number="INV-CN-000001"),
            moved(paid, InvoiceStatus.PAID),
            finalized(void),
            moved(void, InvoiceStatus.VOID),
        ),
        *history(
            finalized(bad),
            moved(bad, InvoiceStatus.UNCOLLECTIBLE),
            credited(bad, "1", number="INV-CN-000002"),
            moved(bad, InvoiceStatus.PAID),
        ),
        *history(finalized(lost), moved(lost, InvoiceStatus.UNCOLLECTIBLE)),
    ]


def everything() -> list[Fact]:
    """Return facts that use every rule."""
    bill = invoice(
        [
            usage_line("tokens.input", Decimal("12.3456789")),
            usage_line("images", Decimal("0.0049")),
            usage_line("", Decimal("-0.5")),
            *(
                plan_line(kind, amount)
                for kind, amount in (
                    (LineKind.FEE, "100"),
                    (LineKind.CHARGE, "28.037034"),
                    (LineKind.OVERAGE, "1"),
                    (LineKind.TRUE_UP, "2"),
                    (LineKind.MINIMUM, "3"),
                )
            ),
        ],
        credit="3.00001",
    )
    void = invoice([plan_line(LineKind.FEE, "7")], number="INV-000002")
    bad = invoice([usage_line("tokens.output", Decimal("5.005"))], number="INV-000003")
    lost = invoice([plan_line(LineKind.FEE, "9")], number="INV-000004")
    moves = [
        credit(move, "10.5", promotional=promotional)
        for move in CreditMove
        for promotional in (False, True)
    ]
    return [
        used("tokens.input", "12.3456789"),
        used("images", "0.0049"),
        used("", "-0.5"),
        used("tokens.output", "5.005"),
        UsageAccrued("yen & co", "JPY", DAY, "tokens.input", Decimal("0.25")),
        CostAccrued("acme", "USD", DAY, "OpenAI (EU)", Decimal("3.000000000000000001")),
        *moves,
        *history(
            finalized(bill),
            credited(bill, "10", number="INV-CN-000001"),
            moved(bill, InvoiceStatus.PAID),
            finalized(void),
            moved(void, InvoiceStatus.VOID),
        ),
        *history(
            finalized(bad),
            moved(bad, InvoiceStatus.UNCOLLECTIBLE),
            credited(bad, "1", number="INV-CN-000002"),
            moved(bad, InvoiceStatus.PAID),
        ),
        *history(finalized(lost), moved(lost, InvoiceStatus.UNCOLLECTIBLE)),
        *documents_of("JPY", "yen & co"),
        *documents_of("KWD", "dinar"),
    ]
