"""``tallybook invoice pdf|csv``: invoices for people and for spreadsheets."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters.cli.output import TenantOption
from adapters.cli.protection_output import AnyTenantOption
from adapters.cli.services import OpenServices
from adapters.cli.writing import OutputOption, write_output
from ledger.application.documents.invoice_csv import invoice_csv
from ledger.domain.invoices import InvoiceStatus, from_document

MAX_INVOICES = 100_000
"""Most invoices of one file."""


def register(invoice: typer.Typer, open_services: OpenServices) -> None:
    """Add the commands to ``tallybook invoice``."""

    @invoice.command()
    def pdf(
        id: Annotated[str, typer.Argument(help="Id of the invoice or credit note.")],
        tenant: TenantOption,
        output: OutputOption,
    ) -> None:
        """Write an invoice as PDF: the same invoice, the same bytes. Needs the extra pdf."""
        with open_services() as services:
            stored = services.invoicing.invoice(tenant, id)
            made = services.printer.pdf(stored.invoice, status=stored.status)
        write_output(output, [made])

    @invoice.command()
    def csv(
        *,
        tenant: AnyTenantOption = None,
        status: Annotated[InvoiceStatus | None, typer.Option(help="Only those there.")] = None,
        limit: Annotated[
            int, typer.Option("--limit", "-n", min=1, max=MAX_INVOICES, help="Most invoices.")
        ] = MAX_INVOICES,
        output: OutputOption = "-",
    ) -> None:
        """Write the lines and taxes of invoices as CSV; a document's rows sum to what is due."""
        with open_services() as services:
            found = services.invoicing.list(tenant=tenant, status=status, limit=limit)
        rows = invoice_csv(from_document(one.document) for one in found)
        write_output(output, (row.encode() for row in rows))
