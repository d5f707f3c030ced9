"""What becomes of invoices: made final, paid, voided, credited; and who sells. By the platform."""
# No `from __future__ import annotations`: see adapters.http.management.

from typing import Annotated, Any

from fastapi import APIRouter

from adapters.http.context import Context, Kept
from adapters.http.exchange import check_json, named_tenant
from adapters.http.management import Document, Doors, request_body
from adapters.http.models.invoices import (
    CreditNoteRequest,
    FinalizedDocument,
    FinalizeRequest,
    MoveRequest,
    StoredInvoiceDocument,
)
from adapters.http.models.plans import DetailsDocument, DetailsRequest
from adapters.http.routes.invoices import INVOICE, READ, Id
from ledger.application import ask_fields as fields
from ledger.application import billing_asks as asks
from ledger.application.documents.encoding import to_json
from ledger.application.documents.invoices import invoice_document
from ledger.application.documents.plans import details_document, details_from_json
from ledger.application.repeats import Command
from ledger.application.services import Services
from ledger.domain.invoices import InvoiceStatus
from ledger.domain.json_members import check_members_once

MODELS = (CreditNoteRequest, FinalizeRequest, MoveRequest)
_SETTINGS = "/v2/invoice-settings"


def router(services: Services) -> APIRouter:
    """Return the routes."""
    api = APIRouter(tags=["money"])
    doors = Doors(services)
    _add_final(api, doors)
    _add_moves(api, doors)
    _add_credit(api, doors)
    _add_settings(api, doors)
    return api


def _add_final(api: APIRouter, doors: Doors) -> None:
    @api.post(
        "/v2/invoices/finalize",
        response_model=FinalizedDocument,
        openapi_extra=request_body(FinalizeRequest, example={}, once=True),
    )
    def finalize_all(
        context: Annotated[Context, doors.own_or_all("finance", platform=True)],
    ) -> Any:
        """Give every draft its number, date and digest, of one tenant or of all."""
        document = context.document()
        tenant = context.one_or_all(document)
        fields.read_members(document, {})

        def run(_: Command) -> Kept:
            count = context.services.invoicing.finalize_all(by=context.by, tenant=tenant)
            return Kept(to_json({"finalized": count}))

        return Document(context.once(run))

    @api.post(f"{INVOICE}/finalize", response_model=StoredInvoiceDocument)
    def finalize(
        context: Annotated[Context, doors.query("finance", platform=True)], invoice: Id
    ) -> Any:
        """Give a draft its number, date and digest; one that is final stays as it is."""
        stored = context.services.invoicing.finalize(context.tenant, invoice, by=context.by)
        return Document(invoice_document(stored))


def _add_moves(api: APIRouter, doors: Doors) -> None:
    change = doors.query("finance", platform=True)
    body = request_body(MoveRequest, example={"reason": "bank transfer"}, required=False)

    def move(context: Context, invoice: str, status: InvoiceStatus) -> Document:
        reason = asks.reason(context.document()) if context.exchange.body else ""
        stored = context.services.invoicing.move(
            context.tenant, invoice, status=status, by=context.by, reason=reason
        )
        return Document(invoice_document(stored))

    @api.post(f"{INVOICE}/pay", response_model=StoredInvoiceDocument, openapi_extra=body)
    def pay(context: Annotated[Context, change], invoice: Id) -> Any:
        """Say that an invoice is settled, in whatever way; again is nothing."""
        return move(context, invoice, InvoiceStatus.PAID)

    @api.post(f"{INVOICE}/uncollectible", response_model=StoredInvoiceDocument, openapi_extra=body)
    def uncollectible(context: Annotated[Context, change], invoice: Id) -> Any:
        """Say that nobody expects an invoice's money any more; again is nothing."""
        return move(context, invoice, InvoiceStatus.UNCOLLECTIBLE)

    @api.post(f"{INVOICE}/void", response_model=StoredInvoiceDocument, openapi_extra=body)
    def void(context: Annotated[Context, change], invoice: Id) -> Any:
        """Take a final invoice back; it keeps its number. Again is nothing.

        `warnings` say which period two keys have to reopen, so that its money is billed anew.
        """
        return move(context, invoice, InvoiceStatus.VOID)


def _add_credit(api: APIRouter, doors: Doors) -> None:
    @api.post(
        "/v2/credit-notes",
        response_model=StoredInvoiceDocument,
        openapi_extra=request_body(
            CreditNoteRequest,
            example={
                "tenant": "acme",
                "invoice": "2026-01-01",
                "id": "outage-7",
                "total": "10",
                "reason": "outage",
            },
            named=True,
        ),
    )
    def credit(context: Annotated[Context, doors.platform("finance")]) -> Any:
        """Issue a credit note: for all that is left of an invoice, a total with tax, or lines.

        With an `id` it may be repeated for good, and an `Idempotency-Key` may be left out.
        """
        document = context.document()
        check_members_once(context.exchange.body, code="invalid_credit")
        tenant = context.exchange.tenant(named_tenant(document))
        ask = asks.credit(document)

        def run(_: Command) -> Kept:
            stored = context.services.invoicing.credit(
                tenant,
                ask.invoice,
                total=ask.total,
                lines=ask.lines,
                reason=ask.reason,
                by=context.by,
                note=ask.id,
                # Also where a crash kept the answer from being kept: money is given back once.
                once="" if ask.id else context.command(),
            )
            return Kept(to_json(invoice_document(stored)))

        return Document(context.once(run, named=bool(ask.id)))


def _add_settings(api: APIRouter, doors: Doors) -> None:
    @api.get(_SETTINGS, response_model=DetailsDocument)
    def settings(context: Annotated[Context, doors.platform(*READ)]) -> Any:
        """Return who sells, and what holds where a tenant says nothing."""
        return Document(details_document(context.services.invoicing.settings()))

    @api.put(
        _SETTINGS,
        response_model=DetailsDocument,
        openapi_extra=request_body(
            DetailsRequest, example={"party": {"name": "Gateway Ltd"}, "series": "INV"}
        ),
    )
    def set_settings(context: Annotated[Context, doors.platform("finance")]) -> Any:
        """Say who sells, and tax, series and payment days where a tenant has none."""
        check_json(context.exchange.headers)
        said = details_from_json(context.exchange.body)
        context.services.invoicing.set_settings(said, by=context.by)
        return Document(details_document(said))
