"""Ports: what the use cases need from the outside world.

`LedgerStore` is the write path's view of a database: one `Batch` is one transaction under the
ledger-wide writer lock. PostgreSQL implements it (adapters/postgres), and so does an in-memory
double (adapters/memory); one contract suite runs against both.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from ledger.application.live import News
from ledger.domain.balance import Balance
from ledger.domain.budgets import Counter
from ledger.domain.catalog import Catalog
from ledger.domain.commands import KeyRow
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entries import Commit
from ledger.domain.errors import Unavailable
from ledger.domain.holds import HoldState
from ledger.domain.ledger import CorrectionState, LedgerState, Ref, UnpricedUsage
from ledger.domain.protection import CounterKey
from ledger.domain.tenant_plans import TenantPlan
from ledger.projections.usage_daily import RowKey

TenantKey = tuple[int, bytes]
"""A tenant's number and a key digest."""


class ConnectionLost(Unavailable):
    """The database went away; whether the batch was committed is unknown until it is run again."""

    default_code = "database_connection_lost"


class KeyTaken(Exception):
    """A commit takes a key that is taken already; nothing of its batch was written.

    No error of the ledger: who did not look the key up runs the batch again and looks.
    """


class Opening(msgspec.Struct, frozen=True):
    """What a batch learns when it holds the writer lock.

    Attributes:
        now: database time, microseconds since the epoch.
        head: last notification id of the log; 0 while it is empty.
        changed: streams that got commits after the caller's position; None for too many to tell.
        keys: those of the asked keys that are taken.
        holds: those of the asked holds that are known.
    """

    now: int
    head: int
    changed: Sequence[str] | None
    keys: Mapping[TenantKey, KeyRow]
    holds: Mapping[TenantKey, HoldState] = {}


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
        news: what those who wait are told, once it is committed.
    """

    state: LedgerState
    body: bytes
    keys: Sequence[NewKey]
    shapes: Sequence[tuple[int, bytes]]
    conflicts: Sequence[int]
    news: Sequence[News] = ()


class Batch(Protocol):
    """One transaction under the writer lock; everything it reads is current until it commits."""

    @property
    def opening(self) -> Opening:
        """What was read on opening."""
        ...

    def tenants(self, names: Collection[str]) -> list[LedgerState]:
        """Return those ledgers that exist, with shapes and, where they have any, protection.

        Budgets, grants and the head of the protection are there; balances, counters of budget
        windows and holds are loaded when they are wanted.
        """
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

    def running(self, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """Return those running quantities x 10^6 of plans that exist, by accumulator key."""
        ...

    def commits(self, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], Commit]:
        """Return commits by tenant number and commit number."""
        ...

    def counters(
        self, keys: Collection[tuple[int, CounterKey]]
    ) -> dict[tuple[int, CounterKey], Counter]:
        """Return those counters of budget windows that exist, by tenant number and key."""
        ...

    def holds(self, keys: Collection[TenantKey]) -> dict[TenantKey, HoldState]:
        """Return those holds that are known, by tenant number and `hold_digest`."""
        ...

    def due_holds(self, tenants: Collection[int]) -> list[tuple[int, HoldState]]:
        """Return the open holds of tenants whose time is over at the opening's ``now``."""
        ...

    def next_expiries(self, tenants: Collection[int]) -> dict[int, int]:
        """Return the earliest expiry after the opening's ``now`` of tenants' open holds."""
        ...

    def write(self, writes: Sequence[LedgerWrite]) -> int:
        """Append commits, change rows and commit; return the log's new head.

        Raises:
            ConnectionLost: the connection broke; run the batch again.
            KeyTaken: a key is taken already.
        """
        ...


class LedgerStore(Protocol):
    """The database as the write path sees it."""

    def batch(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey] = ()
    ) -> AbstractContextManager[Batch]:
        """Open a batch: take the writer lock, then read.

        Args:
            since: notification id up to which the caller's caches are current.
            keys: key digests to look up on the way.
            holds: hold digests to look up on the way.

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


class PolicySource(Protocol):
    """Where the default cap comes from."""

    def load(self) -> DefaultCap:
        """Return what was said of new ledgers' caps."""
        ...


class CatalogSource(Protocol):
    """Where the catalog of approved prices comes from."""

    def load(self) -> Catalog:
        """Return the catalog as the price books are now."""
        ...


class PlanSource(Protocol):
    """Where what tenants' plans charge comes from."""

    def load(self, tenants: Mapping[int, str]) -> Mapping[int, TenantPlan]:
        """Return what the subscriptions of those tenants come to that have any.

        Args:
            tenants: time zones by tenant number.
        """
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


class ProtectionHead(msgspec.Struct, frozen=True):
    """A row of ``protection``: the head of a ledger's cost protection.

    Attributes:
        next_expiry: nothing expires before; microseconds since the epoch.
        capped: a cap was set or waived.
        credit_required: holds need credit for their whole amount.
        owed: x 10^18; None for what is no amount.
        entitlements: their stored form.
    """

    next_expiry: int
    capped: bool
    credit_required: bool
    owed: int | None
    entitlements: bytes


