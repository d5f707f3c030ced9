"""The write path's store in memory: a lock for the advisory lock, dictionaries for the tables.

Rows are kept as immutable values and copied into new states on reading, so a state that a caller
changes and then throws away, as after a failed batch, changes nothing here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ledger.application.ports import (
    Batch,
    KeyTaken,
    LedgerStore,
    LedgerWrite,
    Opening,
    StoredCommit,
    TenantKey,
    TenantRow,
)
from ledger.application.prefetch_holds import DUE_AT_ONCE
from ledger.domain.balance import Balance
from ledger.domain.budgets import Budget, Counter
from ledger.domain.commands import KeyRow
from ledger.domain.credits import Grant
from ledger.domain.entries import Commit, Entry, decode_commit, stream_of, tenant_of_stream
from ledger.domain.errors import InvariantViolation
from ledger.domain.holds import OPEN, HoldState, hold_body, hold_of
from ledger.domain.ledger import CorrectionState, LedgerState, Ref, UnpricedUsage
from ledger.domain.protection import CounterKey, Protection
from ledger.domain.shapes import shape_from_body

CHANGES_LIMIT = 5_000
"""Commits of others that are told one by one; beyond, the caller drops its caches."""


def _system_clock() -> int:
    return time.time_ns() // 1000


@dataclass
class _Tables:
    """All rows; every value is immutable or private to this module."""

    log: list[tuple[str, int, bytes]] = field(default_factory=list)
    commits: dict[Ref, bytes] = field(default_factory=dict)
    tenants: dict[str, TenantRow] = field(default_factory=dict)
    keys: dict[TenantKey, KeyRow] = field(default_factory=dict)
    shapes: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    balances: dict[tuple[int, str], Balance] = field(default_factory=dict)
    corrections: dict[TenantKey, CorrectionState] = field(default_factory=dict)
    accumulators: dict[tuple[int, str], dict[str, int]] = field(default_factory=dict)
    unpriced: dict[TenantKey, UnpricedUsage] = field(default_factory=dict)
    conflicts: set[tuple[int, int, int]] = field(default_factory=set)
    protection: dict[int, ProtectionRows] = field(default_factory=dict)
    counters: dict[tuple[int, CounterKey], tuple[int, ...]] = field(default_factory=dict)
    holds: dict[TenantKey, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ProtectionRows:
    """A ledger's protection but for counters and holds; copies, never shared."""

    capped: bool
    required: bool
    owed: int
    next_expiry: int
    entitlements: bytes
    budgets: tuple[tuple[bytes, int], ...]
    grants: tuple[Grant, ...]

    @classmethod
    def of(cls, guard: Protection) -> ProtectionRows:
        """Return the rows of a ledger's protection."""
        credit = guard.credit
        return cls(
            guard.capped,
            credit.required,
            credit.owed,
            guard.next_expiry,
            guard.entitlements_body,
            tuple((budget.body, budget.ladder) for budget in guard.budgets),
            tuple(grant.copy() for grant in credit.grants.values()),
        )

    def load(self, timezone: str) -> Protection:
        """Return the protection that these rows say."""
        guard = Protection(timezone)
        guard.capped = self.capped
        guard.next_expiry = self.next_expiry
        guard.load_entitlements(self.entitlements)
        guard.load_budgets(
            Budget(number, body, ladder) for number, (body, ladder) in enumerate(self.budgets)
        )
        guard.credit.required = self.required
        guard.credit.owed = self.owed
        guard.credit.grants = {grant.number: grant.copy() for grant in self.grants}
        guard.start_commit()
        return guard


