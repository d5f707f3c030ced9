"""Invoices: the immutable document, its totals, taxes and digest. See docs/spec/invoices.md.

A draft is made from lines by `invoice_of`; `finalize` gives it number, date and digest, after
which nothing changes it: `credit_notes` corrects it by another document that cites it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal, localcontext
from enum import StrEnum
from hashlib import sha256
from typing import Any

import msgspec

from ledger.domain.errors import InvariantViolation
from ledger.domain.invoice_parts import (
    InvoiceLine,
    Party,
    PlanDays,
    ServiceDays,
    Tax,
    TaxCategory,
    TaxTotal,
    canonical,
    document_tree,
)
from ledger.domain.money import EXACT, plain, round_money
from ledger.domain.taxes import tax_on
from ledger.domain.tiers import ZERO

FORM = "tallybook.invoice:1"
"""Form of the document; another form gets another number."""
NOTES = {
    TaxCategory.REVERSE_CHARGE: "Reverse charge: the recipient accounts for the tax.",
    TaxCategory.INTRA_COMMUNITY: "Intra-Community supply, exempt from tax.",
    TaxCategory.EXPORT: "Export outside the tax territory, free of tax.",
    TaxCategory.EXEMPT: "Exempt from tax.",
}
"""What a category obliges the seller to say."""


class DocumentKind(StrEnum):
    """What a document is; amounts of a credit note are what is given back, so above zero."""

    INVOICE = "invoice"
    CREDIT_NOTE = "credit_note"


class InvoiceStatus(StrEnum):
    """Where an invoice is; see `allowed`."""

    DRAFT = "draft"
    FINALIZED = "finalized"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    VOID = "void"


_NEXT = {
    InvoiceStatus.DRAFT: (InvoiceStatus.FINALIZED,),
    InvoiceStatus.FINALIZED: (
        InvoiceStatus.PAID,
        InvoiceStatus.UNCOLLECTIBLE,
        InvoiceStatus.VOID,
    ),
    InvoiceStatus.UNCOLLECTIBLE: (InvoiceStatus.PAID,),
    InvoiceStatus.PAID: (),
    InvoiceStatus.VOID: (),
}


def allowed(status: InvoiceStatus, *, to: InvoiceStatus) -> bool:
    """Tell whether an invoice can go from a status to another one."""
    return to in _NEXT[status]


class Cited(msgspec.Struct, frozen=True, kw_only=True):
    """The invoice that a credit note corrects."""

    id: str
    number: str
    digest: str


class UnpricedLine(msgspec.Struct, frozen=True, kw_only=True):
    """Usage of the period that has no price yet: in no line, billed once it has one."""

    provider: str
    model: str
    meter: str
    quantity: Decimal


class PrepaidDays(msgspec.Struct, frozen=True, kw_only=True):
    """What prepaid credit paid for usage of some days.

    Attributes:
        service: the days.
        unrounded: exact amount; below zero gives back.
    """

    service: ServiceDays
    unrounded: Decimal


class Display(msgspec.Struct, frozen=True, kw_only=True):
    """The total in another currency, for reading only; nothing is owed in it.

    Attributes:
        currency: ISO 4217.
        rate: what one unit of the invoice's currency is worth.
        total: rounded half-even to that currency's minor unit.
        source: whose rate, of when.
    """

    currency: str
    rate: Decimal
    total: Decimal
    source: str = ""


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice or a credit note.

    Attributes:
        id: unique for the tenant.
        kind: what it is.
        tenant: who owes it.
        currency: of every amount, ISO 4217.
        timezone: in which its days are.
        period: billing period.
        lines: numbered from 1.
        taxes: one a rate and category, ordered.
        net: sum of the lines' amounts.
        tax: sum of the taxes.
        total: net + tax.
        due: total - prepaid; below zero it is owed to the buyer.
        prepaid: what prepaid credit has paid already: the sum of ``credits``, rounded once.
        form: of this document.
        series: of its number.
        number: gapless in its series; "" in a draft.
        issued_at: when it got its number; None in a draft.
        due_on: last local day for payment.
        seller: as on the day of issue.
        buyer: likewise.
        plans: which held when.
        notes: for people; reverse charge and the like.
        unpriced: usage without a price.
        credits: what prepaid credit paid, by days.
        displays: the total in other currencies.
        cites: of a credit note: what it corrects.
        reason: of a credit note.
        digest: SHA-256 of the canonical document without this member; "" in a draft.
    """

    id: str
    kind: DocumentKind
    tenant: str
    currency: str
    timezone: str
    period: ServiceDays
    lines: tuple[InvoiceLine, ...]
    taxes: tuple[TaxTotal, ...]
    net: Decimal
    tax: Decimal
    total: Decimal
    due: Decimal
    form: str
    prepaid: Decimal = ZERO
    series: str = ""
    number: str = ""
    issued_at: datetime | None = None
    due_on: date | None = None
    seller: Party | None = None
    buyer: Party | None = None
    plans: tuple[PlanDays, ...] = ()
    notes: tuple[str, ...] = ()
    unpriced: tuple[UnpricedLine, ...] = ()
    credits: tuple[PrepaidDays, ...] = ()
    displays: tuple[Display, ...] = ()
    cites: Cited | None = None
    reason: str = ""
    digest: str = ""


