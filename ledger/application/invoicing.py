"""Invoices: made final, paid, voided, credited; listed.

invoicing.finalize("acme", "2026-11-01", by="ann")
invoicing.credit("acme", "2026-11-01", total=Decimal(10), reason="outage", by="ann", note="cr-7")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from ledger.application.billing_ports import (
    AccountChanged,
    AccountSave,
    BillingStore,
    InvoiceFilter,
    InvoiceRow,
)
from ledger.application.billing_warnings import (
    BillingWarning,
    unbilled_warnings,
    unused_taxes,
)
from ledger.application.crediting import Crediting
from ledger.application.invoice_rows import (
    StoredInvoice,
    final_row,
    number_of,
    place_of,
    row_of,
    save_of,
    stored_of,
)
from ledger.application.subscriptions import MAX_ATTEMPTS, busy
from ledger.domain import billing_decisions as decisions
from ledger.domain.billing_account import (
    PLATFORM,
    BillingAccount,
    BillingDetails,
    Event,
    tax_of,
)
from ledger.domain.billing_drafts import Place, with_displays
from ledger.domain.errors import Refused
from ledger.domain.invoices import (
    Invoice,
    InvoiceStatus,
    finalize,
    from_document,
    invoice_of,
    to_document,
)
from ledger.domain.periods import zone

SERIES = "INV"
"""Series of numbers, unless tenant or platform have another."""
PAYMENT_DAYS = 14
"""Days until payment is due, unless tenant or platform say otherwise."""
AT_ONCE = 20
"""Invoices that are made final in one commit."""


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


class Invoicing:
    """Keeps invoices; thread-safe.

    Args:
        store: where they are.
    """

    def __init__(self, store: BillingStore) -> None:
        self._store = store
        self._crediting = Crediting(store)

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
        row = row_of(self._store, place, id)
        return msgspec.structs.replace(stored_of(row), warnings=self.warnings([row], place=place))

    def warnings(
        self, rows: Sequence[InvoiceRow], *, place: Place | None = None
    ) -> Sequence[BillingWarning]:
        """Return what of some invoices people have to look at.

        Args:
            rows: as listed.
            place: whose they are; None where they say so themselves.
        """
        watched = (InvoiceStatus.VOID, InvoiceStatus.DRAFT)
        rows = [row for row in rows if row.status in watched]
        accounts = self._store.accounts({row.tenant_id for row in rows}) if rows else {}
        void = [row for row in rows if row.status is InvoiceStatus.VOID]
        places = {row.tenant_id: place or place_of(row) for row in void}
        ids = {(places[row.tenant_id].tenant, row.id) for row in void}
        found = unbilled_warnings(self._store, [(places[id], accounts[id]) for id in places])
        found = [one for one in found if (one.tenant, one.invoice) in ids]
        for row in rows:
            details = accounts[row.tenant_id].details
            if row.status is InvoiceStatus.DRAFT and details.line_taxes:
                found += unused_taxes(details, from_document(row.document))
        return found

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
            row = row_of(self._store, place, id)
            if row.status is not InvoiceStatus.DRAFT:
                if row.status is InvoiceStatus.VOID:
                    raise Refused(
                        f"invoice {id} is void, so it cannot become finalized",
                        code="invalid_status",
                    )
                return stored_of(row)
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
            drafts = [(place_of(row), row.id) for row in first.values()]
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
            row = row_of(self._store, place, id)
            if row.cites:
                raise Refused(
                    f"{row.number} is a credit note, which has no payment", code="invalid_status"
                )
            events = decisions.move(account, id, status=status, reason=reason)
            return events, [msgspec.structs.replace(row, status=status)]

        self._change(place, by, decide)
        return self.invoice(tenant, id)

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
                put = [final_row(place, final, document)]
                saves.append(save_of(place, account, events, at=now, by=by, put=put))
            return saves

        self._store.save_numbered(wanted, make)
        return len(drafts)

    def credit(
        self,
        tenant: str,
        id: str,
        *,
        reason: str,
        by: str,
        total: Decimal | None = None,
        lines: Mapping[int, Decimal] | None = None,
        note: str = "",
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
            note: id that the note gets, unique for the tenant; the same command again returns
                the note that it issued. "" gives it one, and the same again issues another.
            once: names a command without such an id; the same again returns its note likewise.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_invoice``.
            InvalidInput: ``invalid_credit``, ``invalid_text``, ``invalid_id``.
            Refused: ``credit_exceeds_invoice``, ``invalid_status``, ``account_busy``;
                ``exists_with_different_<member>`` where the id is of another command.
        """
        return self._crediting.credit(
            tenant, id, reason=reason, by=by, total=total, lines=lines, note=note, once=once
        )

    def _change(self, place: Place, by: str, decide: Callable[[BillingAccount], _Change]) -> None:
        for _ in range(MAX_ATTEMPTS):
            account = self._store.accounts([place.tenant_id])[place.tenant_id]
            events, put = decide(account)
            if not events:
                return
            try:
                save = save_of(place, account, events, at=self._store.now(), by=by, put=put)
                self._store.save([save])
            except AccountChanged:
                continue
            return
        raise busy(place.tenant)


_Change = tuple[Sequence[Event], Sequence[InvoiceRow]]


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
