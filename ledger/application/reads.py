"""Read models as the use cases see them: what tenants used, owe, and which entry is where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

import msgspec

from ledger.application.ports import TenantRow
from ledger.domain.balance import Balance
from ledger.domain.entries import Commit
from ledger.domain.ledger import UnpricedUsage

GROUPINGS = ("day", "provider", "model", "meter", "user", "project")
"""What `Reads.usage` can group by."""


class UsageRow(msgspec.Struct, frozen=True, kw_only=True):
    """A group of usage.

    Attributes:
        group: value of each grouping asked for, in order.
        quantity: None where the group mixes meters.
        charge: unrounded, in the tenant's currency.
        costs: unrounded provider cost by currency.
        unpriced: quantity without a price; None where the group mixes meters.
    """

    group: tuple[str, ...]
    quantity: Decimal | None
    charge: Decimal
    costs: dict[str, Decimal]
    unpriced: Decimal | None


class Located(msgspec.Struct, frozen=True):
    """An entry's commit and its place there.

    Attributes:
        tenant: whose ledger.
        version: commit number.
        index: place of the entry.
        commit: the commit.
        digest: the commit's digest, hex.
        position: the commit's notification id in the log.
    """

    tenant: TenantRow
    version: int
    index: int
    commit: Commit
    digest: str
    position: int


class Reads(Protocol):
    """Queries; each is consistent in itself."""

    def for_tenant(self, tenant: str) -> Reads:
        """Return the same queries over one tenant's rows alone, which the database enforces."""
        ...

    def tenants(self, *, after: str | None = None, limit: int | None = None) -> Sequence[TenantRow]:
        """Return tenants by name.

        Args:
            after: only those that come after this name.
            limit: most tenants; None for all.
        """
        ...

    def tenant(self, name: str) -> TenantRow:
        """Return a tenant.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        ...

    def balances(self, tenant: str) -> Sequence[Balance]:
        """Return a tenant's balances, one a period in order.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        ...

    def balances_of_many(
        self, tenants: Sequence[str]
    ) -> Mapping[str, tuple[TenantRow, Sequence[Balance]]]:
        """Return several tenants with their balances; those that do not exist are left out."""
        ...

    def usage(
        self,
        *,
        tenant: str,
        start: date | None,
        end: date | None,
        by: Sequence[str],
        after: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Sequence[UsageRow]:
        """Return grouped usage of local days in ``[start, end)`` from the daily rollups.

        Args:
            tenant: whose.
            start: first local day; None from the beginning.
            end: first local day no longer included; None to the end.
            by: some of `GROUPINGS`, in the order of the result.
            after: only groups that come after this one.
            limit: most groups; None for all.
        """
        ...

    def rollup_lag(self) -> int:
        """Return how many log positions the daily rollups are behind."""
        ...

    def locate(self, *, tenant: str, source: str, id: str) -> Located:
        """Return where the entry of an idempotency key is.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_event``.
        """
        ...

    def place(self, *, tenant: str, version: int, index: int) -> Located:
        """Return an entry by its receipt.

        Raises:
            NotFound: ``unknown_tenant``, ``unknown_event``.
        """
        ...

    def find_id(self, id: str, *, tenant: str | None = None) -> Sequence[Located]:
        """Return the entries whose id or provider request id is ``id``, newest first; scans."""
        ...

    def history(self, *, tenant: str, source: str, id: str) -> Sequence[Located]:
        """Return every entry about an event, corrections and conflicts included, in order."""
        ...

    def histories(
        self, *, tenant: str, events: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Sequence[Located]]:
        """Return what became of several events, each by its source and id.

        Returns:
            The entries about an event, in order, its own left out; nothing for an event about
            which there are no others.

        Raises:
            NotFound: ``unknown_tenant``.
        """
        ...

    def commits(
        self, *, tenant: str, before: int | None, limit: int
    ) -> Sequence[tuple[int, Commit]]:
        """Return a tenant's commits with their numbers, newest first, below ``before``."""
        ...

    def shapes(self, tenant: str) -> Sequence[bytes]:
        """Return a tenant's shape bodies by number."""
        ...

    def unpriced(
        self, *, tenant: str | None = None, limit: int
    ) -> Sequence[tuple[str, UnpricedUsage]]:
        """Return tenants and their unpriced events, oldest first."""
        ...

    def now(self) -> datetime:
        """Return the database's time."""
        ...