def tax_totals(lines: Iterable[tuple[Tax, Decimal]], *, currency: str) -> tuple[TaxTotal, ...]:
    """Return the tax of each rate and category, on the sum of what it applies to.

    Args:
        lines: rate and rounded amount of each line.
        currency: of the amounts.
    """
    sums: dict[Tax, Decimal] = {}
    for tax, amount in lines:
        sums[tax] = EXACT.add(sums.get(tax, ZERO), amount)
    return tuple(
        TaxTotal(
            category=tax.category,
            percent=plain(tax.percent),
            net=plain(net),
            tax=tax_on(net, percent=tax.percent, currency=currency),
        )
        for tax, net in sorted(sums.items())
    )


def invoice_of(
    *,
    id: str,
    tenant: str,
    currency: str,
    timezone: str,
    period: ServiceDays,
    lines: Sequence[InvoiceLine],
    credits: Sequence[PrepaidDays] = (),
    **members: Any,
) -> Invoice:
    """Return a draft: lines numbered, taxes and totals computed, notes that its taxes oblige to.

    Args:
        id: unique for the tenant.
        tenant: who owes it.
        currency: of every amount.
        timezone: of its days.
        period: billing period.
        lines: in order.
        credits: what prepaid credit paid.
        members: the rest of `Invoice`, by name.
    """
    numbered = tuple(
        msgspec.structs.replace(line, number=number) for number, line in enumerate(lines, start=1)
    )
    taxes = tax_totals(((line.tax, line.amount) for line in numbered), currency=currency)
    net, tax = _sum(line.amount for line in numbered), _sum(one.tax for one in taxes)
    total = plain(EXACT.add(net, tax))
    paid = plain(round_money(_sum(one.unrounded for one in credits), currency))
    return Invoice(
        id=id,
        kind=members.pop("kind", DocumentKind.INVOICE),
        tenant=tenant,
        currency=currency,
        timezone=timezone,
        period=period,
        lines=numbered,
        taxes=taxes,
        net=net,
        tax=tax,
        total=total,
        prepaid=paid,
        credits=tuple(credits),
        due=plain(EXACT.subtract(total, paid)),
        form=FORM,
        notes=(
            *members.pop("notes", ()),
            *(NOTES[one] for one in dict.fromkeys(t.category for t in taxes) if one in NOTES),
        ),
        **members,
    )


def finalize(
    draft: Invoice,
    *,
    series: str,
    number: str,
    issued_at: datetime,
    due_on: date | None = None,
    seller: Party | None = None,
    buyer: Party | None = None,
) -> Invoice:
    """Return the document for good: with number, date, parties and digest.

    Raises:
        InvariantViolation: its sums are wrong, or it is final already.
    """
    if draft.digest:
        raise InvariantViolation(f"{draft.id} is final already, as {draft.number}")
    final = msgspec.structs.replace(
        draft,
        series=series,
        number=number,
        issued_at=issued_at,
        due_on=due_on,
        seller=seller,
        buyer=buyer,
    )
    _check_sums(final)
    return msgspec.structs.replace(final, digest=digest_of(final))


def digest_of(invoice: Invoice) -> str:
    """Return the SHA-256 of the canonical document (RFC 8785) without its digest, hexadecimal."""
    tree = document_tree(invoice)
    tree.pop("digest", None)
    return sha256(canonical(tree)).hexdigest()


def to_document(invoice: Invoice) -> bytes:
    """Return the canonical JSON document; what is stored, and what the digest is of."""
    return canonical(document_tree(invoice))


def from_document(document: bytes) -> Invoice:
    """Return the invoice of a stored document.

    Raises:
        InvariantViolation: it is no invoice's document, or its digest or sums are wrong.
    """
    try:
        invoice = msgspec.json.decode(document, type=Invoice)
    except msgspec.DecodeError as error:
        raise InvariantViolation(f"a stored invoice cannot be read: {error}") from error
    check(invoice)
    return invoice


def check(invoice: Invoice) -> None:
    """Check that lines sum to the net amount, taxes to the tax, and the digest is the document's.

    Raises:
        InvariantViolation: something does not.
    """
    _check_sums(invoice)
    if invoice.digest and invoice.digest != digest_of(invoice):
        raise InvariantViolation(f"invoice {invoice.id}: wrong digest")


def _check_sums(invoice: Invoice) -> None:
    net, tax = _sum(line.amount for line in invoice.lines), _sum(one.tax for one in invoice.taxes)
    with localcontext(EXACT):
        wrong = [
            name
            for name, holds in (
                ("net", net == invoice.net == _sum(one.net for one in invoice.taxes)),
                ("tax", tax == invoice.tax),
                ("total", invoice.total == net + tax),
                ("due", invoice.due == invoice.total - invoice.prepaid),
            )
            if not holds
        ]
    if wrong:
        raise InvariantViolation(f"invoice {invoice.id}: wrong {', '.join(wrong)}")


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(EXACT):
        return plain(sum(amounts, ZERO))