class MemoryStore:
    """The ledger's log and state rows in memory; thread-safe.

    Several sequencers may share one store, as several processes share a database.

    Args:
        clock: returns the time that commits get, microseconds since the epoch; the system's
            when left out.
    """

    def __init__(self, *, clock: Callable[[], int] = _system_clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tables = _Tables()

    @contextmanager
    def batch(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey] = ()
    ) -> Iterator[Batch]:
        """Open a batch; see `LedgerStore`."""
        with self._lock:
            batch = _MemoryBatch(self._tables, self._clock(), since, keys, holds)
            try:
                yield batch
            finally:
                batch.end()

    def append(self, *, stream: str, body: bytes = b"") -> int:
        """Append an event of a stream that is no tenant's ledger; return the log's new head.

        Writers then load the prices again, as after a change of a price book.
        """
        if tenant_of_stream(stream) is not None:
            raise InvariantViolation(f"{stream} is a tenant's ledger; only batches write it")
        with self._lock:
            log = self._tables.log
            log.append((stream, 1 + sum(entry[0] == stream for entry in log), body))
            return len(log)

    # -- what tests look at -----------------------------------------------------------

    def protection(self, tenant: str) -> Protection:
        """Return a tenant's protection with all its counters and holds; empty if it has none."""
        tenant_id = self._id(tenant)
        with self._lock:
            tables = self._tables
            rows = tables.protection.get(tenant_id)
            guard = rows.load("UTC") if rows is not None else Protection("UTC")
            guard.counters = {
                key: Counter.of(row)
                for (owner, key), row in tables.counters.items()
                if owner == tenant_id
            }
            guard.holds = {
                digest: hold_of(body)
                for (owner, digest), body in tables.holds.items()
                if owner == tenant_id
            }
            return guard

    def commits(self) -> list[StoredCommit]:
        """Return all commits of tenants' ledgers in log order."""
        with self._lock:
            placed = enumerate(self._tables.log, 1)
            return [
                StoredCommit(position, tenant_id, version, body)
                for position, (stream, version, body) in placed
                if (tenant_id := tenant_of_stream(stream)) is not None
            ]

    def entries(self, tenant: str) -> list[Entry]:
        """Return a tenant's entries in order; none for an unknown tenant."""
        tenant_id = self._id(tenant)
        return [
            entry
            for stored in self.commits()
            if stored.tenant_id == tenant_id
            for entry in decode_commit(stored.state).entries
        ]

    def tenants(self) -> list[TenantRow]:
        """Return all tenants by number."""
        with self._lock:
            return sorted(self._tables.tenants.values(), key=lambda row: row.tenant_id)

    def balances(self, tenant: str) -> list[Balance]:
        """Return a tenant's balances, one a period in order; none for an unknown tenant."""
        tenant_id = self._id(tenant)
        with self._lock:
            rows = sorted(self._tables.balances.items())
            return [_copy_balance(balance) for (owner, _), balance in rows if owner == tenant_id]

    def shapes(self, tenant: str) -> list[bytes]:
        """Return a tenant's shape bodies by number."""
        tenant_id = self._id(tenant)
        with self._lock:
            return list(self._tables.shapes.get(tenant_id, ()))

    def corrections(self, tenant: str) -> dict[bytes, CorrectionState]:
        """Return a tenant's corrected events, by the digest of the event's key."""
        tenant_id = self._id(tenant)
        with self._lock:
            rows = self._tables.corrections.items()
            return {key: _copy_correction(row) for (owner, key), row in rows if owner == tenant_id}

    def accumulators(self, tenant: str) -> dict[str, int]:
        """Return a tenant's running quantities x 10^6, by accumulator key."""
        tenant_id = self._id(tenant)
        with self._lock:
            rows = self._tables.accumulators.items()
            return {
                key: quantity
                for (owner, _), running in rows
                if owner == tenant_id
                for key, quantity in running.items()
            }

    def unpriced(self, tenant: str) -> dict[bytes, UnpricedUsage]:
        """Return a tenant's unpriced events, by the digest of the event's key."""
        tenant_id = self._id(tenant)
        with self._lock:
            rows = self._tables.unpriced.items()
            return {key: usage for (owner, key), usage in rows if owner == tenant_id}

    def keys(self, tenant: str) -> dict[bytes, KeyRow]:
        """Return the keys that a tenant has taken."""
        tenant_id = self._id(tenant)
        with self._lock:
            rows = self._tables.keys.items()
            return {key: row for (owner, key), row in rows if owner == tenant_id}

    def conflicts(self, tenant: str) -> list[Ref]:
        """Return where a tenant's conflicting payloads are kept, in order."""
        tenant_id = self._id(tenant)
        with self._lock:
            rows = sorted(self._tables.conflicts)
            return [(version, index) for owner, version, index in rows if owner == tenant_id]

    def _id(self, tenant: str) -> int:
        with self._lock:
            row = self._tables.tenants.get(tenant)
            return 0 if row is None else row.tenant_id


