"""The close of billing periods: resumable, each tenant's in order, one commit a tenant.

A close goes through the tenants in pieces. For those whose next period is over it notes that its
close has begun, rates it, and writes period, draft and account in one commit. Killed anywhere it
is run again, by any number of processes at once: whoever comes second finds another version of
the account and looks again at what is left to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, timedelta

import msgspec

from ledger.application.billing_ports import (
    AccountChanged,
    AccountSave,
    BillingStore,
    InvoiceRow,
)
from ledger.application.billing_rates import Drafted, Due, Rates
from ledger.application.billing_warnings import (
    BillingWarning,
    all_unbilled,
    unbilled_warnings,
    unused_taxes,
)
from ledger.application.period_lists import (
    GRACE_HOURS,
    PeriodFilter,
    PeriodPage,
    PeriodStatus,
    list_periods,
    next_period,
)
from ledger.application.subscriptions import MAX_ATTEMPTS, Settle, busy
from ledger.domain import billing_decisions as decisions
from ledger.domain.billing_account import (
    AccountCommit,
    BillingAccount,
    Event,
    PeriodReopened,
    evolve,
)
from ledger.domain.billing_calendar import Span
from ledger.domain.billing_drafts import Place
from ledger.domain.billing_voids import waits
from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.invoices import Invoice, InvoiceStatus, to_document
from ledger.domain.periods import day_start, to_us, zone

MAX_GRACE_HOURS = 24 * 60
LAST_YEAR = 9990
"""Last year of a preview: a period ends after its days, and the calendar with the year 9999."""
TENANTS_AT_ONCE = 100
"""Tenants whose periods are rated together."""
MAX_PERIODS = 1200
"""Most periods of a tenant that one close goes through."""


class CloseStep(msgspec.Struct, frozen=True):
    """What a close has just done.

    Attributes:
        what: ``begun``, ``rated``, ``closed``.
        tenants: of how many tenants.
    """

    what: str
    tenants: int


class CloseReport(msgspec.Struct, frozen=True):
    """What a close did.

    Attributes:
        tenants: looked at.
        periods: closed, by this call alone.
        drafts: ids by tenant name, of those periods that owe something.
        warnings: of what is on no invoice that asks for it, of all tenants looked at, and of the
            drafts.
    """

    tenants: int
    periods: int
    drafts: Sequence[tuple[str, str]]
    warnings: Sequence[BillingWarning] = ()


class Periods:
    """Closes and reopens billing periods; thread-safe.

    Args:
        store: where billing is.
        rates: rates periods.
        catch_up: makes the billing rollups count what is in the log now.
        line_of: returns of who approves what stands for all names of theirs; see
            `ledger.application.keys.Keys.line_of`.
        settle: rates usage again that was charged by a plan which does not hold any more.
    """

    def __init__(
        self,
        store: BillingStore,
        rates: Rates,
        catch_up: Callable[[], object],
        line_of: Callable[[str], str] = str,
        settle: Settle | None = None,
    ) -> None:
        self._store = store
        self._rates = rates
        self._catch_up = catch_up
        self._line_of = line_of
        self._settle = settle

    def for_tenant(self, tenant: str) -> Periods:
        """Return the same questions about one tenant's rows alone; a foreign name is unknown."""
        rates = self._rates.for_tenant(tenant)
        return Periods(
            self._store.for_tenant(tenant),
            rates,
            self._catch_up,
            line_of=self._line_of,
            settle=self._settle,
        )

    def close(
        self,
        *,
        by: str,
        tenant: str | None = None,
        grace_hours: int = GRACE_HOURS,
        reopened: bool = True,
        progress: Callable[[CloseStep], None] | None = None,
    ) -> CloseReport:
        """Close every period whose grace is over; again, or beside another, it closes what is left.

        A tenant whose latest invoice is void is left as it is, with a warning, until people
        reopened the period of that invoice.

        Args:
            by: who does it.
            tenant: only this one's.
            grace_hours: after the end of a period, 0 to 1440.
            reopened: also of tenants whose latest period two people opened again.
            progress: told after each step.

        Raises:
            InvalidInput: ``invalid_grace``.
            NotFound: ``unknown_tenant``.
            Refused: ``account_busy``.
        """
        if not 0 <= grace_hours <= MAX_GRACE_HOURS:
            raise InvalidInput(
                f"a grace of {grace_hours} hours is not possible; 0 to {MAX_GRACE_HOURS} are",
                code="invalid_grace",
            )
        self._catch_up()
        until = to_us(self._store.now() - timedelta(hours=grace_hours))
        told = progress or _silent
        tenants = periods = 0
        drafts: list[tuple[str, str]] = []
        warnings: list[BillingWarning] = []
        pieces = [[self._store.place(tenant)]] if tenant is not None else self._pieces()
        for places in pieces:
            tenants += len(places)
            for done in self._close_piece(places, until, by, told, reopened):
                periods += 1
                if done.draft is not None:
                    drafts.append((done.due.place.tenant, done.draft.id))
                    warnings += unused_taxes(done.due.account.details, done.draft)
            accounts = self._store.accounts([place.tenant_id for place in places])
            warnings += unbilled_warnings(
                self._store, [(one, accounts[one.tenant_id]) for one in places]
            )
        return CloseReport(tenants, periods, drafts, warnings)

    def warnings(self, tenant: str | None = None) -> Sequence[BillingWarning]:
        """Return what of one tenant, or of all, is on no invoice that asks for it.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        return all_unbilled(self._store, tenant=tenant)

    def reopen(
        self, tenant: str, *, first_day: date, by: str, reason: str, once: str = ""
    ) -> PeriodStatus:
        """Ask to reopen the latest closed period; the second of two people reopens it.

        While it is open either of them may say so again: it changes nothing.

        Args:
            tenant: whose.
            first_day: of the period.
            by: who asks, or approves.
            reason: why.
            once: names the command; the same again changes nothing either.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_period``.
            Refused: as `decisions.reopen`.
            InvalidInput: ``invalid_text``.
        """
        place = self._store.place(tenant)
        for _ in range(MAX_ATTEMPTS):
            account = self._account(place)
            at = to_us(self._store.now())
            try:
                events = decisions.reopen(
                    account,
                    first_day=first_day,
                    by=by,
                    reason=reason,
                    at=at,
                    once=once,
                    line_of=self._line_of,
                )
            except (NotFound, Refused):
                if not (account.reopened and self._opened(place, first_day, by)):
                    raise
                events = []
            if not events:
                return self._state(place, account, first_day)
            save = _save(place, account, events, at=at, by=by)
            try:
                self._store.save([save])
            except AccountChanged:
                continue
            return self._state(place, save.account, first_day)
        raise busy(tenant)

    def _opened(self, place: Place, first_day: date, by: str) -> bool:
        """Tell whether somebody is one of the two who opened a period last."""
        opened = [
            event
            for commit in self._store.history(place.tenant_id)
            for event in commit.events
            if isinstance(event, PeriodReopened)
        ]
        if not opened or opened[-1].first_day != first_day:
            return False
        return self._line_of(by) in map(self._line_of, opened[-1].approvers)

    def status(self, tenant: str) -> Sequence[PeriodStatus]:
        """Return a tenant's closed periods and the one that is next, one row a period.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        only = PeriodFilter(tenant=tenant)
        return list_periods(self._store, only, limit=sys.maxsize).rows

    def page(
        self, only: PeriodFilter, *, after: tuple[int, date] | None = None, limit: int
    ) -> PeriodPage:
        """Return a page of periods, of one tenant or of all; see `list_periods`.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        return list_periods(self._store, only, after=after, limit=limit)

    def preview(self, tenant: str, *, day: date | None = None) -> Invoice | None:
        """Return what a tenant's invoice would be now; None if nothing is owed.

        Args:
            tenant: whose.
            day: a local day of the period; by default today. Usage that came late for closed
                periods is part of the next one to be closed.

        Raises:
            NotFound: ``unknown_tenant``.
            Refused: ``period_closed``.
            InvalidInput: ``invalid_period`` for one at the end of the calendar.
        """
        self._catch_up()
        place = self._store.place(tenant)
        account = self._account(place)
        if day is not None and day.year > LAST_YEAR:
            raise InvalidInput(
                f"{day} is too far off; give one of the year {LAST_YEAR} at most",
                code="invalid_period",
            )
        on = day or self._store.now().astimezone(zone(place.timezone)).date()
        if on < account.closed_before:
            raise Refused(
                f"{on} is before {account.closed_before}, up to where periods are closed and"
                " invoices stand; later days can be previewed",
                code="period_closed",
            )
        span = account.span_on(on, timezone=place.timezone)
        late = account.last is not None and span.first_day <= account.closed_before
        [done] = self._rates.draft([Due(place, account, span, late=late)])
        return done.draft

    def preview_warnings(self, draft: Invoice | None) -> Sequence[BillingWarning]:
        """Return what of a preview people have to look at; of None nothing.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        if draft is None:
            return []
        return unused_taxes(self._account(self._store.place(draft.tenant)).details, draft)

    # -- closing ----------------------------------------------------------------------

    def _pieces(self) -> Iterator[Sequence[Place]]:
        after = 0
        while places := self._store.places(after=after, limit=TENANTS_AT_ONCE):
            yield places
            after = places[-1].tenant_id

    def _close_piece(
        self,
        places: Sequence[Place],
        until: int,
        by: str,
        told: Callable[[CloseStep], None],
        reopened: bool,
    ) -> Iterator[Drafted]:
        """Close the due periods of some tenants, each round one of each tenant."""
        attempts = 0
        rounds = 0
        while rounds < MAX_PERIODS:
            dues = self._dues(places, until, reopened)
            if not dues:
                return
            try:
                begun = self._begin(dues, by)
                told(CloseStep("begun", len(begun)))
                drafted = self._settled(self._rates.draft(begun))
                told(CloseStep("rated", len(drafted)))
                self._finish(drafted, by)
            except AccountChanged:
                # Somebody else closes too, or a plan changed: look again at what is left.
                attempts += 1
                if attempts >= MAX_ATTEMPTS * len(places):
                    raise busy(places[0].tenant) from None
                continue
            told(CloseStep("closed", len(drafted)))
            rounds += 1
            yield from drafted

    def _settled(self, drafted: Sequence[Drafted]) -> Sequence[Drafted]:
        """Return drafts whose usage is charged in the ledger as they bill it.

        Subscribing rates usage again; here it is done that was interrupted there.
        """
        behind = [one.due for one in drafted if not one.settled]
        if self._settle is None or not behind:
            return drafted
        for due in behind:
            self._settle(due.place.tenant, due.span.first_day)
        again = {one.due.place.tenant_id: one for one in self._rates.draft(behind)}
        return [again.get(one.due.place.tenant_id, one) for one in drafted]

    def _dues(self, places: Sequence[Place], until: int, reopened: bool) -> list[Due]:
        accounts = self._store.accounts([place.tenant_id for place in places])
        firsts: Mapping[int, date] = {}
        if any(account.last is None for account in accounts.values()):
            with self._store.snapshot() as usage:
                firsts = usage.first_days(list(accounts))
        dues = []
        for place in places:
            account = accounts[place.tenant_id]
            begins = account.begins_on(firsts.get(place.tenant_id))
            if begins is None:
                continue
            if waits(account) or (account.reopened and not reopened):
                continue
            span = account.span_on(begins, timezone=place.timezone)
            if self._end(place, span) <= until:
                dues.append(Due(place, account, span))
        return dues

    def _begin(self, dues: Sequence[Due], by: str) -> list[Due]:
        at = to_us(self._store.now())
        saves, begun = [], []
        for due in dues:
            events = decisions.begin_close(due.account, due.span)
            account = due.account
            if events:
                saves.append(_save(due.place, account, events, at=at, by=by))
                account = saves[-1].account
            begun.append(Due(due.place, account, due.span))
        self._store.save(saves)
        return begun

    def _finish(self, drafted: Sequence[Drafted], by: str) -> None:
        at = to_us(self._store.now())
        saves = []
        for one in drafted:
            due, draft = one.due, one.draft
            document = b"" if draft is None else to_document(draft)
            events = decisions.close(
                due.account,
                due.span,
                draft=draft,
                document=document,
                through_commit=one.cut.through_commit,
                position=one.cut.position,
            )
            put = [] if draft is None else [draft_row(due.place, draft, document)]
            saves.append(_save(due.place, due.account, events, at=at, by=by, put=put))
        self._store.save(saves)

    # -- reading ----------------------------------------------------------------------

    def _account(self, place: Place) -> BillingAccount:
        return self._store.accounts([place.tenant_id])[place.tenant_id]

    def _state(self, place: Place, account: BillingAccount, first_day: date) -> PeriodStatus:
        for one in self.status(place.tenant):
            if one.first_day == first_day:
                return one
        span = account.span_on(first_day, timezone=place.timezone)
        return next_period(place, account, span, to_us(self._store.now()))

    @staticmethod
    def _end(place: Place, span: Span) -> int:
        return day_start(place.timezone, span.after_day)


def draft_row(place: Place, draft: Invoice, document: bytes) -> InvoiceRow:
    """Return the row of a draft."""
    return InvoiceRow(
        tenant_id=place.tenant_id,
        id=draft.id,
        kind=draft.kind.value,
        status=InvoiceStatus.DRAFT,
        first_day=draft.period.first_day,
        after_day=draft.period.after_day,
        since_day=since_day(draft),
        document=document,
    )


def since_day(invoice: Invoice) -> date:
    """Return the earliest day that an invoice bills anything for."""
    days = [line.service.first_day for line in invoice.lines]
    days += [one.service.first_day for one in invoice.credits]
    return min([invoice.period.first_day, *days])


def _save(
    place: Place,
    account: BillingAccount,
    events: Sequence[Event],
    *,
    at: int,
    by: str,
    put: Sequence[InvoiceRow] = (),
) -> AccountSave:
    commit = AccountCommit(at, by, tuple(events))
    dropped = [id for event in events for id in getattr(event, "dropped", ())]
    return AccountSave(place.tenant_id, evolve(account, commit), commit, put, dropped)


def _silent(step: CloseStep) -> None:
    """Tell nobody."""
