"""Rows of invoices: what is read of them and written with an account's commit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from ledger.application.billing_close import since_day
from ledger.application.billing_ports import AccountSave, BillingStore, InvoiceRow
from ledger.application.billing_warnings import BillingWarning
from ledger.domain.billing_account import AccountCommit, BillingAccount, Event, evolve
from ledger.domain.billing_drafts import Place
from ledger.domain.errors import NotFound
from ledger.domain.invoices import Invoice, InvoiceStatus, from_document
from ledger.domain.periods import to_us


class StoredInvoice(msgspec.Struct, frozen=True):
    """An invoice or credit note and where it is.

    Attributes:
        status: where.
        invoice: the document.
        warnings: what of it people have to look at.
    """

    status: InvoiceStatus
    invoice: Invoice
    warnings: Sequence[BillingWarning] = ()


def number_of(series: str, place: int) -> str:
    """Return the number at a place of a series, from 1."""
    return f"{series}-{place:06d}"


def row_of(store: BillingStore, place: Place, id: str) -> InvoiceRow:
    """Return a tenant's invoice or credit note.

    Raises:
        NotFound: ``unknown_invoice``.
    """
    row = store.invoice(place.tenant_id, id)
    if row is None:
        raise NotFound(f"{place.tenant} has no invoice {id[:64]!r}", code="unknown_invoice")
    return row


class _Head(msgspec.Struct):
    currency: str
    timezone: str


def place_of(row: InvoiceRow) -> Place:
    """Return whose a listed row is."""
    # The lines are left unread: this is asked of rows whose document is read where it is needed.
    head = msgspec.json.decode(row.document, type=_Head)
    return Place(row.tenant_id, row.tenant, head.currency, head.timezone)


def stored_of(row: InvoiceRow) -> StoredInvoice:
    """Return the document of a row and where it is."""
    return StoredInvoice(row.status, from_document(row.document))


def final_row(place: Place, invoice: Invoice, document: bytes) -> InvoiceRow:
    """Return the row of a document that has just become final."""
    return InvoiceRow(
        tenant_id=place.tenant_id,
        id=invoice.id,
        kind=invoice.kind.value,
        status=InvoiceStatus.FINALIZED,
        series=invoice.series,
        number=invoice.number,
        first_day=invoice.period.first_day,
        after_day=invoice.period.after_day,
        since_day=since_day(invoice),
        cites=invoice.cites.id if invoice.cites is not None else "",
        document=document,
    )


def save_of(
    place: Place,
    account: BillingAccount,
    events: Sequence[Event],
    *,
    at: datetime,
    by: str,
    put: Sequence[InvoiceRow] = (),
) -> AccountSave:
    """Return what stores events of an account, with the rows that change."""
    commit = AccountCommit(to_us(at), by, tuple(events))
    return AccountSave(place.tenant_id, evolve(account, commit), commit, put)
