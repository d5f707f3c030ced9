"""Invoices: made final, paid, voided, credited; listed.

invoicing.finalize("acme", "2026-11-01", by="ann")
invoicing.credit("acme", "2026-11-01", total=Decimal("10"), reason="outage", by="ann")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from ledger.application.billing_close import since_day
from ledger.application.billing_ports import (
    AccountChanged,
    AccountSave,
    BillingStore,
    InvoiceFilter,
    InvoiceRow,
)
from ledger.application.billing_warnings import BillingWarning, unbilled_warnings
from ledger.application.subscriptions import MAX_ATTEMPTS, busy
from ledger.domain import billing_decisions as decisions
from ledger.domain.billing_account import (
    PLATFORM,
    AccountCommit,
    BillingAccount,
    BillingDetails,
    Event,
    evolve,
    tax_of,
)
from ledger.domain.billing_drafts import Place, with_displays
from ledger.domain.credit_notes import credit_note_of
from ledger.domain.errors import NotFound, Refused
from ledger.domain.invoices import (
    Invoice,
    InvoiceStatus,
    finalize,
    from_document,
    invoice_of,
    to_document,
)
from ledger.domain.periods import to_us, zone

SERIES = "INV"
"""Series of numbers, unless tenant or platform have another."""
PAYMENT_DAYS = 14
"""Days until payment is due, unless tenant or platform say otherwise."""
AT_ONCE = 20
"""Invoices that are made final in one commit."""


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


class SeriesReport(msgspec.Struct, frozen=True):
    """Whether a series of numbers is gapless.

    Attributes:
        series: name.
        last: last number given.
        missing: numbers that no document has; there are never any.
    """

    series: str
    last: int
    missing: Sequence[str]


def number_of(series: str, place: int) -> str:
    """Return the number at a place of a series, from 1."""
    return f"{series}-{place:06d}"


class Invoicing:
    """Keeps invoices; thread-safe.

    Args:
        store: where they are.
    """

    def __init__(self, store: BillingStore) -> None:
        self._store = store

    def for_tenant(self, tenant: str) -> Invoicing:
        """Return the same questions about one tenant's rows alone; a foreign name is unknown."""
        return Invoicing(self._store.for_tenant(tenant))

    # -- reading ----------------------------------------------------------------------

    def invoice(self, tenant: str, id: str) -> StoredInvoice:
        """Return an invoice or credit note.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``.
        """
        place = self._store.place(tenant)
        row = self._row(place, id)
        return msgspec.structs.replace(_stored(row), warnings=self.warnings([row], place=place))

    def warnings(
        self, rows: Sequence[InvoiceRow], *, place: Place | None = None
    ) -> Sequence[BillingWarning]:
        """Return what of some invoices people have to look at.

        Args:
            rows: as listed.
            place: whose they are; None where they say so themselves.
        """
        void = [row for row in rows if row.status is InvoiceStatus.VOID]
        accounts = self._store.accounts({row.tenant_id for row in void}) if void else {}
        places = {row.tenant_id: place or _place(row) for row in void}
        ids = {(places[row.tenant_id].tenant, row.id) for row in void}
        found = unbilled_warnings(self._store, [(places[id], accounts[id]) for id in places])
        return [one for one in found if (one.tenant, one.invoice) in ids]

    def list(
        self,
        *,
        tenant: str | None = None,
        status: InvoiceStatus | None = None,
        kind: str | None = None,
        cites: str | None = None,
        after: tuple[int, str] | None = None,
        limit: int = 1000,
    ) -> Sequence[InvoiceRow]:
        """Return invoices and credit notes by tenant number and id.

        Args:
            tenant: only this one's.
            status: only those there.
            kind: ``invoice`` or ``credit_note``.
            cites: only credit notes of this invoice.
            after: tenant number and id of the last one seen.
            limit: most to return.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        tenant_id = None if tenant is None else self._store.place(tenant).tenant_id
        return self._store.invoices(
            InvoiceFilter(
                tenant_id=tenant_id,
                status=status,
                kind=kind,
                cites=cites,
                after=after,
                limit=limit,
            )
        )

    def series(self) -> Sequence[SeriesReport]:
        """Return each series with the numbers that are missing in it."""
        reports = []
        for series, last in sorted(self._store.last_numbers().items()):
            there = set(self._store.numbers(series))
            wanted = (number_of(series, place) for place in range(1, last + 1))
            reports.append(SeriesReport(series, last, [one for one in wanted if one not in there]))
        return reports

    def settings(self) -> BillingDetails:
        """Return what the platform says for all tenants: seller, tax, series, payment days."""
        return self._store.accounts([PLATFORM])[PLATFORM].details

    # -- changing ---------------------------------------------------------------------

    def set_settings(self, details: BillingDetails, *, by: str) -> BillingDetails:
        """Say who sells, and what holds where a tenant says nothing; the same again is nothing.

        Raises:
            InvalidInput: ``invalid_payment_days``, ``invalid_series``.
        """
        platform = Place(PLATFORM, "", "", "UTC")
        self._change(platform, by, lambda account: (decisions.set_details(account, details), ()))
        return details

    def finalize(self, tenant: str, id: str, *, by: str) -> StoredInvoice:
        """Give a draft its number, date and digest; one that is final stays as it is.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``.
            Refused: ``invalid_status`` for a void one; ``account_busy``.
        """
        place = self._store.place(tenant)
        for _ in range(MAX_ATTEMPTS):
            row = self._row(place, id)
            if row.status is not InvoiceStatus.DRAFT:
                if row.status is InvoiceStatus.VOID:
                    raise Refused(
                        f"invoice {id} is void, so it cannot become finalized",
                        code="invalid_status",
                    )
                return _stored(row)
            try:
                self._finalize([(place, id)], by)
            except AccountChanged:
                continue
        raise busy(tenant)

    def finalize_all(self, *, by: str, tenant: str | None = None) -> int:
        """Make every draft final, in order of tenants and ids; return how many this call did.

        Raises:
            NotFound: ``unknown_tenant``.
            Refused: ``account_busy``.
        """
        done = failures = 0
        after: tuple[int, str] | None = None
        while True:
            rows = self.list(tenant=tenant, status=InvoiceStatus.DRAFT, after=after, limit=AT_ONCE)
            if not rows:
                if after is None:
                    return done
                # Once more from the start: for what others made meanwhile, or kept from us.
                after = None
                continue
            # One a tenant: two of one account would be two commits upon one version.
            first = {row.tenant_id: row for row in reversed(rows)}
            drafts = [(_place(row), row.id) for row in first.values()]
            drafts.sort(key=lambda draft: draft[0].tenant_id)
            try:
                done += self._finalize(drafts, by)
            except AccountChanged:
                failures += 1
                if failures > MAX_ATTEMPTS * AT_ONCE:
                    raise busy(rows[0].tenant) from None
                continue
            place, id = drafts[-1]
            after = (place.tenant_id, id)

    def move(
        self, tenant: str, id: str, *, status: InvoiceStatus, by: str, reason: str = ""
    ) -> StoredInvoice:
        """Say that an invoice was paid, is uncollectible or void; again is nothing.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``.
            Refused: ``invalid_status``, ``has_credit_notes``, ``account_busy``.
        """
        place = self._store.place(tenant)

        def decide(account: BillingAccount) -> _Change:
            row = self._row(place, id)
            if row.cites:
                raise Refused(
                    f"{row.number} is a credit note, which has no payment", code="invalid_status"
                )
            events = decisions.move(account, id, status=status, reason=reason)
            return events, [msgspec.structs.replace(row, status=status)]

        self._change(place, by, decide)
        return self.invoice(tenant, id)

    def credit(
        self,
        tenant: str,
        id: str,
        *,
        reason: str,
        by: str,
        total: Decimal | None = None,
        lines: Mapping[int, Decimal] | None = None,
        once: str = "",
    ) -> StoredInvoice:
        """Issue a credit note: for a total with tax, for lines, or for all that is left.

        Args:
            tenant: whose.
            id: of the invoice.
            reason: for people.
            by: who does it.
            total: to give back, with tax.
            lines: net amounts by number of the line.
            once: names the command; the same again returns the note that it issued.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``.
            InvalidInput: ``invalid_credit``, ``invalid_text``.
            Refused: ``credit_exceeds_invoice``, ``invalid_status``, ``account_busy``; ``conflict``
                where the command of this name was another one.
        """
        place = self._store.place(tenant)
        named = f"{id}-cn-{once}" if once else ""
        for _ in range(MAX_ATTEMPTS):
            row = self._row(place, id)
            known = self._store.invoice(place.tenant_id, named) if named else None
            if known is not None:
                return _repeated(_stored(known), reason=reason, total=total, lines=lines)
            if row.cites:
                raise Refused(
                    f"{row.number} is a credit note itself; credit the invoice {row.cites}",
                    code="invalid_status",
                )
            account = self._store.accounts([place.tenant_id])[place.tenant_id]
            invoice = from_document(row.document)
            # Refused before anything is read of what cannot be credited.
            decisions.check_creditable(account, id)
            asked = InvoiceFilter(tenant_id=place.tenant_id, cites=id)
            earlier = [from_document(one.document) for one in self._store.invoices(asked)]
            draft = credit_note_of(
                invoice,
                id=named or f"{id}-cn{len(earlier) + 1}",
                reason=reason,
                earlier=earlier,
                total=total,
                lines=lines,
            )
            try:
                return self._issue(place, account, invoice, draft, by)
            except AccountChanged:
                continue
        raise busy(tenant)

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
            row = _final_row(place, note, document)
            return [_save(place, account, events, at=now, by=by, put=[row])]

        self._store.save_numbered({series: 1}, make)
        return StoredInvoice(InvoiceStatus.FINALIZED, issued[-1])

    def _finalize(self, asked: Sequence[tuple[Place, str]], by: str) -> int:
        """Make those final that are still drafts; return how many that were."""
        platform = self.settings()
        # Before their rows: a row that changes afterwards is told by its account's version.
        accounts = self._store.accounts([place.tenant_id for place, _ in asked])
        rows = self._store.invoices_at([(place.tenant_id, id) for place, id in asked])
        drafts = []
        for place, id in asked:
            row = rows.get((place.tenant_id, id))
            if row is not None and row.status is InvoiceStatus.DRAFT:
                head = accounts[place.tenant_id].invoices.get(id)
                if head is None or head.status is not InvoiceStatus.DRAFT:
                    raise AccountChanged(f"account {place.tenant_id} changed meanwhile")
                drafts.append((place, row))
        if not drafts:
            return 0
        now = self._store.now()
        series_of = {
            place.tenant_id: accounts[place.tenant_id].details.series or platform.series or SERIES
            for place, _ in drafts
        }
        wanted: dict[str, int] = {}
        for place, _ in drafts:
            series = series_of[place.tenant_id]
            wanted[series] = wanted.get(series, 0) + 1

        def make(firsts: Mapping[str, int]) -> Sequence[AccountSave]:
            following = dict(firsts)
            saves = []
            for place, row in drafts:
                account = accounts[place.tenant_id]
                series = series_of[place.tenant_id]
                final = _final(
                    from_document(row.document),
                    place,
                    account.details,
                    platform,
                    series=series,
                    number=number_of(series, following[series]),
                    now=now,
                )
                following[series] += 1
                document = to_document(final)
                events = decisions.finalize(account, final, document)
                put = [_final_row(place, final, document)]
                saves.append(_save(place, account, events, at=now, by=by, put=put))
            return saves

        self._store.save_numbered(wanted, make)
        return len(drafts)

    def _change(self, place: Place, by: str, decide: Callable[[BillingAccount], _Change]) -> None:
        for _ in range(MAX_ATTEMPTS):
            account = self._store.accounts([place.tenant_id])[place.tenant_id]
            events, put = decide(account)
            if not events:
                return
            try:
                save = _save(place, account, events, at=self._store.now(), by=by, put=put)
                self._store.save([save])
            except AccountChanged:
                continue
            return
        raise busy(place.tenant)

    def _row(self, place: Place, id: str) -> InvoiceRow:
        row = self._store.invoice(place.tenant_id, id)
        if row is None:
            raise NotFound(f"{place.tenant} has no invoice {id[:64]!r}", code="unknown_invoice")
        return row


_Change = tuple[Sequence[Event], Sequence[InvoiceRow]]


def _place(row: InvoiceRow) -> Place:
    invoice = from_document(row.document)
    return Place(row.tenant_id, row.tenant, invoice.currency, invoice.timezone)


def _repeated(
    stored: StoredInvoice,
    *,
    reason: str,
    total: Decimal | None,
    lines: Mapping[int, Decimal] | None,
) -> StoredInvoice:
    """Return a note that is there already, if the command that asks again is the same.

    Raises:
        Refused: ``conflict``.
    """
    note = stored.invoice
    given = {line.of_line: line.amount for line in note.lines}
    if (
        note.reason != reason
        or (total is not None and note.total != total)
        or (lines is not None and given != lines)
    ):
        raise Refused(
            f"the command issued {note.number} already, with another reason or amount; give a new"
            " command a new name",
            code="conflict",
        )
    return stored


def _stored(row: InvoiceRow) -> StoredInvoice:
    return StoredInvoice(row.status, from_document(row.document))


def _final(
    draft: Invoice,
    place: Place,
    details: BillingDetails,
    platform: BillingDetails,
    *,
    series: str,
    number: str,
    now: datetime,
) -> Invoice:
    """Return a draft as the final document, with parties and taxes of the day of issue."""
    lines = [
        msgspec.structs.replace(line, tax=tax_of(line.name, details, platform))
        for line in draft.lines
    ]
    taxed = invoice_of(
        id=draft.id,
        tenant=draft.tenant,
        currency=draft.currency,
        timezone=draft.timezone,
        period=draft.period,
        lines=lines,
        credits=draft.credits,
        plans=draft.plans,
        unpriced=draft.unpriced,
    )
    days = details.payment_days
    if days is None:
        days = PAYMENT_DAYS if platform.payment_days is None else platform.payment_days
    return finalize(
        with_displays(taxed, details),
        series=series,
        number=number,
        issued_at=now,
        due_on=now.astimezone(zone(place.timezone)).date() + timedelta(days=days),
        seller=platform.party,
        buyer=details.party,
    )


def _final_row(place: Place, invoice: Invoice, document: bytes) -> InvoiceRow:
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


def _save(
    place: Place,
    account: BillingAccount,
    events: Sequence[Event],
    *,
    at: datetime,
    by: str,
    put: Sequence[InvoiceRow] = (),
) -> AccountSave:
    commit = AccountCommit(to_us(at), by, tuple(events))
    return AccountSave(place.tenant_id, evolve(account, commit), commit, put)
