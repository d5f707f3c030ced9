"""Invoices and credit notes as they are: lists, documents in several forms, and the evidence."""
# No `from __future__ import annotations`: see adapters.http.management.

import re
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from adapters.http.context import Context
from adapters.http.cursors import Listing
from adapters.http.few import Few
from adapters.http.management import Document, Doors, Page, Paged
from adapters.http.models.invoices import (
    EvidenceDocument,
    InvoiceDocument,
    InvoicesDocument,
    PreviewDocument,
    SeriesDocument,
    StoredInvoiceDocument,
)
from adapters.http.schema import PROBLEM_BODY
from ledger.application import ask_fields as fields
from ledger.application.documents.invoice_csv import invoice_csv
from ledger.application.documents.invoices import (
    evidence_document,
    invoice_document,
    invoices_document,
    preview_document,
    series_document,
)
from ledger.application.evidence import EvidencePlace
from ledger.application.invoice_rows import StoredInvoice
from ledger.application.services import Services
from ledger.domain.invoices import DocumentKind, InvoiceStatus, to_document

READ = ("finance", "read", "support")
INVOICE = "/v2/invoices/{invoice:id}"
WHOLE_LOGS = 2
"""Requests for evidence that a process answers at once: each reads a tenant's log."""
Id = Annotated[
    str, Path(description="Of the invoice or credit note.", max_length=256, examples=["2026-11-01"])
]
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_OTHER_FORMS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        }
    },
    501: {
        "description": "PDF, without the extra",
        "content": {kind: {"schema": dict(schema)} for kind, schema in PROBLEM_BODY.items()},
    },
}


class Form(StrEnum):
    """What a document is written as."""

    JSON = "json"
    CSV = "csv"
    PDF = "pdf"


def router(services: Services) -> APIRouter:
    """Return the routes that answer questions."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)
    _add_lists(api, doors)
    _add_documents(api, doors, services)
    _add_evidence(api, doors)
    return api


def _add_lists(api: APIRouter, doors: Doors) -> None:
    @api.get("/v2/invoices", response_model=InvoicesDocument)
    def invoices(
        context: Annotated[Context, doors.own_or_all(*READ)],
        page: Paged,
        status: Annotated[InvoiceStatus | None, Query(description="Only those there.")] = None,
        kind: Annotated[DocumentKind | None, Query()] = None,
    ) -> Any:
        """List invoices and credit notes; a key of a tenant sees its own."""
        listing = Listing("invoices", (context.only, status, kind))
        return _heads(context, listing, page, status=status, kind=kind)

    @api.get("/v2/credit-notes", response_model=InvoicesDocument)
    def credit_notes(
        context: Annotated[Context, doors.own_or_all(*READ)],
        page: Paged,
        invoice: Annotated[
            str | None, Query(max_length=256, description="Only those that cite this invoice.")
        ] = None,
    ) -> Any:
        """List credit notes; a key of a tenant sees its own."""
        listing = Listing("credit-notes", (context.only, invoice))
        return _heads(context, listing, page, kind=DocumentKind.CREDIT_NOTE, cites=invoice)

    @api.get("/v2/invoice-series", response_model=SeriesDocument)
    def series(context: Annotated[Context, doors.platform(*READ)]) -> Any:
        """Show each series of numbers, and what is missing in it: nothing, ever."""
        return Document(series_document(context.services.invoicing.series()))


def _heads(context: Context, listing: Listing, page: Page, **only: Any) -> Document:
    rows = context.invoicing.list(
        tenant=context.only,
        after=listing.place(page.cursor, tuple[int, str]),
        limit=page.limit + 1,
        **only,
    )
    shown, following = listing.page(rows, page.limit, lambda one: (one.tenant_id, one.id))
    document = invoices_document(shown, warnings=context.invoicing.warnings(shown))
    del document["more"]
    return Document({**document, "next": following})


def _add_documents(api: APIRouter, doors: Doors, services: Services) -> None:
    @api.get("/v2/invoices/preview", response_model=PreviewDocument)
    def preview(
        context: Annotated[Context, doors.query(*READ)],
        day: Annotated[
            str | None, Query(description="A local day of the period; today where left out.")
        ] = None,
    ) -> Any:
        """Return what a tenant's invoice would be now."""
        on = None if day is None else fields.day(day, "/day")
        periods = context.periods
        draft = periods.preview(context.tenant, day=on)
        return Document(preview_document(draft, periods.preview_warnings(draft)))

    @api.get(INVOICE, response_model=StoredInvoiceDocument)
    def invoice(context: Annotated[Context, doors.query(*READ)], invoice: Id) -> Any:
        """Return an invoice or a credit note, and where it is."""
        return Document(invoice_document(context.invoicing.invoice(context.tenant, invoice)))

    @api.get(f"{INVOICE}/document", response_model=InvoiceDocument, responses=_OTHER_FORMS)
    def document(
        context: Annotated[Context, doors.query(*READ)],
        invoice: Id,
        form: Annotated[Form, Query(description="What it is written as.")] = Form.JSON,
    ) -> Any:
        """Return the document alone: the canonical JSON that its digest is of, CSV, or PDF.

        The same document gives the same bytes. PDF needs the extra `pdf`: without it 501
        `pdf_unavailable`.
        """
        stored = context.invoicing.invoice(context.tenant, invoice)
        if form is Form.JSON:
            return Document(to_document(stored.invoice))
        if form is Form.CSV:
            body = "".join(invoice_csv([stored.invoice])).encode()
            return _file(stored, body, "text/csv; charset=utf-8", form)
        body = services.printer.pdf(stored.invoice, status=stored.status)
        return _file(stored, body, "application/pdf", form)


def _file(stored: StoredInvoice, body: bytes, kind: str, form: Form) -> Response:
    name = _UNSAFE.sub("-", stored.invoice.number or stored.invoice.id)
    headers = {
        "Content-Type": kind,
        "Content-Disposition": f'attachment; filename="{name}.{form.value}"',
    }
    return Response(body, headers=headers)


def _add_evidence(api: APIRouter, doors: Doors) -> None:
    few = Few(WHOLE_LOGS)

    @api.get(f"{INVOICE}/lines/{{line}}/evidence", response_model=EvidenceDocument)
    def evidence(
        context: Annotated[Context, doors.query(*READ)],
        page: Paged,
        invoice: Id,
        line: Annotated[int, Path(ge=1, le=10**9, description="Number of the line.")],
    ) -> Any:
        """List exactly the entries behind a line, with their digest.

        The first page reads the tenant's log up to the invoice, so it takes time in proportion to
        its entries; those after it read what they show. Two at once a process, else 503
        `server_busy`.
        """
        listing = Listing("evidence", (context.tenant, invoice, line))
        after = listing.place(page.cursor, EvidencePlace)
        with few.one():
            report, following = context.evidence.page(
                context.tenant, invoice, line=line, limit=page.limit, after=after
            )
        cursor = None if following is None else listing.cursor(following)
        return Document({**evidence_document(report), "next": cursor})
