"""What the journal is made of: facts with a tenant and a local day, nothing booked yet.

Usage, costs and burned credit come by day from rollups and entries, the rest from documents and
what became of them (`document_facts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from enum import StrEnum

import msgspec

from ledger.domain.billing_account import (
    AccountCommit,
    CreditNoteIssued,
    InvoiceFinalized,
    InvoiceMoved,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.invoices import Invoice, InvoiceStatus, from_document
from ledger.domain.money import EXACT
from ledger.domain.periods import from_us, zone


class UsageAccrued(msgspec.Struct, frozen=True):
    """A day's usage at list prices, which no charge of a plan takes.

    Attributes:
        meter: "" for what reversals took back.
        amount: unrounded.
    """

    tenant: str
    currency: str
    day: date
    meter: str
    amount: Decimal


class CostAccrued(msgspec.Struct, frozen=True):
    """What a day's usage costs at a provider.

    Attributes:
        currency: of the cost.
        amount: unrounded.
    """

    tenant: str
    currency: str
    day: date
    provider: str
    amount: Decimal


class CreditMove(StrEnum):
    """What became of prepaid credit."""

    GRANTED = "granted"
    TRANSFERRED_IN = "transferred_in"
    BURNED = "burned"
    EXPIRED = "expired"
    REFUNDED = "refunded"
    TRANSFERRED_OUT = "transferred_out"


class CreditMoved(msgspec.Struct, frozen=True):
    """Prepaid credit was given, used or taken.

    Attributes:
        day: of a burn, that of the usage.
        promotional: nobody paid for it.
        amount: unrounded; below zero takes a move back, as a void does with what burned.
    """

    tenant: str
    currency: str
    day: date
    move: CreditMove
    promotional: bool
    amount: Decimal


class DocumentMove(StrEnum):
    """What became of an invoice or a credit note."""

    FINALIZED = "finalized"
    VOIDED = "voided"
    PAID = "paid"
    UNCOLLECTIBLE = "uncollectible"
    CREDITED = "credited"


class DocumentMoved(msgspec.Struct, frozen=True):
    """An invoice moved, or a credit note cites it.

    Attributes:
        day: on which it did.
        move: what happened.
        invoice: final.
        left: what is owed of it just before: due less the credit notes so far.
        written_off: it was uncollectible before.
        note: the credit note.
    """

    day: date
    move: DocumentMove
    invoice: Invoice
    left: Decimal
    written_off: bool = False
    note: Invoice | None = None


Fact = UsageAccrued | CostAccrued | CreditMoved | DocumentMoved

_MOVES = {
    InvoiceStatus.PAID: DocumentMove.PAID,
    InvoiceStatus.UNCOLLECTIBLE: DocumentMove.UNCOLLECTIBLE,
    InvoiceStatus.VOID: DocumentMove.VOIDED,
}


class _Known(msgspec.Struct):
    """A final invoice on the way through its account's commits."""

    invoice: Invoice
    left: Decimal
    written_off: bool = False


def document_facts(commits: Iterable[AccountCommit], *, timezone: str) -> Iterator[DocumentMoved]:
    """Yield what became of a tenant's final documents.

    Args:
        commits: of its billing account, from the first one on.
        timezone: of its ledger.

    Raises:
        InvariantViolation: a document is of no known invoice.
    """
    known: dict[str, _Known] = {}
    for commit in commits:
        day = from_us(commit.at).astimezone(zone(timezone)).date()
        for event in commit.events:
            match event:
                case InvoiceFinalized():
                    invoice = from_document(event.document)
                    known[event.id] = _Known(invoice, invoice.due)
                    yield DocumentMoved(day, DocumentMove.FINALIZED, invoice, invoice.due)
                case InvoiceMoved():
                    yield _moved(_of(known, event.id), event.status, day)
                case CreditNoteIssued():
                    yield _credited(_of(known, event.invoice), from_document(event.document), day)
                case _:
                    pass


def _of(known: dict[str, _Known], id: str) -> _Known:
    try:
        return known[id]
    except KeyError:
        raise InvariantViolation(f"invoice {id} moved before it was final") from None


def _moved(one: _Known, status: InvoiceStatus, day: date) -> DocumentMoved:
    fact = DocumentMoved(day, _MOVES[status], one.invoice, one.left, one.written_off)
    one.written_off = status is InvoiceStatus.UNCOLLECTIBLE
    return fact


def _credited(one: _Known, note: Invoice, day: date) -> DocumentMoved:
    fact = DocumentMoved(day, DocumentMove.CREDITED, one.invoice, one.left, one.written_off, note)
    one.left = EXACT.subtract(one.left, note.total)
    return fact
