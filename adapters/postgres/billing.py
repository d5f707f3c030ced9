"""Billing in PostgreSQL: accounts in the log, rows beside them in the same commit.

A save holds the ledger's writer lock from its check of versions to its commit, so two of them never
both believe in one version, and the log stays in commit order. Numbers are counted in a row that
is locked before that and until the commit: whoever fails gives them back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, date, datetime
from typing import Any, Self

import psycopg
from eventsourcing.persistence import StoredEvent
from psycopg import Connection, Cursor, IsolationLevel
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composed, Identifier

from adapters.postgres import arrays, queries
from adapters.postgres.database import Database
from adapters.postgres.projections import lost_connections
from adapters.postgres.recorder import WRITER_LOCK
from adapters.postgres.snapshots import Snapshots
from ledger.application.billing_ports import (
    AccountChanged,
    AccountSave,
    BillingStore,
    InvoiceFilter,
    InvoiceRow,
    UsageQuestion,
    UsageSnapshot,
)
from ledger.application.verify_billing import BillingAudit, RollupDrift
from ledger.domain.billing_account import (
    TOPIC,
    AccountCommit,
    BillingAccount,
    billing_stream,
    decode_account,
    decode_account_commit,
    encode_account,
    encode_account_commit,
)
from ledger.domain.billing_drafts import Cut, Place
from ledger.domain.billing_rating import UsageRow
from ledger.domain.errors import InvariantViolation, NotFound
from ledger.domain.invoices import InvoiceStatus
from ledger.projections import billing_daily

_COLUMNS = (
    *("tenant_id", "id", "kind", "status", "series", "number", "first_day", "after_day"),
    *("since_day", "cites", "document"),
)


class PostgresBilling:
    """Stores billing; thread-safe, a connection for each call that is under way.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = dict(queries.load("billing"))
        columns = SQL(", ").join(SQL("i.{}").format(Identifier(name)) for name in _COLUMNS)
        self._listing = {
            name: self._sql[name].format(columns=columns + SQL(", t.tenant"))
            for name in ("invoice", "invoices", "invoices_at", "covering")
        }
        self._idle: list[Connection[TupleRow]] = []
        self._isolated = Snapshots(database, isolated=True)
        self._bound: str | None = None

    def for_tenant(self, tenant: str) -> Self:
        """Return a view of one tenant's rows alone; shares connections."""
        view = copy(self)
        view._bound = tenant
        return view

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._isolated.close()
        while self._idle:
            with contextlib.suppress(psycopg.Error):
                self._idle.pop().close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[Connection[TupleRow]]:
        try:
            # One thread's at a time: taking from a list is one step.
            connection = self._idle.pop()
        except IndexError:
            connection = self._database.connect(purpose="billing")
            arrays.register(connection)
        try:
            with lost_connections():
                yield connection
        except BaseException:
            connection.close()
            raise
        if connection.closed or len(self._idle) >= 2:
            connection.close()
        else:
            self._idle.append(connection)

    def _rows(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[TupleRow]:
        return self._ask(self._sql[name], parameters or {})

    def _ask(self, query: SQL | Composed, parameters: Mapping[str, Any]) -> list[TupleRow]:
        if self._bound is not None:
            return self._isolated.ask(
                lambda one: one.execute(query, parameters, binary=True).fetchall(),
                tenants=[self._bound],
            )
        with self._use() as connection:
            return connection.execute(query, parameters, binary=True).fetchall()

    def now(self) -> datetime:
        """Return the database's time."""
        now: datetime = self._rows("now")[0][0]
        return now.astimezone(UTC)

    def place(self, tenant: str) -> Place:
        """Return a tenant."""
        rows = self._rows("place", {"tenant": tenant})
        if not rows:
            raise NotFound(f"there is no tenant {tenant[:64]!r}", code="unknown_tenant")
        return Place(*rows[0])

    def places(self, *, after: int, limit: int) -> Sequence[Place]:
        """Return tenants by number."""
        return [Place(*row) for row in self._rows("places", {"after": after, "limit": limit})]

    def accounts(self, tenants: Collection[int]) -> Mapping[int, BillingAccount]:
        """Return accounts."""
        found = {one: BillingAccount() for one in tenants}
        for tenant_id, state in self._rows("accounts", {"tenants": list(tenants)}):
            found[tenant_id] = decode_account(bytes(state))
        return found

    def history(self, tenant_id: int) -> Iterator[AccountCommit]:
        """Yield the commits of an account."""
        for (state,) in self._rows("history", {"stream": billing_stream(tenant_id)}):
            yield decode_account_commit(bytes(state))

    def save(self, saves: Sequence[AccountSave]) -> None:
        """Append commits and write rows; see `BillingStore`."""
        with self._use() as connection, connection.transaction(), connection.cursor() as cursor:
            self._write(cursor, saves)

    def save_numbered(
        self,
        wanted: Mapping[str, int],
        make: Callable[[Mapping[str, int]], Sequence[AccountSave]],
    ) -> None:
        """Save what needs numbers; see `BillingStore`."""
        with self._use() as connection, connection.transaction(), connection.cursor() as cursor:
            firsts = {}
            # In one order everywhere, so two of these never wait for each other.
            for series, count in sorted(wanted.items()):
                cursor.execute(self._sql["take_numbers"], {"series": series, "count": count})
                [(last,)] = cursor.fetchall()
                firsts[series] = last - count + 1
            self._write(cursor, make(firsts))

    def _write(self, cursor: Cursor[TupleRow], saves: Sequence[AccountSave]) -> None:
        if self._bound is not None:
            raise InvariantViolation(f"the view of {self._bound} saves nothing")
        if not saves:
            return
        sql = self._sql
        tenants = [one.tenant_id for one in saves]
        cursor.execute(sql["lock_writer"], {"lock": WRITER_LOCK})
        cursor.execute(sql["versions"], {"tenants": tenants})
        versions: dict[int, int] = dict(cursor.fetchall())
        for one in saves:
            if versions.get(one.tenant_id, 0) != one.account.version - 1:
                raise AccountChanged(f"account {one.tenant_id} changed meanwhile")
        self._database.recorder.append(
            cursor,
            [
                StoredEvent(
                    billing_stream(one.tenant_id),
                    one.account.version,
                    TOPIC,
                    encode_account_commit(one.commit),
                )
                for one in saves
            ],
        )
        cursor.execute(
            sql["put_accounts"],
            {
                "tenants": tenants,
                "versions": [one.account.version for one in saves],
                "states": [encode_account(one.account) for one in saves],
            },
        )
        dropped = [{"tenant": one.tenant_id, "id": id} for one in saves for id in one.dropped]
        if dropped:
            cursor.executemany(sql["drop_invoice"], dropped)
        put = [_parameters(row) for one in saves for row in one.put]
        if put:
            cursor.executemany(sql["put_invoice"], put)

    def rollup_drift(self, *, tenant_id: int | None) -> Sequence[RollupDrift]:
        """Return where the billing rollups do not sum to the daily ones; see `BillingAudit`."""
        return [RollupDrift(*row) for row in self._rows("rollup_drift", {"tenant": tenant_id})]

    def last_numbers(self) -> Mapping[str, int]:
        """Return the last number of each series."""
        return dict(self._rows("last_numbers"))

    def numbers(self, series: str) -> Sequence[str]:
        """Return the numbers of a series."""
        return [number for (number,) in self._rows("numbers", {"series": series})]

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[UsageSnapshot]:
        """Open the billing rollups as they are now."""
        with self._use() as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            try:
                with connection.transaction():
                    if self._bound is not None:
                        connection.execute(
                            queries.load("isolation")["become_tenant"], {"tenants": [self._bound]}
                        )
                    yield _Snapshot(connection, self._sql)
            finally:
                if not connection.closed:
                    connection.isolation_level = None
                    connection.read_only = None

    def invoice(self, tenant_id: int, id: str) -> InvoiceRow | None:
        """Return an invoice or credit note."""
        rows = self._list("invoice", {"tenant": tenant_id, "id": id})
        return rows[0] if rows else None

    def invoices_at(
        self, places: Collection[tuple[int, str]]
    ) -> Mapping[tuple[int, str], InvoiceRow]:
        """Return those invoices that exist."""
        asked = {"tenants": [one for one, _ in places], "ids": [id for _, id in places]}
        return {(row.tenant_id, row.id): row for row in self._list("invoices_at", asked)}

    def invoices(self, asked: InvoiceFilter) -> Sequence[InvoiceRow]:
        """Return invoices by tenant number and id."""
        after_tenant, after_id = asked.after or (0, "")
        return self._list(
            "invoices",
            {
                "tenant": asked.tenant_id,
                "status": None if asked.status is None else asked.status.value,
                "kind": asked.kind,
                "cites": asked.cites,
                "after_tenant": after_tenant,
                "after_id": after_id,
                "limit": asked.limit,
            },
        )

    def covering(self, tenant_id: int, *, first_day: date, after_day: date) -> Sequence[InvoiceRow]:
        """Return invoices whose lines may be for days of a range."""
        return self._list(
            "covering", {"tenant": tenant_id, "first_day": first_day, "after_day": after_day}
        )

    def _list(self, name: str, parameters: Mapping[str, Any]) -> list[InvoiceRow]:
        return [_invoice_row(row) for row in self._ask(self._listing[name], parameters)]


class _Snapshot:
    """Rollups within one transaction."""

    def __init__(self, connection: Connection[TupleRow], sql: Mapping[str, SQL]) -> None:
        self._connection = connection
        self._sql = sql

    def _rows(self, name: str, parameters: Mapping[str, Any]) -> list[TupleRow]:
        return self._connection.execute(self._sql[name], parameters, binary=True).fetchall()

    def cuts(self, tenants: Collection[int]) -> Mapping[int, Cut]:
        """Return up to where the rollups count each ledger."""
        asked = {"tenants": list(tenants), "projection": billing_daily.NAME}
        return {
            tenant_id: Cut(position, version or 0, b"" if chain is None else bytes(chain))
            for tenant_id, position, version, chain in self._rows("cuts", asked)
        }

    def first_days(self, tenants: Collection[int]) -> Mapping[int, date]:
        """Return the earliest day with usage."""
        return dict(self._rows("first_days", {"tenants": list(tenants)}))

    def rows(self, asked: Sequence[UsageQuestion]) -> Sequence[Sequence[UsageRow]]:
        """Return rows by question."""
        found: list[list[UsageRow]] = [[] for _ in asked]
        if asked:
            columns = map(list, zip(*asked, strict=True))
            parameters = dict(zip(("tenants", "firsts", "afters", "daily"), columns, strict=True))
            for row in self._rows("rows", parameters):
                found[row[0] - 1].append(UsageRow(*row[1:]))
        return found

    def changed(self, asked: Sequence[tuple[int, date, int]]) -> Mapping[int, Sequence[date]]:
        """Return changed days."""
        found: dict[int, list[date]] = {}
        if asked:
            tenants, ends, positions = map(list, zip(*asked, strict=True))
            parameters = {"tenants": tenants, "ends": ends, "positions": positions}
            for tenant_id, day in self._rows("changed", parameters):
                found.setdefault(tenant_id, []).append(day)
        return found


def _parameters(row: InvoiceRow) -> dict[str, Any]:
    return {
        "tenant": row.tenant_id,
        "id": row.id,
        "kind": row.kind,
        "status": row.status.value,
        "series": row.series,
        "number": row.number,
        "first_day": row.first_day,
        "after_day": row.after_day,
        "since_day": row.since_day,
        "cites": row.cites,
        "document": row.document,
    }


def _invoice_row(row: TupleRow) -> InvoiceRow:
    members = dict(zip((*_COLUMNS, "tenant"), row, strict=True))
    members["status"] = InvoiceStatus(members["status"])
    members["document"] = bytes(members["document"])
    return InvoiceRow(**members)


def _check_protocols(store: PostgresBilling) -> tuple[BillingStore, BillingAudit]:
    return store, store
