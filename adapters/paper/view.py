"""What a page shows of an invoice: the document's members as texts, for `invoice.typ`.

Nothing is computed here but how things are written; every amount is the document's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from adapters.paper.texts import amount, clean, day, days, number, shortened
from ledger.domain.invoice_parts import (
    InvoiceLine,
    LinePart,
    Party,
    ServiceDays,
    Tax,
    TaxCategory,
)
from ledger.domain.invoices import DocumentKind, Invoice, InvoiceStatus
from ledger.domain.periods import zone

_CATEGORIES = {
    TaxCategory.STANDARD: "",
    TaxCategory.ZERO: "zero rate",
    TaxCategory.EXEMPT: "exempt",
    TaxCategory.REVERSE_CHARGE: "reverse charge",
    TaxCategory.INTRA_COMMUNITY: "intra-Community",
    TaxCategory.EXPORT: "export",
    TaxCategory.OUTSIDE_SCOPE: "no tax",
}
_MARKS = {
    InvoiceStatus.VOID: "VOID",
    InvoiceStatus.PAID: "",
    InvoiceStatus.UNCOLLECTIBLE: "",
    InvoiceStatus.FINALIZED: "",
    InvoiceStatus.DRAFT: "DRAFT",
}
_DETAILS_NOTE = (
    "Exact amounts are rounded once, half to even. Commits of the ledger and a digest, here its"
    " first 16 digits, pin the entries behind a line; a fee has none."
)
_SEVERAL = 2
_DIGITS = 16
"""Digits of the digests of lines: people compare them, programs have the whole document."""
_UNIT = 20
"""Characters of a unit that have room beside a quantity."""


def view_of(invoice: Invoice, *, status: InvoiceStatus | None = None) -> dict[str, Any]:
    """Return the texts of a page, JSON-ready.

    Args:
        invoice: a document, final or not.
        status: where it is; None says what the document itself says: draft or final.
    """
    final = bool(invoice.digest)
    if not final:
        status = InvoiceStatus.DRAFT
    heading = "Credit note" if invoice.kind is DocumentKind.CREDIT_NOTE else "Invoice"
    named = f"{heading} {invoice.number}" if final else f"{heading} (draft)"
    seller = invoice.seller or Party()
    buyer = invoice.buyer or Party()
    lines = [_line(invoice, line) for line in invoice.lines]
    return {
        "title": clean(named),
        "author": clean(seller.name),
        "running": clean(named),
        "from": shortened(seller.name, 60),
        "issued": _document_date(invoice.issued_at),
        "mark": _MARKS[status] if status is not None else "",
        "heading": heading if final else f"Draft {heading.lower()}",
        "subheading": _subheading(invoice, status),
        "meta": [[name, clean(value)] for name, value in _meta(invoice) if value],
        "parties": [
            *([_party("From", seller)] if seller != Party() else []),
            _party("Billed to" if heading == "Invoice" else "To", buyer, otherwise=invoice.tenant),
        ],
        "currency": invoice.currency,
        "counted": any(line.quantity is not None for line in invoice.lines),
        "taxed": _taxed(invoice),
        "lines": lines,
        "quantity_head": _shared(lines, "quantity"),
        "price_head": _shared(lines, "price"),
        "totals": _totals(invoice),
        "sections": [section for section in _sections(invoice) if section["rows"]],
        "details_note": _DETAILS_NOTE,
        "details": [_detail(line) for line in invoice.lines] if _detailed(invoice) else [],
        "digest": f"SHA-256 {invoice.digest}"
        if final
        else "Draft: without a number it is no invoice",
    }


def _document_date(at: datetime | None) -> dict[str, int] | None:
    if at is None:
        return None
    at = at.astimezone(UTC)
    return {
        name: getattr(at, name) for name in ("year", "month", "day", "hour", "minute", "second")
    }


def _subheading(invoice: Invoice, status: InvoiceStatus | None) -> str:
    if status is InvoiceStatus.VOID:
        return "Void: nothing is to be paid"
    if status is InvoiceStatus.PAID:
        return "Paid"
    if status is InvoiceStatus.DRAFT:
        return "Not to be paid; amounts may change until it is final"
    return clean(invoice.number)


def _meta(invoice: Invoice) -> list[tuple[str, str]]:
    cites, buyer = invoice.cites, invoice.buyer
    return [
        ("Corrects invoice", cites.number if cites is not None else ""),
        ("Issued", _local_day(invoice)),
        ("Due", day(invoice.due_on) if invoice.due_on is not None and cites is None else ""),
        ("Billing period", days(invoice.period)),
        ("Your reference", buyer.reference if buyer is not None else ""),
        ("Account", invoice.tenant),
        ("Currency", invoice.currency),
        ("Time zone", invoice.timezone),
    ]


def _local_day(invoice: Invoice) -> str:
    if invoice.issued_at is None:
        return ""
    return day(invoice.issued_at.astimezone(zone(invoice.timezone)).date())


def _party(label: str, party: Party, *, otherwise: str = "") -> dict[str, Any]:
    rows = [
        *party.address,
        party.country,
        f"VAT ID {party.tax_id}" if party.tax_id else "",
        party.email,
    ]
    return {
        "label": label,
        "name": clean(party.name or otherwise),
        "rows": [row for row in map(clean, rows) if row],
    }


def _taxed(invoice: Invoice) -> bool:
    outside = TaxCategory.OUTSIDE_SCOPE
    return any(line.tax.category is not outside for line in invoice.lines)


def _rate(tax: Tax) -> str:
    name = _CATEGORIES[tax.category]
    if tax.category is TaxCategory.STANDARD:
        return f"{number(tax.percent)} %"
    return name


def _line(invoice: Invoice, line: InvoiceLine) -> dict[str, Any]:
    quantity, quantity_notes = _quantity(line)
    price, price_notes = "", []
    if line.unit_price is not None:
        price = amount(line.unit_price, invoice.currency)
        size = line.unit_size
        price_notes = [f"per {number(size)}"] if size is not None and size != 1 else []
    return {
        "number": str(line.number),
        "description": clean(line.description),
        "notes": [clean(note) for note in _line_notes(invoice, line)],
        "quantity": quantity,
        "quantity_notes": quantity_notes,
        "price": price,
        "price_notes": price_notes,
        "tax": _rate(line.tax),
        "amount": amount(line.amount, invoice.currency),
    }


def _shared(lines: Sequence[dict[str, Any]], name: str) -> str:
    """Take a note that all lines share from them, for the head of its column to have it once."""
    notes = [line[f"{name}_notes"] for line in lines if line[name]]
    if len(notes) < _SEVERAL or len(notes[0]) != 1 or any(one != notes[0] for one in notes):
        return ""
    for line in lines:
        line[f"{name}_notes"] = []
    shared: str = notes[0][0]
    return shared


def _quantity(line: InvoiceLine) -> tuple[str, list[str]]:
    metered, billed = line.quantity, line.billed
    if billed is None and metered is None:
        return "", []
    if billed is None or billed == metered:
        return number(metered or Decimal(0)), [shortened(line.unit, _UNIT)] if line.unit else []
    if metered is None:
        return number(billed), []
    return number(billed), [f"of {number(metered)}", f"{shortened(line.unit, _UNIT)} metered"]


def _line_notes(invoice: Invoice, line: InvoiceLine) -> list[str]:
    notes = []
    if line.of_line:
        notes.append(f"line {line.of_line} of the invoice")
    if line.late:
        notes.append(f"{days(line.service)}, which came after that period had closed")
    elif line.service != invoice.period:
        notes.append(days(line.service))
    if line.formula:
        notes.append(line.formula)
    notes += [_part(invoice, part) for part in line.parts if len(line.parts) > 1 or part.unit_price]
    return notes


def _part(invoice: Invoice, part: LinePart) -> str:
    charged = f"{amount(part.amount, invoice.currency)}"
    if part.unit_price is None:
        what = {"flat": "flat fee", "cap": "limit"}.get(part.kind, part.kind)
        return f"tier {part.tier}, {what}: {charged}"
    size = f" per {number(part.unit_size)}" if part.unit_size not in (None, 1) else ""
    price = amount(part.unit_price, invoice.currency)
    return f"tier {part.tier}: {number(part.quantity)} at {price}{size} = {charged}"


def _totals(invoice: Invoice) -> list[tuple[str, str, bool]]:
    currency = invoice.currency
    rows = []
    if invoice.taxes:
        rows.append(("Net", amount(invoice.net, currency), False))
        for one in invoice.taxes:
            tax = Tax(category=one.category, percent=one.percent)
            if one.category is TaxCategory.OUTSIDE_SCOPE:
                continue
            name = f"Tax {_rate(tax)} on {amount(one.net, currency)}"
            rows.append((name, amount(one.tax, currency), False))
    note = invoice.kind is DocumentKind.CREDIT_NOTE
    rows.append(
        (f"Total {'credited ' if note else ''}{currency}", amount(invoice.total, currency), True)
    )
    if invoice.prepaid and not note:
        rows.append(("Paid from prepaid credit", amount(-invoice.prepaid, currency), False))
    if not note and (invoice.prepaid or invoice.due < 0):
        owed = invoice.due < 0
        name = "In your favour" if owed else "Amount due"
        rows.append((f"{name} {currency}", amount(abs(invoice.due), currency), True))
    return rows


def _sections(invoice: Invoice) -> list[dict[str, Any]]:
    displays = []
    for one in invoice.displays:
        total = amount(one.total, one.currency)
        source = f", {one.source}" if one.source else ""
        rate = f"{number(one.rate)} {one.currency} for 1 {invoice.currency}"
        displays.append(f"{one.currency} {total} ({rate}{source})")
    unpriced = [
        f"{one.provider} {one.model} {one.meter}: {number(one.quantity)}"
        for one in invoice.unpriced
    ]
    plans = [
        f"{one.plan}, version {one.version}: "
        + days(ServiceDays(first_day=one.first_day, after_day=one.after_day))
        for one in invoice.plans
    ]
    return [
        _section("Reason", [invoice.reason] if invoice.reason else []),
        _section("Notes", list(invoice.notes)),
        _section("The total in other currencies, for information only", displays),
        _section("Plans", plans),
        _section("Used but not billed yet, for want of a price", unpriced),
    ]


def _section(head: str, rows: list[str]) -> dict[str, Any]:
    return {"head": head, "rows": [clean(row) for row in rows]}


def _detailed(invoice: Invoice) -> bool:
    return any(line.evidence is not None or line.price_version for line in invoice.lines)


def _detail(line: InvoiceLine) -> list[str]:
    evidence = line.evidence
    behind = ""
    if evidence is not None:
        query = evidence.query
        pinned = evidence.digest[:_DIGITS]
        behind = f"{pinned}  commits {query.after_commit + 1}\u2013{query.through_commit}"
    priced = clean(f"{line.number} {line.price_version}")
    return [priced, number(line.unrounded), behind]
