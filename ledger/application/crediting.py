"""Credit notes: issued once for each id, whoever repeats the command."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NoReturn

import msgspec

from ledger.application import ask_fields as fields
from ledger.application.billing_ports import (
    AccountChanged,
    AccountSave,
    BillingStore,
    InvoiceFilter,
)
from ledger.application.invoice_rows import (
    StoredInvoice,
    final_row,
    number_of,
    row_of,
    save_of,
    stored_of,
)
from ledger.application.subscriptions import MAX_ATTEMPTS, busy
from ledger.domain import billing_decisions as decisions
from ledger.domain.billing_account import BillingAccount
from ledger.domain.billing_drafts import Place
from ledger.domain.credit_notes import credit_note_of
from ledger.domain.errors import InvalidInput, LedgerError, Refused
from ledger.domain.invoices import (
    Invoice,
    InvoiceStatus,
    finalize,
    from_document,
    to_document,
)

_MOST_NOTES = 1_000_000
_OURS = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
"""What ids begin with that billing gives: those of invoices, and of notes without an id."""


class Ask(msgspec.Struct, frozen=True):
    """What a credit note shall give back; see `Crediting.credit`."""

    invoice: str
    reason: str
    total: Decimal | None
    lines: Mapping[int, Decimal] | None


class Crediting:
    """Issues credit notes; thread-safe.

    Args:
        store: where billing is.
    """

    def __init__(self, store: BillingStore) -> None:
        self._store = store

    def credit(
        self,
        tenant: str,
        id: str,
        *,
        reason: str,
        by: str,
        total: Decimal | None,
        lines: Mapping[int, Decimal] | None,
        note: str,
        once: str,
    ) -> StoredInvoice:
        """Issue a credit note, or return the one that this very command issued.

        Arguments and errors are those of `Invoicing.credit`.
        """
        place = self._store.place(tenant)
        named = _id(note) if note else f"{id}-cn-{once}" if once else ""
        ask = Ask(id, reason, total, lines)
        for _ in range(MAX_ATTEMPTS):
            # First: whoever issues a note after this makes another version of the account.
            account = self._store.accounts([place.tenant_id])[place.tenant_id]
            row = row_of(self._store, place, id)
            known = self._store.invoice(place.tenant_id, named) if named else None
            if known is not None:
                return self._repeated(place, stored_of(known), ask)
            if row.cites:
                raise Refused(
                    f"{row.number} is a credit note itself; credit the invoice {row.cites}",
                    code="invalid_status",
                )
            invoice = from_document(row.document)
            # Refused before anything is read of what cannot be credited.
            decisions.check_creditable(account, id)
            earlier = self._notes(place, id)
            draft = _draft(invoice, ask, named or f"{id}-cn{len(earlier) + 1}", earlier)
            try:
                return self._issue(place, account, invoice, draft, by)
            except AccountChanged:
                continue
        raise busy(tenant)

    def _notes(self, place: Place, id: str) -> list[Invoice]:
        """Return the notes that cite an invoice."""
        asked = InvoiceFilter(tenant_id=place.tenant_id, cites=id, limit=_MOST_NOTES)
        return [from_document(one.document) for one in self._store.invoices(asked)]

    def _repeated(self, place: Place, stored: StoredInvoice, ask: Ask) -> StoredInvoice:
        """Return a note that is there already, if the command that asks again is the same.

        It is the same if it would have issued this note where the note was issued.

        Raises:
            Refused: ``exists_with_different_<member>``.
        """
        note = stored.invoice
        cited = note.cites
        if cited is None or cited.id != ask.invoice:
            _differs(note, "invoice")
        if note.reason != ask.reason:
            _differs(note, "reason")
        amount = "total" if ask.lines is None else "lines"
        invoice = from_document(row_of(self._store, place, cited.id).document)
        # Notes of an invoice are of one series, so their numbers are in order of issue.
        earlier = [one for one in self._notes(place, cited.id) if one.number < note.number]
        try:
            again = _draft(invoice, ask, note.id, earlier)
        except LedgerError:
            _differs(note, amount)
        if (again.lines, again.total) != (note.lines, note.total):
            _differs(note, amount)
        return stored

    def _issue(
        self, place: Place, account: BillingAccount, invoice: Invoice, draft: Invoice, by: str
    ) -> StoredInvoice:
        now = self._store.now()
        series = invoice.series + decisions.NOTES
        issued: list[Invoice] = []

        def make(firsts: Mapping[str, int]) -> Sequence[AccountSave]:
            note = finalize(
                draft,
                series=series,
                number=number_of(series, firsts[series]),
                issued_at=now,
                seller=invoice.seller,
                buyer=invoice.buyer,
            )
            issued.append(note)
            document = to_document(note)
            events = decisions.issue_credit_note(account, invoice, note, document)
            row = final_row(place, note, document)
            return [save_of(place, account, events, at=now, by=by, put=[row])]

        self._store.save_numbered({series: 1}, make)
        return StoredInvoice(InvoiceStatus.FINALIZED, issued[-1])


def _draft(invoice: Invoice, ask: Ask, id: str, earlier: Sequence[Invoice]) -> Invoice:
    return credit_note_of(
        invoice, id=id, reason=ask.reason, earlier=earlier, total=ask.total, lines=ask.lines
    )


def _id(given: str) -> str:
    """Check an id that a client gives a note.

    Raises:
        InvalidInput: ``invalid_id``.
    """
    id = fields.name(given, "/id")
    if _OURS.match(id):
        raise InvalidInput(
            "ids that begin with a day are those of invoices; give another one, such as"
            f" credit-{id[:32]}",
            code="invalid_id",
            pointer="/id",
        )
    return id


def _differs(note: Invoice, member: str) -> NoReturn:
    raise Refused(
        f"{note.id} is {note.number} already, with another {member}; repeat a command as it was, or"
        " give a new one a new id",
        code=f"exists_with_different_{member}",
    )
