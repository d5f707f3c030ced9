"""The audit's view of PostgreSQL: one REPEATABLE READ, READ ONLY transaction.

Writers are neither waited for nor hindered; only VACUUM cannot clean up what the snapshot still
sees, so a view should not stay open longer than the audit takes. The log and other long ranges
come through server-side cursors in binary form, in pieces bounded by rows and by bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow
from psycopg.sql import SQL

from adapters.postgres import arrays, queries
from adapters.postgres.database import Database
from adapters.postgres.rows import balance_of, correction_of
from ledger.application.ports import (
    AskedKeys,
    AuditRows,
    AuditView,
    BillingRollupRow,
    ProtectionHead,
    RollupRow,
    StoredCommit,
    TenantRow,
)
from ledger.domain.commands import KeyRow
from ledger.domain.entries import COMMIT_TOPIC, STREAM_PREFIX, stream_of, tenant_of_stream
from ledger.domain.errors import InvalidInput
from ledger.domain.ledger import UnpricedUsage
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, to_scaled
from ledger.projections import billing_daily, usage_daily

PIECE_BYTES = 4_000_000
"""What a piece of the log aims at; commits hold from one to thousands of entries."""
PIECE_ROWS = 5_000
"""Most commits of a piece."""
_FIRST_ROWS = 100
_SETTINGS = (
    # Keys are looked up by index whatever the statistics of a young table say; and the log's
    # index gives its order, so that the first piece does not wait for a sort of everything.
    "SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_mergejoin = off",
    "SET LOCAL enable_sort = off",
    "SET LOCAL jit = off",
    "SET LOCAL statement_timeout = 0",
)
_GRANT_MEMBERS = ("id", "kind", "priority", "at", "expires_at", "expired", "filter")
_GRANT_AMOUNTS = ("amount", "held", "burned", "withdrawn", "lapsed")
_UNREADABLE = (InvalidInput, ArithmeticError, ValueError, TypeError, AttributeError)


@contextlib.contextmanager
def open_audit(database: Database) -> Iterator[AuditView]:
    """Open a snapshot for an audit.

    Raises:
        CannotConnect: the server does not answer or refuses.
    """
    with contextlib.closing(database.connect(purpose="audit")) as connection:
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        arrays.register(connection)
        with connection.transaction():
            for setting in _SETTINGS:
                connection.execute(SQL(setting))
            yield PostgresAudit(connection)


class PostgresAudit:
    """An `AuditView` over an open transaction.

    Args:
        connection: in a transaction that reads one snapshot; `arrays.register` was called on it.
    """

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection
        self._sql = queries.load("audit")
        self._strangers: list[str] = []
        self._counts: dict[int, int] | None = None

    def _all(self, query: str, /, **parameters: object) -> list[TupleRow]:
        return self._connection.execute(self._sql[query], parameters, binary=True).fetchall()

    def _stream(
        self, name: str, parameters: Mapping[str, object], size_of: Callable[[TupleRow], int]
    ) -> Iterator[list[TupleRow]]:
        """Yield a range in pieces that grow and shrink with the size of its rows."""
        rows = _FIRST_ROWS
        with self._connection.cursor(f"audit_{name}", binary=True) as cursor:
            cursor.execute(self._sql[name], parameters)
            while piece := cursor.fetchmany(rows):
                yield piece
                size = sum(map(size_of, piece)) // len(piece) + 1
                rows = max(1, min(PIECE_ROWS, 2 * rows, PIECE_BYTES // size))

    def head(self) -> int:
        """Return the log's last notification id."""
        return int(self._all("head")[0][0])

    def commits(
        self, *, tenant_id: int | None = None, after: int = 0
    ) -> Iterator[Sequence[StoredCommit]]:
        """Yield ledger commits in pieces; see `AuditView`."""
        if tenant_id is None:
            pieces = self._stream("log", {}, _log_row_bytes)
        else:
            asked = {"stream": stream_of(tenant_id), "after": after}
            pieces = self._stream("stream", asked, _log_row_bytes)
        numbers: dict[str, int] = {}
        for piece in pieces:
            commits = []
            for position, stream, version, topic, state in piece:
                if topic == COMMIT_TOPIC:
                    number = numbers.get(stream)
                    if number is None and (number := tenant_of_stream(stream)) is not None:
                        numbers[stream] = number
                    if number is not None:
                        commits.append(StoredCommit(position, number, version, state))
                        continue
                elif not stream.startswith(STREAM_PREFIX):
                    continue
                self._strangers.append(f"{stream} {version}, topic {topic}, at {position}")
            if commits:
                yield commits

    def shapes(self, tenant_id: int) -> Mapping[int, bytes]:
        """Return bodies of a tenant's shapes by number."""
        return {place: bytes(body) for _, place, body in self._all("shapes", tenants=[tenant_id])}

    def strangers(self) -> Sequence[str]:
        """Return what `commits` met that is half a commit."""
        return self._strangers

    def tenants(self) -> Sequence[TenantRow]:
        """Return all tenants, by number."""
        return [TenantRow(*row) for row in self._all("tenants")]

    def tenant_numbers(self) -> set[int]:
        """Return the numbers of all tenants that any state row names."""
        return {row[0] for row in self._all("tenant_numbers")} | self._key_counts().keys()

    def _key_counts(self) -> dict[int, int]:
        """Return counts of keys by tenant, counted in one pass once all are needed."""
        if self._counts is None:
            self._counts = dict(self._all("key_counts"))
        return self._counts

    def rows(self, tenants: Collection[int]) -> Mapping[int, AuditRows]:
        """Return what the state rows say of tenants."""
        found = {number: AuditRows() for number in tenants}
        asked = arrays.int4s(list(tenants))
        for number, place, body in self._all("shapes", tenants=asked):
            found[number].shapes[place] = body
        for row in self._all("balances", tenants=asked):
            try:
                found[row[0]].balances.append(balance_of(row[1:]))
            except _UNREADABLE:
                found[row[0]].unreadable.append((f"balances {row[1]}", _shown(row[2:])))
        for number, key, *places in self._all("corrections", tenants=asked):
            try:
                found[number].corrections[key.bytes] = correction_of(tuple(places))
            except (*_UNREADABLE, msgspec.MsgspecError):
                shown = "none" if places[6] is None else bytes(places[6]).hex()
                found[number].unreadable.append((f"corrections {key.hex} reversal", shown))
        for number, session, key, quantity in self._all("accumulators", tenants=asked):
            scaled = _scaled(quantity, QUANTITY_DECIMALS)
            if scaled is None:
                what = f"accumulators {session} {key}"
                found[number].unreadable.append((what, str(quantity)))
            else:
                found[number].accumulators[f"{session}\t{key}"] = scaled
        for number, key, *usage in self._all("unpriced", tenants=asked):
            found[number].unpriced[key.bytes] = UnpricedUsage(*usage)
        for number, version, index in self._all("conflicts", tenants=asked):
            found[number].conflicts.add((version, index))
        self._protection(found, asked)
        if self._counts is None and len(found) == 1:
            counts = dict(self._all("key_count", tenant=next(iter(found))))
        else:
            counts = self._key_counts()
        for number, rows in found.items():
            rows.keys = counts.get(number, 0)
        return found

    def _protection(self, found: Mapping[int, AuditRows], asked: object) -> None:
        """Add what the rows of cost protection say."""
        for number, expiry, capped, required, owed, entitlements in self._all(
            "protection", tenants=asked
        ):
            found[number].protection = ProtectionHead(
                expiry, capped, required, _scaled(owed, AMOUNT_DECIMALS), entitlements.encode()
            )
        for number, budget, ladder, terms in self._all("budgets", tenants=asked):
            found[number].budgets[budget] = (ladder, terms.encode())
        for number, budget, start, *values in self._all("budget_counters", tenants=asked):
            whole = [_scaled(Decimal(value), 0) for value in values]
            numbers = tuple(value for value in whole if value is not None)
            if len(numbers) < len(values):
                what = f"budget_counters {budget} {start}"
                found[number].unreadable.append((what, _shown(values)))
            else:
                found[number].counters[budget, start] = numbers
        for number, key, status, expires_at, body in self._all("holds", tenants=asked):
            found[number].holds[key.bytes] = (status, expires_at, bytes(body))
        for number, place, *values in self._all("grants", tenants=asked):
            grant: dict[str, object] = dict(zip(_GRANT_MEMBERS, values[:7], strict=True))
            grant["filter"] = values[6].encode()
            for name, value in zip(_GRANT_AMOUNTS, values[7:], strict=True):
                grant[name] = _scaled(value, AMOUNT_DECIMALS)
            found[number].grants[place] = grant

    def wrong_keys(self, asked: AskedKeys) -> Sequence[tuple[int, KeyRow | None]]:
        """Return which of the keys have no row, or one that says something else."""
        rows = self._all(
            "wrong_keys",
            tenants=arrays.int4s(asked.tenants),
            keys=arrays.uuids(asked.keys),
            versions=arrays.int8s(asked.versions),
            indexes=arrays.int4s(asked.indexes),
            fingerprints=arrays.uuids(asked.fingerprints),
        )
        return [
            (row[0] - 1, None if row[1] is None else KeyRow(row[1], row[2], row[3].bytes))
            for row in rows
        ]

    def key_rows(self, tenant_id: int) -> Iterator[Sequence[tuple[bytes, KeyRow]]]:
        """Yield all keys of a tenant, by commit, in pieces."""
        for piece in self._stream("key_rows", {"tenant": tenant_id}, _small_row_bytes):
            yield [
                (key.bytes, KeyRow(version, index, fingerprint.bytes))
                for key, version, index, fingerprint in piece
            ]

    def commits_at(self, tenant_id: int, versions: Collection[int]) -> Mapping[int, bytes]:
        """Return stored forms of a tenant's commits, by number."""
        return dict(
            self._all(
                "commits_at",
                stream=stream_of(tenant_id),
                versions=arrays.int8s(list(versions)),
                topic=COMMIT_TOPIC,
            )
        )

    def rollup_position(self) -> int:
        """Return the notification id up to which the daily rollups count."""
        return int(self._all("rollup_position", name=usage_daily.NAME)[0][0])

    def rollups(self, *, tenant_id: int | None = None) -> Iterator[Sequence[RollupRow]]:
        """Yield the daily rollups in pieces."""
        if tenant_id is None:
            pieces = self._stream("rollups", {}, _small_row_bytes)
        else:
            pieces = self._stream("rollups_of", {"tenant": tenant_id}, _small_row_bytes)
        for piece in pieces:
            yield [_rollup(row) for row in piece]

    def billing_position(self) -> int:
        """Return the notification id up to which the rollups of billing count."""
        return int(self._all("rollup_position", name=billing_daily.NAME)[0][0])

    def billing_rollups(
        self, *, tenant_id: int | None = None
    ) -> Iterator[Sequence[BillingRollupRow]]:
        """Yield the rollups of billing in pieces."""
        for piece in self._stream("billing_rollups", {"tenant": tenant_id}, _small_row_bytes):
            yield [BillingRollupRow(row[:5], tuple(map(_whole, row[5:]))) for row in piece]


def _log_row_bytes(row: TupleRow) -> int:
    return len(row[4])


def _small_row_bytes(_: TupleRow) -> int:
    return 400


def _rollup(row: TupleRow) -> RollupRow:
    try:
        numbers: tuple[int | None, ...] = tuple(map(int, row[8:]))
    except ValueError:
        numbers = tuple(map(_whole, row[8:]))
    return RollupRow(row[:8], numbers)


def _whole(number: str) -> int | None:
    try:
        return int(number)
    except ValueError:
        return None


def _scaled(value: Decimal, decimals: int) -> int | None:
    """Return a number as it is kept here; None for one that cannot be, such as NaN."""
    try:
        return to_scaled(value, decimals)
    except _UNREADABLE:
        return None


def _shown(row: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in row)
