"""The log folded from nothing, and the state rows that must say the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from adapters.memory import MemoryStore
from ledger.application.ports import StoredCommit, TenantRow
from ledger.application.recorded import taken_key
from ledger.domain.balance import Balance
from ledger.domain.commands import KeyRow
from ledger.domain.entries import (
    ConflictKept,
    Entry,
    UsageRecorded,
    commit_digest,
    decode_commit,
    stream_of,
)
from ledger.domain.ledger import CorrectionState, LedgerState, Ref, UnpricedUsage, evolve
from ledger.domain.usage import key_digest


@dataclass
class Rows:
    """All state rows of one tenant."""

    tenant: TenantRow
    shapes: list[bytes] = field(default_factory=list)
    balances: list[Balance] = field(default_factory=list)
    corrections: dict[bytes, CorrectionState] = field(default_factory=dict)
    accumulators: dict[str, int] = field(default_factory=dict)
    unpriced: dict[bytes, UnpricedUsage] = field(default_factory=dict)
    conflicts: list[Ref] = field(default_factory=list)
    keys: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return everything that must be equal, in a form that shows what is not."""
        return {
            "tenant": self.tenant,
            "shapes": self.shapes,
            "balances": sorted((one.as_tuple() for one in self.balances), key=str),
            "corrections": self.corrections,
            "accumulators": {key: n for key, n in self.accumulators.items() if n},
            "unpriced": self.unpriced,
            "conflicts": self.conflicts,
            "keys": self.keys,
        }


def memory_rows(store: MemoryStore) -> dict[str, Rows]:
    """Return the rows of an in-memory store, by tenant."""
    return {
        row.tenant: Rows(
            row,
            store.shapes(row.tenant),
            store.balances(row.tenant),
            store.corrections(row.tenant),
            store.accumulators(row.tenant),
            store.unpriced(row.tenant),
            store.conflicts(row.tenant),
            _places(store.keys(row.tenant)),
        )
        for row in store.tenants()
    }


def _places(keys: dict[bytes, KeyRow]) -> dict[bytes, tuple[int, int]]:
    return {key: (row.version, row.index) for key, row in keys.items()}


def fold(commits: Iterable[StoredCommit]) -> dict[str, Rows]:
    """Return the rows that a log implies, checking numbers and digests on the way."""
    states: dict[int, LedgerState] = {}
    rows: dict[int, Rows] = {}
    position = 0
    for stored in commits:
        assert stored.position > position
        position = stored.position
        state = states.setdefault(stored.tenant_id, LedgerState(stored.tenant_id, ""))
        commit = decode_commit(stored.state)
        assert stored.version == state.version + 1
        assert commit.before == state.digest
        kept = rows.setdefault(stored.tenant_id, Rows(_tenant_row(state)))
        for index, entry in enumerate(commit.entries):
            ref = (stored.version, index)
            evolve(state, entry, ref)
            key = _key(state, entry)
            if key is not None:
                assert key not in kept.keys
                kept.keys[key] = ref
            if isinstance(entry, ConflictKept):
                kept.conflicts.append(ref)
        state.version = stored.version
        state.digest = commit_digest(stream_of(stored.tenant_id), stored.version, stored.state)
    for tenant_id, state in states.items():
        kept = rows[tenant_id]
        kept.tenant = _tenant_row(state)
        kept.shapes = [shape.body for shape in state.shapes]
        kept.balances = list(state.balances.values())
        kept.corrections = state.corrections
        kept.accumulators = state.accumulators
        kept.unpriced = {key: one for key, one in state.unpriced.items() if one is not None}
    return {kept.tenant.tenant: kept for kept in rows.values()}


def _tenant_row(state: LedgerState) -> TenantRow:
    return TenantRow(
        state.tenant_id,
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


def _key(state: LedgerState, entry: Entry) -> bytes | None:
    if isinstance(entry, UsageRecorded):
        return key_digest(state.shapes[entry.shape].shape.source, entry.id)
    return taken_key(entry)


def assert_replay_is_state(commits: Iterable[StoredCommit], rows: dict[str, Rows]) -> None:
    """Assert that folding the log gives exactly the state rows."""
    folded = fold(commits)
    assert {name: one.plain() for name, one in folded.items()} == {
        name: one.plain() for name, one in rows.items()
    }
