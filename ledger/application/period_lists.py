"""Where billing periods are: of a tenant, and of all of them page by page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from enum import StrEnum

import msgspec

from ledger.application.billing_ports import BillingStore
from ledger.application.billing_warnings import BillingWarning, unbilled_warnings
from ledger.domain.billing_account import BillingAccount
from ledger.domain.billing_calendar import Span
from ledger.domain.billing_drafts import Place
from ledger.domain.periods import day_start, to_us

GRACE_HOURS = 48
"""How long after its end a period stays open for usage that comes late, unless said otherwise."""
MOST_TENANTS = 5000
"""Tenants that one page looks at."""
_PIECE = 500
_HOUR_US = 3_600_000_000


class PeriodState(StrEnum):
    """Where a period can be; `DUE`: its grace is over."""

    OPEN = "open"
    DUE = "due"
    CLOSING = "closing"
    CLOSED = "closed"
    REOPENED = "reopened"


class PeriodStatus(msgspec.Struct, frozen=True):
    """A billing period of a tenant.

    Attributes:
        tenant: whose.
        first_day: of it.
        after_day: the day after it.
        state: where it is.
        invoice: id of the latest; "" where there is none, and after reopening where it is void.
        closes_at: when its grace ends, microseconds since the epoch.
        overdue: its grace is over, and it is not closed.
        tenant_id: number of the tenant.
    """

    tenant: str
    first_day: date
    after_day: date
    state: PeriodState
    invoice: str = ""
    closes_at: int = 0
    overdue: bool = False
    tenant_id: int = 0


class PeriodFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which periods to list.

    Attributes:
        tenant: whose; None for all.
        state: only those there; None for any.
        overdue: only those that are.
    """

    tenant: str | None = None
    state: PeriodState | None = None
    overdue: bool = False


class PeriodPage(msgspec.Struct, frozen=True):
    """Some periods, in order of tenants' numbers and days.

    Attributes:
        rows: of them.
        following: tenant number and first day after which the next page begins; None at the end.
        warnings: of the tenants that have a row.
    """

    rows: Sequence[PeriodStatus]
    following: tuple[int, date] | None
    warnings: Sequence[BillingWarning]


def list_periods(
    store: BillingStore,
    only: PeriodFilter,
    *,
    after: tuple[int, date] | None = None,
    limit: int,
) -> PeriodPage:
    """Return a page of periods; it may be short, also empty, while there are others.

    Args:
        store: where billing is.
        only: which ones.
        after: `PeriodPage.following` of the page before.
        limit: most rows.

    Raises:
        NotFound: ``unknown_tenant``.
    """
    now = to_us(store.now())
    rows: list[PeriodStatus] = []
    told: list[tuple[Place, BillingAccount]] = []
    following: tuple[int, date] | None = None
    looked = 0
    for place, account, periods in _tenants(store, only.tenant, after, now):
        if looked == MOST_TENANTS:
            following = following or (place.tenant_id - 1, date.max)
            break
        looked += 1
        found = [
            one
            for one in periods
            if (after is None or (one.tenant_id, one.first_day) > after)
            and only.state in (None, one.state)
            and (one.overdue or not only.overdue)
        ]
        if not found:
            continue
        if len(rows) < limit:
            told.append((place, account))
        rows += found
        if len(rows) > limit:
            last = rows[limit - 1]
            following = (last.tenant_id, last.first_day)
            break
    return PeriodPage(rows[:limit], following, unbilled_warnings(store, told))


def _tenants(
    store: BillingStore, tenant: str | None, after: tuple[int, date] | None, now: int
) -> Iterator[tuple[Place, BillingAccount, Sequence[PeriodStatus]]]:
    """Yield tenants from a place on, each with its account and periods."""
    number = 0 if after is None else after[0] - 1
    while True:
        if tenant is not None:
            places: Sequence[Place] = [store.place(tenant)]
        else:
            places = store.places(after=number, limit=_PIECE)
        ids = [place.tenant_id for place in places]
        accounts = store.accounts(ids)
        new = [number for number in ids if accounts[number].last is None]
        firsts: Mapping[int, date] = {}
        if new:
            with store.snapshot() as usage:
                firsts = usage.first_days(new)
        for place in places:
            account = accounts[place.tenant_id]
            yield place, account, periods_of(place, account, firsts.get(place.tenant_id), now)
        if tenant is not None or not places:
            return
        number = places[-1].tenant_id


def periods_of(
    place: Place, account: BillingAccount, first_usage: date | None, now: int
) -> list[PeriodStatus]:
    """Return a tenant's closed periods and the one that is next, one row a period.

    Args:
        place: whose.
        account: likewise.
        first_usage: local day of the earliest usage; None while there is none.
        now: microseconds since the epoch.
    """
    rows: dict[date, PeriodStatus] = {}
    for one in account.closes:
        known = rows.get(one.first_day)
        invoice = one.invoice or ("" if known is None else known.invoice)
        # What a later close of the same days says is what holds.
        state = PeriodState.CLOSED
        if one.reopened and one is account.last:
            state = PeriodState.REOPENED if account.closing is None else PeriodState.CLOSING
        days = (one.first_day, one.after_day)
        rows[one.first_day] = _status(place, *days, state, now, invoice=invoice)
    found = list(rows.values())
    begins = account.begins_on(first_usage)
    if begins is None or (account.last is not None and account.last.reopened):
        return found
    span = account.span_on(begins, timezone=place.timezone)
    return [*found, next_period(place, account, span, now)]


def next_period(place: Place, account: BillingAccount, span: Span, now: int) -> PeriodStatus:
    """Return where a period is that is not closed."""
    state = PeriodState.OPEN
    if account.closing is not None:
        state = PeriodState.CLOSING
    elif account.reopened:
        state = PeriodState.REOPENED
    elif _closes_at(place, span.after_day) <= now:
        state = PeriodState.DUE
    return _status(place, span.first_day, span.after_day, state, now)


def _status(
    place: Place,
    first_day: date,
    after_day: date,
    state: PeriodState,
    now: int,
    *,
    invoice: str = "",
) -> PeriodStatus:
    closes_at = _closes_at(place, after_day)
    return PeriodStatus(
        place.tenant,
        first_day,
        after_day,
        state,
        invoice,
        closes_at,
        state is not PeriodState.CLOSED and closes_at <= now,
        place.tenant_id,
    )


def _closes_at(place: Place, after_day: date) -> int:
    return day_start(place.timezone, after_day) + GRACE_HOURS * _HOUR_US
