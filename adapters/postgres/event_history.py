"""Where the entries about an event are: what corrected it, and what contradicts it."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from ledger.application.ports import TenantRow
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    Entry,
    UsageAdjusted,
    UsageRerated,
    UsageVoided,
    decode_commit,
    stream_of,
)
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.usage import key_digest

Place = tuple[int, int]
"""Commit and place of an entry in it."""
Event = tuple[str, str]
"""Source and id of a usage event."""


class EventHistory:
    """Finds entries in a snapshot, which its callers open; stateless."""

    def __init__(self) -> None:
        self._sql = queries.load("reads")

    def place_of_key(
        self, snapshot: Connection[TupleRow], tenant: TenantRow, key: bytes
    ) -> Place | None:
        """Return where the entry of an idempotency key is.

        Args:
            snapshot: to read.
            tenant: whose.
            key: its digest.
        """
        row = snapshot.execute(
            self._sql["key"], {"tenant_id": tenant.tenant_id, "key": UUID(bytes=key)}
        ).fetchone()
        return (row[0], row[1]) if row else None

    def places_about(
        self, snapshot: Connection[TupleRow], tenant: TenantRow, source: str, id: str
    ) -> set[Place]:
        """Return the places of the entries about an event."""
        key = key_digest(source, id)
        own = self.place_of_key(snapshot, tenant, key)
        row = snapshot.execute(
            self._sql["correction"], {"tenant_id": tenant.tenant_id, "key": UUID(bytes=key)}
        ).fetchone()
        event = (source, id)
        places = set() if own is None else {own}
        if row is not None:
            places |= self._corrections(snapshot, tenant, event, own, row)
        return places | self._conflicts(snapshot, tenant, {event}).get(event, set())

    def places_about_many(
        self, snapshot: Connection[TupleRow], tenant: TenantRow, events: Sequence[Event]
    ) -> dict[Event, set[Place]]:
        """Return the places of the entries about several events, those of their own left out."""
        keys = {UUID(bytes=key_digest(*event)): event for event in events}
        asked = {"tenant_id": tenant.tenant_id, "keys": list(keys)}
        found: dict[Event, set[Place]] = {}
        for key, *row in snapshot.execute(self._sql["corrections_of"], asked).fetchall():
            own = self.place_of_key(snapshot, tenant, key.bytes)
            found[keys[key]] = self._corrections(snapshot, tenant, keys[key], own, row) - {own}
        for event, places in self._conflicts(snapshot, tenant, set(events)).items():
            found.setdefault(event, set()).update(places)
        return found

    def _corrections(
        self,
        snapshot: Connection[TupleRow],
        tenant: TenantRow,
        event: Event,
        own: Place | None,
        row: Sequence[Any],
    ) -> set[Place]:
        """Return the places of an event and of the entries that change it.

        Its corrections row names the void, the adjustment and the last change. Re-ratings in
        between lie between the event's own commit and the last change's; reversals of its charge
        anywhere after it.
        """
        places = set() if own is None else {own}
        places.update((row[at], row[at + 1]) for at in (0, 2, 4) if row[at] is not None)
        if not places:
            return places
        versions = [version for version, _ in places]
        about = {
            "stream": stream_of(tenant.tenant_id),
            "bytes": event[1].encode(),
            "first": min(versions),
            "last": tenant.version if row[6] else max(versions),
        }
        scan = snapshot.execute(self._sql["commits_between"], about, binary=True)
        for version, _, state in scan:
            for index, entry in enumerate(decode_commit(bytes(state)).entries):
                if _event_of(entry) == event:
                    places.add((version, index))
        return places

    def _conflicts(
        self, snapshot: Connection[TupleRow], tenant: TenantRow, events: Set[Event]
    ) -> dict[Event, set[Place]]:
        """Return the places of the conflicts of some events; reads every commit with conflicts."""
        found: dict[Event, set[Place]] = {}
        if not tenant.conflicts:
            return found
        asked = {
            "tenant_id": tenant.tenant_id,
            "stream": stream_of(tenant.tenant_id),
            "bytes": next(iter(events))[1].encode() if len(events) == 1 else None,
        }
        scan = snapshot.execute(self._sql["conflict_commits"], asked, binary=True)
        for version, _, state in scan:
            for index, entry in enumerate(decode_commit(bytes(state)).entries):
                if isinstance(entry, ConflictKept) and (entry.source, entry.id) in events:
                    found.setdefault((entry.source, entry.id), set()).add((version, index))
        return found


_ABOUT_USAGE = UsageVoided | UsageAdjusted | UsageRerated | CorrectionApplied | ChargeReversed


def _event_of(entry: Entry) -> tuple[str, str] | None:
    """Return source and id of the event that an entry changes or contradicts."""
    if isinstance(entry, _ABOUT_USAGE):
        return entry.target_source, entry.target_id
    return (entry.source, entry.id) if isinstance(entry, ConflictKept) else None
