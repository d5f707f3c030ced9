"""Ports: what the use cases need from the outside world.

`LedgerStore` is the write path's view of a database: one `Batch` is one transaction under the
ledger-wide writer lock. PostgreSQL implements it (adapters/postgres), and so does an in-memory
double (adapters/memory); one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from ledger.domain.catalog import Catalog
from ledger.domain.commands import KeyRow
from ledger.domain.entries import Commit
from ledger.domain.errors import Unavailable
from ledger.domain.ledger import Balance, CorrectionState, LedgerState, UnpricedUsage

TenantKey = tuple[int, bytes]
"""A tenant's number and a key digest."""


class ConnectionLost(Unavailable):
    """The database went away; whether the batch was committed is unknown until it is run again."""

    default_code = "database_connection_lost"


class Opening(msgspec.Struct, frozen=True):
    """What a batch learns when it holds the writer lock.

    Attributes:
        now: database time, microseconds since the epoch.
        head: last notification id of the log; 0 while it is empty.
        changed: streams that got commits after the caller's position; None for too many to tell.
        keys: those of the asked keys that are taken.
    """

    now: int
    head: int
    changed: Sequence[str] | None
    keys: Mapping[TenantKey, KeyRow]


class NewKey(msgspec.Struct, gc=False, frozen=True):
    """An idempotency key that a commit takes."""

    digest: bytes
    fingerprint: bytes
    index: int


class LedgerWrite(msgspec.Struct, frozen=True):
    """One tenant's commit and the rows that change with it.

    Attributes:
        state: the ledger's state after the commit; ``touched`` names the balances that changed.
        body: the encoded commit number ``state.version``.
        keys: keys that the commit takes.
        shapes: numbers and bodies of shapes that it defines.
        conflicts: places of the conflicts it keeps.
    """

    state: LedgerState
    body: bytes
    keys: Sequence[NewKey]
    shapes: Sequence[tuple[int, bytes]]
    conflicts: Sequence[int]


class Batch(Protocol):
    """One transaction under the writer lock; everything it reads is current until it commits."""

    @property
    def opening(self) -> Opening:
        """What was read on opening."""
        ...

    def tenants(self, names: Collection[str]) -> list[LedgerState]:
        """Return those ledgers that exist, with shapes and counters, without balances."""
        ...

    def open_tenant(self, name: str, *, currency: str, timezone: str, book: str) -> LedgerState:
        """Return a new ledger at version 0, numbered after the highest number in use."""
        ...

    def keys(self, keys: Collection[TenantKey]) -> dict[TenantKey, KeyRow]:
        """Return those keys that are taken."""
        ...

    def balances(self, periods: Collection[tuple[int, str]]) -> dict[tuple[int, str], Balance]:
        """Return those balances that exist, by tenant number and period name."""
        ...

    def corrections(self, targets: Collection[TenantKey]) -> dict[TenantKey, CorrectionState]:
        """Return what is known of corrected events, by the event's key digest."""
        ...

    def accumulators(
        self, sessions: Collection[tuple[int, str]]
    ) -> dict[tuple[int, str], dict[str, int]]:
        """Return running quantities x 10^6 by accumulator key, of tenants' sessions."""
        ...

    def commits(self, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], Commit]:
        """Return commits by tenant number and commit number."""
        ...

    def write(self, writes: Sequence[LedgerWrite]) -> int:
        """Append commits, change rows and commit; return the log's new head.

        Raises:
            ConnectionLost: the connection broke; run the batch again.
        """
        ...


class LedgerStore(Protocol):
    """The database as the write path sees it."""

    def batch(self, *, since: int, keys: Collection[TenantKey]) -> AbstractContextManager[Batch]:
        """Open a batch: take the writer lock, then read.

        Args:
            since: notification id up to which the caller's caches are current.
            keys: key digests to look up on the way.

        Raises:
            ConnectionLost: no connection can be had now.
        """
        ...


class StoredCommit(msgspec.Struct, frozen=True):
    """A commit of a tenant's ledger as the log has it.

    Attributes:
        position: notification id.
        tenant_id: number of the tenant.
        version: commit number.
        state: encoded commit.
    """

    position: int
    tenant_id: int
    version: int
    state: bytes


class CatalogSource(Protocol):
    """Where the catalog of approved prices comes from."""

    def load(self) -> Catalog:
        """Return the catalog as the price books are now."""
        ...


class TenantRow(msgspec.Struct, frozen=True):
    """A tenant as the state rows have it."""

    tenant_id: int
    tenant: str
    currency: str
    timezone: str
    book: str
    version: int
    digest: bytes
    shapes: int
    pending: int
    conflicts: int


class AuditView(Protocol):
    """A consistent snapshot of log and state rows, for `verify`; writes go on meanwhile."""

    def commits(self) -> Iterator[Sequence[StoredCommit]]:
        """Yield all ledger commits in log order, some thousand at a time."""
        ...

    def tenants(self) -> Iterable[TenantRow]:
        """Return all tenants."""
        ...

    def shapes(self, tenant_id: int) -> Sequence[bytes]:
        """Return a tenant's shape bodies in order of their numbers."""
        ...

    def balances(self, tenant_id: int) -> Sequence[Balance]:
        """Return a tenant's balances."""
        ...

    def corrections(self, tenant_id: int) -> Mapping[bytes, CorrectionState]:
        """Return a tenant's corrected events."""
        ...

    def accumulators(self, tenant_id: int) -> Mapping[str, int]:
        """Return a tenant's running quantities."""
        ...

    def unpriced(self, tenant_id: int) -> Mapping[bytes, UnpricedUsage]:
        """Return a tenant's unpriced events."""
        ...

    def key_count(self, tenant_id: int) -> int:
        """Return how many keys a tenant has taken."""
        ...

    def keys(self, keys: Collection[TenantKey]) -> dict[TenantKey, KeyRow]:
        """Return those keys that are taken."""
        ...