class AuditRows(msgspec.Struct):
    """What the state rows say of one tenant, beside its `TenantRow`.

    Attributes:
        shapes: bodies by number.
        balances: one a period.
        corrections: by the digest of the corrected event's key.
        accumulators: running quantities x 10^6, by accumulator key.
        unpriced: by the digest of the event's key.
        conflicts: places of the conflicting payloads kept.
        keys: how many keys are taken.
        protection: head of its cost protection; None without a row.
        budgets: ladder and stored terms, by number.
        counters: as `Counter.as_tuple` gives them, by key.
        holds: place of the status in `STATUSES`, expiry and body, by `hold_digest`.
        grants: members by name, by number; None for what is no amount.
        unreadable: which rows hold no number where one belongs, and what they hold.
    """

    shapes: dict[int, bytes] = {}
    balances: list[Balance] = []
    corrections: dict[bytes, CorrectionState] = {}
    accumulators: dict[str, int] = {}
    unpriced: dict[bytes, UnpricedUsage] = {}
    conflicts: set[Ref] = set()
    keys: int = 0
    protection: ProtectionHead | None = None
    budgets: dict[int, tuple[int, bytes]] = {}
    counters: dict[CounterKey, tuple[int, ...]] = {}
    holds: dict[bytes, tuple[int, int, bytes]] = {}
    grants: dict[int, dict[str, object]] = {}
    unreadable: list[tuple[str, str]] = []


class AskedKeys:
    """Keys as the log has them, column by column; equally long.

    Attributes:
        tenants: numbers of the tenants.
        keys: digests.
        versions: commits of the entries that take them.
        indexes: places of the entries there.
        fingerprints: of the payloads; empty to leave them out.
    """

    __slots__ = ("fingerprints", "indexes", "keys", "tenants", "versions")

    def __init__(self) -> None:
        self.tenants: list[int] = []
        self.keys: list[bytes] = []
        self.versions: list[int] = []
        self.indexes: list[int] = []
        self.fingerprints: list[bytes] = []


class RollupRow(msgspec.Struct, gc=False, frozen=True):
    """A daily rollup row.

    Attributes:
        key: what it sums.
        numbers: quantity x 10^6, charge and cost x 10^18, unpriced quantity x 10^6; None for a
            number with more decimals than that.
    """

    key: RowKey
    numbers: tuple[int | None, ...]


class BillingRollupRow(msgspec.Struct, gc=False, frozen=True):
    """What the rollups that invoices are rated from say of a day, over all prices.

    Attributes:
        key: tenant number, local day, provider, model, meter.
        numbers: quantity x 10^6, charge x 10^18, unpriced quantity x 10^6; None for a number with
            more decimals than that.
    """

    key: tuple[int, str, str, str, str]
    numbers: tuple[int | None, ...]


class AuditView(Protocol):
    """A consistent snapshot of log and state rows, for `verify`; writes go on meanwhile."""

    def head(self) -> int:
        """Return the log's last notification id; 0 while it is empty."""
        ...

    def commits(
        self, *, tenant_id: int | None = None, after: int = 0
    ) -> Iterator[Sequence[StoredCommit]]:
        """Yield ledger commits in pieces of some thousand, or some megabytes.

        Args:
            tenant_id: only this tenant's, in order of commit numbers; None for all, in log order.
            after: of one tenant: number of the last commit to leave out.
        """
        ...

    def shapes(self, tenant_id: int) -> Mapping[int, bytes]:
        """Return bodies of a tenant's shapes by number."""
        ...

    def strangers(self) -> Sequence[str]:
        """Return what `commits` met in the log that is half a commit: by stream or by topic."""
        ...

    def tenants(self) -> Sequence[TenantRow]:
        """Return all tenants, by number."""
        ...

    def tenant_numbers(self) -> set[int]:
        """Return the numbers of all tenants that any state row names."""
        ...

    def rows(self, tenants: Collection[int]) -> Mapping[int, AuditRows]:
        """Return what the state rows say of tenants; one for each that was asked for."""
        ...

    def wrong_keys(self, asked: AskedKeys) -> Sequence[tuple[int, KeyRow | None]]:
        """Return which of the keys have no row, or one that says something else.

        Returns:
            The place among those asked and the row that is there, if there is one.
        """
        ...

    def key_rows(self, tenant_id: int) -> Iterator[Sequence[tuple[bytes, KeyRow]]]:
        """Yield all keys of a tenant, by commit, in pieces."""
        ...

    def commits_at(self, tenant_id: int, versions: Collection[int]) -> Mapping[int, bytes]:
        """Return stored forms of a tenant's commits, by number, of those that exist."""
        ...

    def rollup_position(self) -> int:
        """Return the notification id up to which the daily rollups count."""
        ...

    def rollups(self, *, tenant_id: int | None = None) -> Iterator[Sequence[RollupRow]]:
        """Yield the daily rollups, of one tenant or of all, in pieces."""
        ...

    def billing_position(self) -> int:
        """Return the notification id up to which the rollups of billing count."""
        ...

    def billing_rollups(
        self, *, tenant_id: int | None = None
    ) -> Iterator[Sequence[BillingRollupRow]]:
        """Yield the rollups of billing, of one tenant or of all, in pieces."""
        ...
