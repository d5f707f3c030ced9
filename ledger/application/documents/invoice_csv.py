"""Invoices as CSV: a row a line, a tax and a prepaid amount, so that a document's rows sum to due.

RFC 4180 with a head, UTF-8, rows end with CR LF. A text that a spreadsheet would take for a
formula begins with an apostrophe; numbers never do.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any

from ledger.domain.invoice_parts import InvoiceLine, TaxTotal, document_tree
from ledger.domain.invoices import Invoice
from ledger.domain.money import plain, text

COLUMNS = (
    "document",
    "form",
    "number",
    "tenant",
    "buyer",
    "currency",
    "issued_at",
    "due_on",
    "cites",
    "row",
    "line",
    "kind",
    "name",
    "description",
    "first_day",
    "after_day",
    "late",
    "quantity",
    "unit",
    "billed",
    "unit_size",
    "unit_price",
    "price_version",
    "unrounded",
    "amount",
    "tax_category",
    "tax_percent",
    "of_line",
    "evidence",
    "digest",
)
"""Head of the table, in order; new columns are only ever added at its end."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_TEXTS = frozenset(
    {
        "document",
        "number",
        "tenant",
        "buyer",
        "cites",
        "name",
        "description",
        "unit",
        "price_version",
    }
)


def invoice_csv(invoices: Iterable[Invoice]) -> Iterator[str]:
    """Yield the head, then the rows of each invoice, as CSV.

    Args:
        invoices: final ones or drafts, of any tenants and currencies.
    """
    yield _csv(dict(zip(COLUMNS, COLUMNS, strict=True)))
    for invoice in invoices:
        for row in _rows(invoice):
            yield _csv(row)


def safe_text(value: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{value}" if value.startswith(_FORMULA) else value


def _csv(row: dict[str, Any]) -> str:
    cells = (str(row.get(name, "")) for name in COLUMNS)
    guarded = (
        safe_text(cell) if name in _TEXTS else cell
        for name, cell in zip(COLUMNS, cells, strict=True)
    )
    out = io.StringIO()
    csv.writer(out).writerow(guarded)
    return out.getvalue()


def _rows(invoice: Invoice) -> Iterator[dict[str, Any]]:
    head = {
        "document": invoice.id,
        "form": invoice.kind.value,
        "number": invoice.number,
        "tenant": invoice.tenant,
        "buyer": invoice.buyer.name if invoice.buyer is not None else "",
        "currency": invoice.currency,
        "issued_at": document_tree(invoice.issued_at) or "",
        "due_on": document_tree(invoice.due_on) or "",
        "cites": invoice.cites.number if invoice.cites is not None else "",
        "digest": invoice.digest,
    }
    for line in invoice.lines:
        yield head | _line(line)
    for tax in invoice.taxes:
        yield head | _tax(tax)
    if invoice.prepaid:
        yield head | {"row": "prepaid", "amount": text(plain(-invoice.prepaid))}


def _line(line: InvoiceLine) -> dict[str, Any]:
    tree = document_tree(line)
    same = ("kind", "name", "description", "quantity", "unit", "billed", "unit_size", "unit_price")
    more = ("price_version", "unrounded", "amount", "of_line")
    return {name: tree[name] for name in (*same, *more) if name in tree} | {
        "row": "line",
        "line": line.number,
        "first_day": line.service.first_day.isoformat(),
        "after_day": line.service.after_day.isoformat(),
        "late": "true" if line.late else "",
        "tax_category": line.tax.category.value,
        "tax_percent": text(line.tax.percent),
        "evidence": line.evidence.digest if line.evidence is not None else "",
    }


def _tax(tax: TaxTotal) -> dict[str, Any]:
    return {
        "row": "tax",
        "amount": text(tax.tax),
        "tax_category": tax.category.value,
        "tax_percent": text(tax.percent),
    }
