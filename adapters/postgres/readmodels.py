"""Queries over state rows, rollups and the log.

Each query is one read-only transaction on one snapshot; a query that a lost connection breaks is
asked once more on a new one. Nothing here reads the whole log into memory: scans go through
server-side cursors, and the server leaves out commits that do not hold the bytes of the id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from typing import Self, TypeVar

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier, Placeholder

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.event_history import EventHistory
from adapters.postgres.rows import balance_of
from adapters.postgres.snapshots import Snapshots
from ledger.application.ports import TenantRow
from ledger.application.reads import GROUPINGS, Located, Reads, UsageRow
from ledger.domain.balance import Balance
from ledger.domain.entries import (
    Commit,
    ConflictKept,
    Entry,
    UsageAdjusted,
    UsageRecorded,
    UsageVoided,
    commit_digest,
    decode_commit,
    stream_of,
    tenant_of_stream,
)
from ledger.domain.errors import InvalidInput, NotFound
from ledger.domain.ledger import UnpricedUsage
from ledger.domain.money import EXACT, plain
from ledger.domain.periods import from_us, to_us
from ledger.domain.protection_entries import ChargeReversed, HoldCaptured
from ledger.domain.usage import key_digest

_FETCH_COMMITS = 20
_FETCH_GROUPS = 1000
_COLUMNS = {name: name for name in GROUPINGS} | {"user": "usage_user"}
_T = TypeVar("_T")


class PostgresReads:
    """Answers queries; thread-safe.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._engine = Snapshots(database, isolated=False)
        self._isolated = Snapshots(database, isolated=True)
        self._bound: str | None = None
        self._sql = queries.load("reads")
        self._history = EventHistory()

    def for_tenant(self, tenant: str) -> Self:
        """Return the same queries over one tenant's rows alone; cheap, shares connections.

        Every query of the view runs as a role that sees no other tenant's rows, so one of a
        foreign name answers ``unknown_tenant``, and one that names nobody is about this tenant.

        Args:
            tenant: its name; of one that does not exist the view shows nothing.
        """
        view = copy(self)
        view._bound = tenant
        return view

    # -- tenants and balances ---------------------------------------------------------

    def tenants(self, *, after: str | None = None, limit: int | None = None) -> Sequence[TenantRow]:
        """Return tenants by name."""
        asked = {"after": after, "limit": limit}
        return self._ask(
            lambda snapshot: [
                tenant_row(row) for row in snapshot.execute(self._sql["tenants"], asked)
            ]
        )

    def tenant(self, name: str) -> TenantRow:
        """Return a tenant."""
        return self._ask(lambda snapshot: self._tenant(snapshot, name))

    def balances(self, tenant: str) -> Sequence[Balance]:
        """Return a tenant's balances in order of their periods."""

        def ask(snapshot: Connection[TupleRow]) -> list[Balance]:
            tenant_id = self._tenant(snapshot, tenant).tenant_id
            rows = snapshot.execute(self._sql["balances"], {"tenant_id": tenant_id})
            return [balance_of(row) for row in rows]

        return self._ask(ask)

    def balances_of_many(
        self, tenants: Sequence[str]
    ) -> Mapping[str, tuple[TenantRow, Sequence[Balance]]]:
        """Return several tenants with their balances; those that do not exist are left out.

        One statement, in a transaction that can see these tenants and nobody else.
        """
        named = [one for one in tenants if self._bound in (None, one)]
        rows = self._isolated.ask_one(
            self._sql["balances_of_many"], {"tenants": named}, tenants=named
        )
        found: dict[str, tuple[TenantRow, list[Balance]]] = {}
        for row in rows:
            name = row[1]
            if name not in found:
                found[name] = (tenant_row(row[:10]), [])
            if row[10] is not None:
                found[name][1].append(balance_of(row[10:]))
        return found

    def shapes(self, tenant: str) -> Sequence[bytes]:
        """Return a tenant's shape bodies by number."""

        def ask(snapshot: Connection[TupleRow]) -> list[bytes]:
            tenant_id = self._tenant(snapshot, tenant).tenant_id
            rows = snapshot.execute(self._sql["shapes"], {"tenant_id": tenant_id}, binary=True)
            return [bytes(body) for (body,) in rows]

        return self._ask(ask)

    def unpriced(
        self, *, tenant: str | None = None, limit: int
    ) -> Sequence[tuple[str, UnpricedUsage]]:
        """Return tenants and their unpriced events, oldest first."""

        def ask(snapshot: Connection[TupleRow]) -> list[tuple[str, UnpricedUsage]]:
            tenant_id = None if tenant is None else self._tenant(snapshot, tenant).tenant_id
            rows = snapshot.execute(
                self._sql["unpriced"], {"tenant_id": tenant_id, "limit": limit}
            ).fetchall()
            return [
                (row[0], UnpricedUsage(row[1], row[2], row[3], row[4], to_us(row[5])))
                for row in rows
            ]

        return self._ask(ask)

    def now(self) -> datetime:
        """Return the database's time."""

        def ask(snapshot: Connection[TupleRow]) -> datetime:
            [(now,)] = snapshot.execute(self._sql["now"]).fetchall()
            return from_us(to_us(now))

        return self._ask(ask)

    # -- rollups ----------------------------------------------------------------------

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
        """Return grouped usage; groups in order, those that add up to nothing left out.

        Raises:
            NotFound: ``unknown_tenant``.
            InvalidInput: ``unknown_grouping``.
        """
        columns = _columns(by)
        later, asked = _later(by, after)

        def ask(snapshot: Connection[TupleRow]) -> list[UsageRow]:
            tenant_id = self._tenant(snapshot, tenant).tenant_id
            # On the server: there may be far more groups than are wanted.
            with snapshot.cursor(name="tallybook_usage") as rows:
                rows.itersize = _FETCH_GROUPS
                rows.execute(
                    self._sql["usage"].format(columns=columns, later=later),
                    {"tenant_id": tenant_id, "start": start, "end": end, **asked},
                )
                return _usage_rows(rows, len(by), limit)

        return self._ask(ask)

    def rollup_lag(self) -> int:
        """Return how many log positions the daily rollups are behind."""

        def ask(snapshot: Connection[TupleRow]) -> int:
            [(lag,)] = snapshot.execute(self._sql["lag"]).fetchall()
            return max(0, int(lag))

        return self._ask(ask)

    # -- entries ----------------------------------------------------------------------

    def locate(self, *, tenant: str, source: str, id: str) -> Located:
        """Return where the entry of an idempotency key is."""

        def ask(snapshot: Connection[TupleRow]) -> Located:
            row = self._tenant(snapshot, tenant)
            place = self._history.place_of_key(snapshot, row, key_digest(source, id))
            if place is None:
                raise _unknown_event(tenant, f"{id!r} of source {source!r}")
            return self._located(snapshot, row, [place])[0]

        return self._ask(ask)

    def place(self, *, tenant: str, version: int, index: int) -> Located:
        """Return an entry by its receipt."""

        def ask(snapshot: Connection[TupleRow]) -> Located:
            row = self._tenant(snapshot, tenant)
            for located in self._located(snapshot, row, [(version, index)]):
                if 0 <= index < len(located.commit.entries):
                    return located
            raise _unknown_event(tenant, f"{version}.{index}")

        return self._ask(ask)

    def find_id(self, id: str, *, tenant: str | None = None) -> Sequence[Located]:
        """Return the entries whose id or provider request id is ``id``, newest first."""

        def ask(snapshot: Connection[TupleRow]) -> list[Located]:
            rows = {}
            stream = None
            if tenant is not None:
                row = self._tenant(snapshot, tenant)
                rows[row.tenant_id] = row
                stream = stream_of(row.tenant_id)
            found: list[tuple[int, int, int, int, Commit, str]] = []
            for name, version, position, state in self._scan(snapshot, id, stream):
                tenant_id = tenant_of_stream(name)
                if tenant_id is None:
                    continue
                commit = decode_commit(state)
                digest = commit_digest(name, version, state).hex()
                for index, entry in reversed(list(enumerate(commit.entries))):
                    if _has_id(entry, id):
                        found.append((tenant_id, version, index, position, commit, digest))
            missing = [one[0] for one in found if one[0] not in rows]
            if missing:
                asked = snapshot.execute(self._sql["tenants_by_id"], {"ids": missing})
                rows.update((row.tenant_id, row) for row in map(tenant_row, asked))
            return [
                Located(rows[tenant_id], version, index, commit, digest, position)
                for tenant_id, version, index, position, commit, digest in found
            ]

        return self._ask(ask)

    def history(self, *, tenant: str, source: str, id: str) -> Sequence[Located]:
        """Return every entry about an event, in order.

        Raises:
            NotFound: ``unknown_tenant``; ``unknown_event`` if nothing in the ledger is about it.
        """

        def ask(snapshot: Connection[TupleRow]) -> list[Located]:
            row = self._tenant(snapshot, tenant)
            places = self._history.places_about(snapshot, row, source, id)
            if not places:
                raise _unknown_event(tenant, f"{id!r} of source {source!r}")
            return self._located(snapshot, row, sorted(places))

        return self._ask(ask)

    def histories(
        self, *, tenant: str, events: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], Sequence[Located]]:
        """Return what became of several events, in one snapshot; events without more left out."""

        def ask(snapshot: Connection[TupleRow]) -> dict[tuple[str, str], list[Located]]:
            row = self._tenant(snapshot, tenant)
            found = self._history.places_about_many(snapshot, row, events)
            every = sorted(set().union(*found.values()))
            located = {(one.version, one.index): one for one in self._located(snapshot, row, every)}
            return {
                event: [located[place] for place in sorted(places) if place in located]
                for event, places in found.items()
            }

        return self._ask(ask)

    def commits(
        self, *, tenant: str, before: int | None, limit: int
    ) -> Sequence[tuple[int, Commit]]:
        """Return a tenant's commits with their numbers, newest first, below ``before``."""

        def ask(snapshot: Connection[TupleRow]) -> list[tuple[int, Commit]]:
            row = self._tenant(snapshot, tenant)
            rows = snapshot.execute(
                self._sql["commits_before"],
                {"stream": stream_of(row.tenant_id), "before": before, "limit": limit},
                binary=True,
            )
            return [(version, decode_commit(bytes(state))) for version, state in rows]

        return self._ask(ask)

    # -- connections ------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections that are not in use, those of tenants' views too."""
        self._engine.close()
        self._isolated.close()

    def _ask(self, query: Callable[[Connection[TupleRow]], _T]) -> _T:
        if self._bound is None:
            return self._engine.ask(query)
        return self._isolated.ask(query, tenants=(self._bound,))

    # -- parts ------------------------------------------------------------------------

    def _tenant(self, snapshot: Connection[TupleRow], name: str) -> TenantRow:
        row = snapshot.execute(self._sql["tenant"], {"tenant": name}).fetchone()
        if row is None:
            raise NotFound(f"there is no tenant {name!r} in this ledger", code="unknown_tenant")
        return tenant_row(row)

    def _located(
        self, snapshot: Connection[TupleRow], tenant: TenantRow, places: list[tuple[int, int]]
    ) -> list[Located]:
        stream = stream_of(tenant.tenant_id)
        rows = snapshot.execute(
            self._sql["commits_at"],
            {"stream": stream, "versions": sorted({version for version, _ in places})},
            binary=True,
        )
        commits = {
            version: (
                decode_commit(bytes(state)),
                commit_digest(stream, version, bytes(state)).hex(),
                position,
            )
            for version, position, state in rows
        }
        return [
            Located(tenant, version, index, *commits[version])
            for version, index in places
            if version in commits
        ]

    def _scan(
        self, snapshot: Connection[TupleRow], id: str, stream: str | None
    ) -> Iterator[tuple[str, int, int, bytes]]:
        name = "find_in_log" if stream is None else "find_in_stream"
        with snapshot.cursor(name="tallybook_scan", binary=True) as cursor:
            cursor.itersize = _FETCH_COMMITS
            cursor.execute(self._sql[name], {"bytes": id.encode(), "stream": stream})
            for originator, version, position, state in cursor:
                yield originator, version, position, bytes(state)


