"""Forms of an invoice for people and spreadsheets; see docs/spec/invoices.md, "Forms".

JSON is the document itself (`ledger.domain.invoices.to_document`), CSV is made here
(`documents/invoice_csv.py`), and a page is set by whatever implements `InvoicePrinter`.
"""

from __future__ import annotations

from typing import Protocol

from ledger.domain.invoices import Invoice, InvoiceStatus


class InvoicePrinter(Protocol):
    """Sets invoices and credit notes as PDF."""

    def pdf(self, invoice: Invoice, *, status: InvoiceStatus | None = None) -> bytes:
        """Return a PDF; the same document and status give the same bytes, always and anywhere.

        Args:
            invoice: a document; one without digest is marked as a draft.
            status: of a final invoice, where void or paid are to be shown.

        Raises:
            Unavailable: ``pdf_unavailable`` where what sets it is not installed.
        """
        ...
