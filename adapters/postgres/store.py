"""The write path's store on PostgreSQL: one connection, one transaction a batch, pipelined.

Opening a batch is one round trip: begin, take the writer lock, read the clock, what others
wrote, and the keys asked for. Writing is one more, the commit included. In between there are
round trips only for what the caller's caches do not have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence

import psycopg
from eventsourcing import persistence
from psycopg import Connection
from psycopg.rows import tuple_row
from psycopg.sql import Composable

from adapters.postgres import arrays, ledger_rows, protection_rows, queries, rare_rows
from adapters.postgres.exchange import Answer, Exchange, Parameters
from adapters.postgres.news import NewsDesk
from adapters.postgres.recorder import WRITER_LOCK, LedgerRecorder
from adapters.postgres.rows import (
    Row,
    balance_of,
    correction_of,
    key_rows,
    ledger_state,
    one,
)
from ledger.application.ports import (
    Batch,
    ConnectionLost,
    KeyTaken,
    LedgerStore,
    LedgerWrite,
    Opening,
    TenantKey,
)
from ledger.domain.balance import Balance
from ledger.domain.budgets import Counter
from ledger.domain.commands import KeyRow
from ledger.domain.entries import (
    COMMIT_TOPIC,
    Commit,
    decode_commit,
    stream_of,
    tenant_of_stream,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.holds import HoldState
from ledger.domain.ledger import CorrectionState, LedgerState
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import to_scaled
from ledger.domain.plan_rates import RUNNING
from ledger.domain.protection import CounterKey
from ledger.domain.shapes import shape_from_body

CHANGES_LIMIT = 5_000
"""Commits of others that are told one by one; beyond, the caller drops its caches."""
SESSION_SETTINGS = (
    # Every statement here is a look-up by key over small arrays; plans by hash or scan are
    # never right, whatever the statistics of a young table say.
    "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off;"
    "SET jit = off; SET plan_cache_mode = force_generic_plan;"
    "SET synchronous_commit = on; SET idle_in_transaction_session_timeout = '5min'"
)
_KEYS_CONSTRAINT = "usage_keys_pkey"
_PASSING = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.ConnectionException,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InsufficientResources,
    psycopg.errors.LockNotAvailable,
)
"""Errors after which the same batch may be run again."""


class PostgresStore:
    """The ledger's log and state rows in PostgreSQL.

    Args:
        conninfo: libpq connection string or URL.
        recorder: of the same database; knows how the log is written.
        schema: where the tables are.
    """

    def __init__(self, conninfo: str, recorder: LedgerRecorder, *, schema: str) -> None:
        self._conninfo = conninfo
        self._schema = schema
        self._connection: Connection[Row] | None = None
        self._exchange: Exchange | None = None
        self._desk = NewsDesk()
        self._statements: dict[str, Composable] = {
            **queries.load("store"),
            "append": recorder.insert_columns_statement,
            "notify": recorder.notify_statement,
        }

    def _connect(self) -> tuple[Connection[Row], Exchange]:
        connection, exchange = self._connection, self._exchange
        if connection is None or exchange is None or connection.closed:
            connection = Connection.connect(
                self._conninfo,
                autocommit=True,
                options=f"-c search_path={self._schema}",
                application_name="tallybook writer",
                row_factory=tuple_row,
                prepare_threshold=0,
            )
            connection.execute(SESSION_SETTINGS, prepare=False)
            arrays.register(connection)
            exchange = Exchange(connection, self._statements)
            self._connection, self._exchange = connection, exchange
        return connection, exchange

    @contextlib.contextmanager
    def batch(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey] = ()
    ) -> Iterator[Batch]:
        """Open a batch; see `LedgerStore`."""
        try:
            batch = _PostgresBatch(*self._connect(), self._desk)
            batch.begin(since=since, keys=keys, holds=holds)
            yield batch
            batch.end()
        except (persistence.OperationalError, persistence.InterfaceError) as error:
            # Prices are read through the library, which has errors of its own.
            self.close()
            raise ConnectionLost(f"the database connection was lost: {error}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            lost = self._connection is None or self._connection.closed
            self.close()
            if not lost and not isinstance(error, _PASSING):
                raise
            raise ConnectionLost(f"the database connection was lost: {error}") from error
        except psycopg.errors.UniqueViolation as error:
            self.close()
            if error.diag.constraint_name == _KEYS_CONSTRAINT:
                raise KeyTaken(f"a key is taken already: {error.diag.message_detail}") from error
            raise
        except BaseException:
            # Whatever state the connection is in, the next batch gets a fresh one.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next batch opens a new one."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


class _PostgresBatch:
    """One transaction; made by `PostgresStore.batch`."""

    opening: Opening

    def __init__(self, connection: Connection[Row], exchange: Exchange, desk: NewsDesk) -> None:
        self._connection = connection
        self._exchange = exchange
        self._desk = desk
        self._sql = queries.load("store")
        self._open = False
        self._last_tenant: int | None = None
        self._opened: list[LedgerState] = []

    def begin(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey]
    ) -> None:
        """Begin, lock, and read what the opening tells, in one round trip."""
        exchange = self._exchange
        exchange.ask("begin")
        # The lock is a statement of its own: what is read after it sees what its last holder wrote.
        exchange.ask("lock_writer", {"lock": arrays.int8(WRITER_LOCK)})
        clock = exchange.ask("read_clock")
        limit = arrays.int8(CHANGES_LIMIT + 1)
        changes = exchange.ask("changes", {"since": arrays.int8(since), "limit": limit})
        taken = exchange.ask("keys", _places(keys)) if keys else None
        known = exchange.ask("holds", _places(holds)) if holds else None
        exchange.run()
        self._open = True
        [(now, head)] = clock.rows
        streams = [stream for (stream,) in changes.rows]
        self.opening = Opening(
            now=now,
            head=head or 0,
            changed=list(dict.fromkeys(streams)) if len(streams) <= CHANGES_LIMIT else None,
            keys={} if taken is None else key_rows(taken.rows),
            holds={} if known is None else protection_rows.holds_of(known),
        )

    def end(self) -> None:
        """Roll back what was not committed."""
        if self._open:
            self._open = False
            # Not through psycopg, which upon a rollback drops every prepared statement.
            self._exchange.ask("rollback")
            self._exchange.run()

    def _answer(self, name: str, parameters: Parameters) -> Answer:
        answer = self._exchange.ask(name, parameters)
        self._exchange.run()
        return answer

    def keys(self, keys: Collection[TenantKey]) -> dict[TenantKey, KeyRow]:
        """Return those keys that are taken."""
        return key_rows(self._answer("keys", _places(keys)).rows)

    def tenants(self, names: Collection[str]) -> list[LedgerState]:
        """Return those ledgers that exist."""
        rows = self._connection.execute(
            self._sql["tenants"], {"names": arrays.texts(list(names))}, binary=True
        ).fetchall()
        states = {row[0]: ledger_state(row) for row in rows}
        guards = {}
        for row in rows:
            if row[9] is not None:
                guards[row[0]] = protection_rows.head_of(row[3], row[9:])
                states[row[0]].guard = guards[row[0]]
        protection_rows.load_parts(self._connection, self._sql, guards)
        if states:
            shapes = self._connection.execute(
                self._sql["shapes"], {"tenants": arrays.int4s(list(states))}, binary=True
            )
            for tenant_id, body in shapes.fetchall():
                state = states[tenant_id]
                shape = shape_from_body(bytes(body))
                state.numbers[shape.body] = len(state.shapes)
                state.shapes.append(shape)
        return list(states.values())

    def open_tenant(self, name: str, *, currency: str, timezone: str, book: str) -> LedgerState:
        """Return a new ledger; its row is written with its first commit."""
        if self._last_tenant is None:
            self._last_tenant = int(one(self._connection.execute(self._sql["last_tenant"]))[0])
        self._last_tenant += 1
        state = LedgerState(
            self._last_tenant, name, currency=currency, timezone=timezone, book=book
        )
        self._opened.append(state)
        return state

    def balances(self, periods: Collection[tuple[int, str]]) -> dict[tuple[int, str], Balance]:
        """Return those balances that exist."""
        rows = self._connection.execute(
            self._sql["balances"],
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in periods]),
                "periods": arrays.texts([period for _, period in periods]),
            },
            binary=True,
        )
        return {(row[0], row[1]): balance_of(row[1:]) for row in rows.fetchall()}

    def corrections(self, targets: Collection[TenantKey]) -> dict[TenantKey, CorrectionState]:
        """Return what is known of corrected events."""
        rows = self._answer("corrections", _places(targets)).rows
        return {(row[0], row[1]): correction_of(row[2:]) for row in rows}

    def accumulators(
        self, sessions: Collection[tuple[int, str]]
    ) -> dict[tuple[int, str], dict[str, int]]:
        """Return running quantities of sessions."""
        rows = self._connection.execute(
            self._sql["accumulators"],
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in sessions]),
                "sessions": arrays.texts([session for _, session in sessions]),
            },
            binary=True,
        )
        found: dict[tuple[int, str], dict[str, int]] = {}
        for tenant_id, session, key, quantity in rows.fetchall():
            running = found.setdefault((tenant_id, session), {})
            running[f"{session}\t{key}"] = to_scaled(quantity, QUANTITY_DECIMALS)
        return found

    def running(self, keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], int]:
        """Return running quantities of plans."""
        rows = self._connection.execute(
            self._sql["running"],
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in keys]),
                "keys": arrays.texts([key.removeprefix(RUNNING) for _, key in keys]),
            },
            binary=True,
        )
        return {
            (tenant_id, RUNNING + key): to_scaled(quantity, QUANTITY_DECIMALS)
            for tenant_id, key, quantity in rows.fetchall()
        }

    def commits(self, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], Commit]:
        """Return commits by place."""
        streams = [stream_of(tenant_id) for tenant_id, _ in places]
        versions = arrays.int8s([version for _, version in places])
        answer = self._answer("commits", {"streams": arrays.texts(streams), "versions": versions})
        found = {}
        for stream, version, state in answer.rows:
            tenant_id = tenant_of_stream(stream)
            if tenant_id is None:
                raise InvariantViolation(f"{stream} is no tenant's ledger")
            found[tenant_id, version] = decode_commit(state)
        return found

    def counters(
        self, keys: Collection[tuple[int, CounterKey]]
    ) -> dict[tuple[int, CounterKey], Counter]:
        """Return those counters that exist."""
        return protection_rows.load_counters(self._connection, self._sql, keys)

    def holds(self, keys: Collection[TenantKey]) -> dict[TenantKey, HoldState]:
        """Return those holds that are known."""
        return protection_rows.holds_of(self._answer("holds", _places(keys)))

    def due_holds(self, tenants: Collection[int]) -> list[tuple[int, HoldState]]:
        """Return the open holds whose time is over."""
        now = self.opening.now
        return protection_rows.load_due(self._connection, self._sql, tenants, now)

    def next_expiries(self, tenants: Collection[int]) -> dict[int, int]:
        """Return the earliest expiry after now of open holds."""
        now = self.opening.now
        return protection_rows.load_next_expiries(self._connection, self._sql, tenants, now)

    def write(self, writes: Sequence[LedgerWrite]) -> int:
        """Append, change rows, commit; return the new head."""
        exchange = self._exchange
        exchange.ask("notify")
        log = exchange.ask(
            "append",
            {
                "streams": arrays.texts([stream_of(write.state.tenant_id) for write in writes]),
                "versions": arrays.int8s([write.state.version for write in writes]),
                "topics": arrays.texts([COMMIT_TOPIC] * len(writes)),
                "states": arrays.byteas([write.body for write in writes]),
            },
        )
        ledger_rows.write_ledgers(exchange, writes, self._opened)
        protection_rows.write_protection(exchange, writes)
        rare_rows.write_rare(exchange, writes)
        self._desk.write(exchange, writes)
        exchange.ask("commit")
        exchange.run()
        self._open = False
        self._desk.committed()
        return int(log.rows[-1][0])


def _places(keys: Collection[TenantKey]) -> Parameters:
    return {
        "tenants": arrays.int4s([tenant_id for tenant_id, _ in keys]),
        "keys": arrays.uuids([digest for _, digest in keys]),
    }


def _check_protocol(store: PostgresStore) -> LedgerStore:
    return store