class _MemoryBatch:
    """One transaction; made by `MemoryStore.batch`, which holds the lock."""

    opening: Opening

    def __init__(
        self,
        tables: _Tables,
        now: int,
        since: int,
        keys: Collection[TenantKey],
        holds: Collection[TenantKey],
    ) -> None:
        self._tables = tables
        self._opened: dict[str, TenantRow] = {}
        self._open = True
        changed = [stream for stream, _, _ in tables.log[since : since + CHANGES_LIMIT + 1]]
        self.opening = Opening(
            now=now,
            head=len(tables.log),
            changed=list(dict.fromkeys(changed)) if len(changed) <= CHANGES_LIMIT else None,
            keys=self.keys(keys),
            holds=self.holds(holds),
        )

    def end(self) -> None:
        """Forget what was not committed."""
        self._open = False

    def _check_open(self) -> None:
        if not self._open:
            raise InvariantViolation("the batch has ended")

    def keys(self, keys: Collection[TenantKey]) -> dict[TenantKey, KeyRow]:
        """Return those keys that are taken."""
        self._check_open()
        return _found(self._tables.keys, keys)

    def tenants(self, names: Collection[str]) -> list[LedgerState]:
        """Return those ledgers that exist."""
        self._check_open()
        states = []
        for row in _found(self._tables.tenants, names).values():
            state = LedgerState(
                row.tenant_id,
                row.tenant,
                currency=row.currency,
                timezone=row.timezone,
                book=row.book,
                version=row.version,
                digest=row.digest,
                pending=row.pending,
                conflicts=row.conflicts,
            )
            for body in self._tables.shapes.get(row.tenant_id, ()):
                shape = shape_from_body(body)
                state.numbers[shape.body] = len(state.shapes)
                state.shapes.append(shape)
            rows = self._tables.protection.get(row.tenant_id)
            if rows is not None:
                state.guard = rows.load(state.timezone)
            states.append(state)
        return states

    def open_tenant(self, name: str, *, currency: str, timezone: str, book: str) -> LedgerState:
        """Return a new ledger at version 0."""
        self._check_open()
        if name in self._tables.tenants or name in self._opened:
            raise InvariantViolation(f"tenant {name!r} is open already")
        rows = (*self._tables.tenants.values(), *self._opened.values())
        number = 1 + max((row.tenant_id for row in rows), default=0)
        self._opened[name] = TenantRow(number, name, currency, timezone, book, 0, b"", 0, 0, 0)
        return LedgerState(number, name, currency=currency, timezone=timezone, book=book)

    def balances(self, periods: Collection[tuple[int, str]]) -> dict[tuple[int, str], Balance]:
        """Return those balances that exist."""
        self._check_open()
        found = _found(self._tables.balances, periods)
        return {place: _copy_balance(balance) for place, balance in found.items()}

    def corrections(self, targets: Collection[TenantKey]) -> dict[TenantKey, CorrectionState]:
        """Return what is known of corrected events."""
        self._check_open()
        found = _found(self._tables.corrections, targets)
        return {place: _copy_correction(correction) for place, correction in found.items()}

    def accumulators(
        self, sessions: Collection[tuple[int, str]]
    ) -> dict[tuple[int, str], dict[str, int]]:
        """Return running quantities of sessions."""
        self._check_open()
        found = _found(self._tables.accumulators, sessions)
        return {place: dict(running) for place, running in found.items()}

    def running(self, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """Return running quantities of plans."""
        self._check_open()
        found = {}
        for tenant_id, key in keys:
            quantity = self._tables.accumulators.get((tenant_id, ""), {}).get(key)
            if quantity is not None:
                found[tenant_id, key] = quantity
        return found

    def commits(self, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], Commit]:
        """Return commits by place."""
        self._check_open()
        found = _found(self._tables.commits, places)
        return {place: decode_commit(body) for place, body in found.items()}

    def counters(
        self, keys: Collection[tuple[int, CounterKey]]
    ) -> dict[tuple[int, CounterKey], Counter]:
        """Return those counters that exist."""
        self._check_open()
        found = _found(self._tables.counters, keys)
        return {place: Counter.of(row) for place, row in found.items()}

    def holds(self, keys: Collection[TenantKey]) -> dict[TenantKey, HoldState]:
        """Return those holds that are known."""
        self._check_open()
        found = _found(self._tables.holds, keys)
        return {place: hold_of(body) for place, body in found.items()}

    def due_holds(self, tenants: Collection[int]) -> list[tuple[int, HoldState]]:
        """Return the open holds whose time is over."""
        now = self.opening.now
        due = [one for one in self._open_holds(tenants) if one[1].expires_at <= now]
        return sorted(due, key=lambda one: one[1].expires_at)[:DUE_AT_ONCE]

    def next_expiries(self, tenants: Collection[int]) -> dict[int, int]:
        """Return the earliest expiry after now of open holds."""
        earliest: dict[int, int] = {}
        for tenant_id, hold in self._open_holds(tenants):
            if hold.expires_at > self.opening.now:
                before = earliest.get(tenant_id, hold.expires_at)
                earliest[tenant_id] = min(before, hold.expires_at)
        return earliest

    def _open_holds(self, tenants: Collection[int]) -> list[tuple[int, HoldState]]:
        self._check_open()
        held = (
            (tenant_id, hold_of(body))
            for (tenant_id, _), body in self._tables.holds.items()
            if tenant_id in tenants
        )
        return [one for one in held if one[1].status == OPEN]

    def write(self, writes: Sequence[LedgerWrite]) -> int:
        """Append, change rows, commit; return the new head."""
        self._check_open()
        for write in writes:
            self._check(write)
        self._tables.tenants.update(self._opened)
        for write in writes:
            self._apply(write)
        self._open = False
        return len(self._tables.log)

    def _check(self, write: LedgerWrite) -> None:
        """Check what the database's unique keys would refuse, before anything has changed."""
        state = write.state
        row = self._opened.get(state.tenant) or self._tables.tenants.get(state.tenant)
        if row is None or row.version + 1 != state.version:
            raise InvariantViolation(
                f"commit {state.version} does not follow in the ledger of {state.tenant!r}"
            )
        taken = self._tables.keys
        digests = {key.digest for key in write.keys}
        if len(digests) < len(write.keys) or any((row.tenant_id, key) in taken for key in digests):
            raise KeyTaken(f"a key of {state.tenant!r} is taken twice")
        first = len(self._tables.shapes.get(row.tenant_id, ()))
        if [number for number, _ in write.shapes] != list(range(first, len(state.shapes))):
            raise InvariantViolation(f"the shapes of {state.tenant!r} are not numbered gaplessly")

    def _apply(self, write: LedgerWrite) -> None:
        tables = self._tables
        state = write.state
        number = state.tenant_id
        tables.log.append((stream_of(number), state.version, write.body))
        tables.commits[number, state.version] = write.body
        tables.tenants[state.tenant] = TenantRow(
            number,
            state.tenant,
            state.currency,
            state.timezone,
            state.book,
            state.version,
            state.digest,
            len(state.shapes),
            state.pending,
            state.conflicts,
        )
        bodies = (body for _, body in write.shapes)
        tables.shapes[number] = (*tables.shapes.get(number, ()), *bodies)
        for key in write.keys:
            tables.keys[number, key.digest] = KeyRow(state.version, key.index, key.fingerprint)
        for period in state.touched:
            tables.balances[number, period] = _copy_balance(state.balances[period])
        for target, correction in state.corrections.items():
            tables.corrections[number, target] = _copy_correction(correction)
        ran = {key: state.running[key] for key in state.ran}
        for accumulator, quantity in {**state.accumulators, **ran}.items():
            session = accumulator.split("\t", 1)[0]
            tables.accumulators.setdefault((number, session), {})[accumulator] = quantity
        for target, usage in state.unpriced.items():
            if usage is None:
                tables.unpriced.pop((number, target), None)
            else:
                tables.unpriced[number, target] = usage
        tables.conflicts.update((number, state.version, index) for index in write.conflicts)
        guard = state.guard
        if guard is not None:
            tables.protection[number] = ProtectionRows.of(guard)
            for place in guard.touched_counters:
                tables.counters[number, place] = guard.counters[place].as_tuple()
            for digest in guard.touched_holds:
                tables.holds[number, digest] = hold_body(guard.holds[digest])


_K = TypeVar("_K")
_V = TypeVar("_V")


def _found(rows: Mapping[_K, _V], asked: Collection[_K]) -> dict[_K, _V]:
    return {key: rows[key] for key in asked if key in rows}


def _copy_balance(balance: Balance) -> Balance:
    copy = Balance(balance.period)
    copy.charge = balance.charge
    copy.costs = dict(balance.costs)
    copy.quantities = dict(balance.quantities)
    copy.events = balance.events
    copy.voided = balance.voided
    copy.unpriced = balance.unpriced
    return copy


def _copy_correction(correction: CorrectionState) -> CorrectionState:
    return replace(correction)


def _check_protocol(store: MemoryStore) -> LedgerStore:
    return store