def tenant_row(row: TupleRow) -> TenantRow:
    """Return the tenant of a row whose columns are in the order of `TenantRow`'s."""
    tenant_id, tenant, currency, timezone, book, version, digest, shapes, pending, conflicts = row
    return TenantRow(
        tenant_id=tenant_id,
        tenant=tenant,
        currency=currency,
        timezone=timezone,
        book=book,
        version=version,
        digest=bytes(digest),
        shapes=shapes,
        pending=pending,
        conflicts=conflicts,
    )


def _unknown_event(tenant: str, what: str) -> NotFound:
    return NotFound(f"tenant {tenant!r} has no entry {what}", code="unknown_event")


def _columns(by: Sequence[str]) -> Composed:
    for name in by:
        if name not in _COLUMNS or list(by).count(name) > 1:
            raise InvalidInput(
                f"usage cannot be grouped by {','.join(by)!r}; give some of"
                f" {', '.join(GROUPINGS)}, each once",
                code="unknown_grouping",
            )
    return Composed([SQL("{}, ").format(Identifier(_COLUMNS[name])) for name in by])


def _later(by: Sequence[str], after: Sequence[str] | None) -> tuple[Composed, dict[str, str]]:
    """Return the condition that a group comes after another, and its parameters."""
    if after is None or not by:
        return Composed([]), {}
    if len(after) != len(by):
        raise InvalidInput("a group has a value for each grouping", code="unknown_grouping")
    names = [f"after_{place}" for place in range(len(by))]
    values = [
        SQL("{}::date" if name == "day" else "{}").format(Placeholder(place))
        for name, place in zip(by, names, strict=True)
    ]
    condition = SQL("AND ({}) > ({})").format(
        SQL(", ").join(Identifier(_COLUMNS[name]) for name in by), SQL(", ").join(values)
    )
    return condition, dict(zip(names, after, strict=True))


