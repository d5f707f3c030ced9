"""Ports of billing: where accounts, invoices, numbers and billing rollups are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime
from typing import NamedTuple, Protocol

import msgspec

from ledger.domain.billing_account import AccountCommit, BillingAccount
from ledger.domain.billing_drafts import Cut, Place
from ledger.domain.billing_rating import UsageRow
from ledger.domain.invoices import InvoiceStatus


class AccountChanged(Exception):
    """Somebody else changed an account meanwhile; nothing was saved."""


class InvoiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice or credit note as it is stored.

    Attributes:
        tenant_id: whose.
        id: unique for the tenant.
        kind: ``invoice`` or ``credit_note``.
        status: of a credit note always ``finalized``.
        series: of its number; "" in a draft.
        number: likewise.
        first_day: of its period.
        after_day: the day after it.
        since_day: earliest day that a line is for.
        cites: of a credit note: the invoice's id.
        document: canonical JSON.
        tenant: name; "" where the caller knows it.
    """

    tenant_id: int
    id: str
    kind: str
    status: InvoiceStatus
    first_day: date
    after_day: date
    since_day: date
    document: bytes
    series: str = ""
    number: str = ""
    cites: str = ""
    tenant: str = ""


class AccountSave(msgspec.Struct, frozen=True):
    """A commit of an account and the rows that change with it.

    Attributes:
        tenant_id: whose.
        account: after the commit; its version is the commit's number.
        commit: what happened.
        put: invoices that are new or changed.
        dropped: ids of drafts that are gone.
    """

    tenant_id: int
    account: BillingAccount
    commit: AccountCommit
    put: Sequence[InvoiceRow] = ()
    dropped: Sequence[str] = ()


class InvoiceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which invoices to list; None asks for any.

    Attributes:
        tenant_id: whose.
        status: where they are.
        kind: ``invoice`` or ``credit_note``.
        cites: credit notes of this invoice.
        after: tenant number and id of the last one seen.
        limit: most to return.
    """

    tenant_id: int | None = None
    status: InvoiceStatus | None = None
    kind: str | None = None
    cites: str | None = None
    after: tuple[int, str] | None = None
    limit: int = 1000


class UsageQuestion(NamedTuple):
    """Which rows are wanted.

    Attributes:
        tenant_id: whose.
        first_day: first local day.
        after_day: the day after the last.
        daily: each day's rows; else one row for all days, its day the first.
    """

    tenant_id: int
    first_day: date
    after_day: date
    daily: bool = False


class UsageSnapshot(Protocol):
    """Billing rollups at one moment; writers and the projection go on meanwhile."""

    def cuts(self, tenants: Collection[int]) -> Mapping[int, Cut]:
        """Return up to where the rollups count each ledger."""
        ...

    def first_days(self, tenants: Collection[int]) -> Mapping[int, date]:
        """Return the earliest day with usage, of those tenants that have any."""
        ...

    def rows(self, asked: Sequence[UsageQuestion]) -> Sequence[Sequence[UsageRow]]:
        """Return rows, an answer for each question."""
        ...

    def changed(self, asked: Sequence[tuple[int, date, int]]) -> Mapping[int, Sequence[date]]:
        """Return tenants' days before a day whose rows changed after a log position, in order."""
        ...


class BillingStore(Protocol):
    """Where billing is stored; all methods block."""

    def for_tenant(self, tenant: str) -> BillingStore:
        """Return a view of one tenant's rows alone, to read from; cheap.

        Every query of the view runs as a role that sees no other tenant's rows: a foreign name
        answers ``unknown_tenant``, as one does that does not exist. What is nobody's, such as the
        platform's account, numbers and histories, is not in it, and it saves nothing.
        """
        ...

    def now(self) -> datetime:
        """Return the database's time."""
        ...

    def place(self, tenant: str) -> Place:
        """Return a tenant.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        ...

    def places(self, *, after: int, limit: int) -> Sequence[Place]:
        """Return tenants by number."""
        ...

    def accounts(self, tenants: Collection[int]) -> Mapping[int, BillingAccount]:
        """Return accounts; one without commits for whoever has none."""
        ...

    def history(self, tenant_id: int) -> Iterator[AccountCommit]:
        """Yield the commits of an account, in order."""
        ...

    def save(self, saves: Sequence[AccountSave]) -> None:
        """Append commits and write rows, all or nothing.

        Raises:
            AccountChanged: an account has another version than the one before its commit.
        """
        ...

    def save_numbered(
        self,
        wanted: Mapping[str, int],
        make: Callable[[Mapping[str, int]], Sequence[AccountSave]],
    ) -> None:
        """Do as `save`, with numbers that nobody else gets and that are not lost either.

        The counters of the series stay locked until the commit, so numbers have no gaps.

        Args:
            wanted: how many numbers, by series.
            make: is told the first number of each series; returns what to save.

        Raises:
            AccountChanged: as `save`; the numbers are free again.
        """
        ...

    def last_numbers(self) -> Mapping[str, int]:
        """Return the last number of each series."""
        ...

    def numbers(self, series: str) -> Sequence[str]:
        """Return the numbers that documents of a series have, in order."""
        ...

    def snapshot(self) -> AbstractContextManager[UsageSnapshot]:
        """Open the billing rollups as they are now."""
        ...

    def invoice(self, tenant_id: int, id: str) -> InvoiceRow | None:
        """Return an invoice or credit note."""
        ...

    def invoices_at(
        self, places: Collection[tuple[int, str]]
    ) -> Mapping[tuple[int, str], InvoiceRow]:
        """Return those invoices that exist, by tenant number and id."""
        ...

    def invoices(self, asked: InvoiceFilter) -> Sequence[InvoiceRow]:
        """Return invoices by tenant number and id."""
        ...

    def covering(self, tenant_id: int, *, first_day: date, after_day: date) -> Sequence[InvoiceRow]:
        """Return invoices whose lines are for days of a range, or may be."""
        ...