def _usage_rows(rows: Iterable[TupleRow], width: int, limit: int | None) -> list[UsageRow]:
    """Put the rows of one group, which differ in their cost currency, together."""
    groups: dict[tuple[str, ...], list[TupleRow]] = {}
    for row in rows:
        group = tuple(
            value.isoformat() if isinstance(value, date) else str(value) for value in row[:width]
        )
        if len(groups) == limit and group not in groups:
            break
        groups.setdefault(group, []).append(row[width:])
    return [_usage_row(group, parts) for group, parts in groups.items()]


def _usage_row(group: tuple[str, ...], parts: list[TupleRow]) -> UsageRow:
    meters = {meter for part in parts for meter in part[5:7] if meter is not None}
    one_meter = len(meters) <= 1
    return UsageRow(
        group=group,
        quantity=_total(parts, 1) if one_meter else None,
        charge=_total(parts, 2),
        costs={part[0]: plain(part[3]) for part in parts if part[0]},
        unpriced=_total(parts, 4) if one_meter else None,
    )


def _total(parts: list[TupleRow], column: int) -> Decimal:
    return plain(reduce(EXACT.add, (part[column] for part in parts), Decimal(0)))


def _has_id(entry: Entry, id: str) -> bool:
    if isinstance(entry, UsageRecorded):
        return entry.id == id or (entry.extra is not None and entry.extra.request_id == id)
    if isinstance(entry, HoldCaptured):
        return entry.capture == id
    return (
        isinstance(entry, UsageVoided | UsageAdjusted | ConflictKept | ChargeReversed)
        and entry.id == id
    )


def _check_protocol(reads: PostgresReads) -> Reads:
    return reads
