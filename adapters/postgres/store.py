"""The write path's store on PostgreSQL: one connection, one transaction a batch, pipelined.

Opening a batch is one round trip: begin, take the writer lock, read the clock, what others
wrote, and the keys asked for. Writing is one more, the commit included. In between there are
round trips only for what the caller's caches do not have.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from uuid import UUID

import psycopg
from eventsourcing import persistence
from eventsourcing.persistence import StoredEvent
from psycopg import Connection, Cursor
from psycopg.rows import tuple_row

from adapters.postgres import arrays, protection_rows, queries
from adapters.postgres.recorder import WRITER_LOCK, LedgerRecorder
from adapters.postgres.rows import (
    Row,
    amount_text,
    balance_of,
    correction_of,
    costs_text,
    key_rows,
    ledger_state,
    one,
    quantities_text,
    reversal_body,
)
from ledger.application.ports import (
    Batch,
    ConnectionLost,
    LedgerStore,
    LedgerWrite,
    Opening,
    TenantKey,
)
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
from ledger.domain.ledger import Balance, CorrectionState, LedgerState, UnpricedUsage
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import scaled_text, to_scaled
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
        recorder: of the same database; writes the log.
        schema: where the tables are.
    """

    def __init__(self, conninfo: str, recorder: LedgerRecorder, *, schema: str) -> None:
        self._conninfo = conninfo
        self._recorder = recorder
        self._schema = schema
        self._connection: Connection[Row] | None = None

    def _connect(self) -> Connection[Row]:
        connection = self._connection
        if connection is None or connection.closed:
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
            self._connection = connection
        return connection

    @contextlib.contextmanager
    def batch(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey] = ()
    ) -> Iterator[Batch]:
        """Open a batch; see `LedgerStore`."""
        try:
            connection = self._connect()
            batch = _PostgresBatch(connection, self._recorder)
            try:
                batch.begin(since=since, keys=keys, holds=holds)
                yield batch
            finally:
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

    def __init__(self, connection: Connection[Row], recorder: LedgerRecorder) -> None:
        self._connection = connection
        self._recorder = recorder
        self._sql = queries.load("store")
        self._open = False
        self._last_tenant: int | None = None
        self._opened: list[LedgerState] = []

    def begin(
        self, *, since: int, keys: Collection[TenantKey], holds: Collection[TenantKey]
    ) -> None:
        """Begin, lock, and read what the opening tells, in one round trip."""
        sql = self._sql
        connection = self._connection
        with connection.pipeline():
            connection.execute("BEGIN")
            self._open = True
            connection.execute(sql["lock_writer"], {"lock": WRITER_LOCK})
            clock = connection.execute(sql["read_clock"])
            changes = connection.execute(
                sql["changes"], {"since": since, "limit": CHANGES_LIMIT + 1}, binary=True
            )
            taken = self._ask_keys(keys) if keys else None
            known = protection_rows.ask_holds(connection, sql, holds) if holds else None
        now, head = one(clock)
        streams = [row[1] for row in changes.fetchall()]
        self.opening = Opening(
            now=now,
            head=head or 0,
            changed=list(dict.fromkeys(streams)) if len(streams) <= CHANGES_LIMIT else None,
            keys={} if taken is None else key_rows(taken),
            holds={} if known is None else protection_rows.holds_of(known),
        )

    def end(self) -> None:
        """Roll back what was not committed."""
        if self._open and not self._connection.closed:
            self._open = False
            self._connection.execute("ROLLBACK")

    def _ask_keys(self, keys: Collection[TenantKey]) -> Cursor[Row]:
        return self._connection.execute(
            self._sql["keys"],
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in keys]),
                "keys": arrays.uuids([digest for _, digest in keys]),
            },
            binary=True,
        )

    def keys(self, keys: Collection[TenantKey]) -> dict[TenantKey, KeyRow]:
        """Return those keys that are taken."""
        return key_rows(self._ask_keys(keys))

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
        rows = self._connection.execute(
            self._sql["corrections"],
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in targets]),
                "keys": arrays.uuids([digest for _, digest in targets]),
            },
            binary=True,
        )
        return {(row[0], row[1].bytes): correction_of(row[2:]) for row in rows.fetchall()}

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

    def commits(self, places: Collection[tuple[int, int]]) -> dict[tuple[int, int], Commit]:
        """Return commits by place."""
        rows = self._connection.execute(
            self._sql["commits"],
            {
                "streams": arrays.texts([stream_of(tenant_id) for tenant_id, _ in places]),
                "versions": arrays.int8s([version for _, version in places]),
            },
            binary=True,
        )
        found = {}
        for stream, version, state in rows.fetchall():
            tenant_id = tenant_of_stream(stream)
            if tenant_id is None:
                raise InvariantViolation(f"{stream} is no tenant's ledger")
            found[tenant_id, version] = decode_commit(bytes(state))
        return found

    def counters(
        self, keys: Collection[tuple[int, CounterKey]]
    ) -> dict[tuple[int, CounterKey], Counter]:
        """Return those counters that exist."""
        return protection_rows.load_counters(self._connection, self._sql, keys)

    def holds(self, keys: Collection[TenantKey]) -> dict[TenantKey, HoldState]:
        """Return those holds that are known."""
        return protection_rows.holds_of(
            protection_rows.ask_holds(self._connection, self._sql, keys)
        )

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
        connection = self._connection
        log = connection.cursor()
        with connection.pipeline():
            self._recorder.append(
                log,
                [
                    StoredEvent(
                        originator_id=stream_of(write.state.tenant_id),
                        originator_version=write.state.version,
                        topic=COMMIT_TOPIC,
                        state=write.body,
                    )
                    for write in writes
                ],
            )
            self._write_keys(writes)
            self._open_tenants()
            self._write_tenants(writes)
            self._write_balances(writes)
            protection_rows.write_protection(connection, self._sql, writes)
            self._write_rare(writes)
            connection.execute("COMMIT")
        self._open = False
        return int(log.fetchall()[-1][0])

    def _write_keys(self, writes: Sequence[LedgerWrite]) -> None:
        keys = [key for write in writes for key in write.keys]
        if keys:
            sizes = [(write.state, len(write.keys)) for write in writes]
            self._connection.execute(
                self._sql["insert_keys"],
                {
                    "tenants": arrays.repeated_int4s([(s.tenant_id, n) for s, n in sizes]),
                    "keys": arrays.uuids([key.digest for key in keys]),
                    "versions": arrays.repeated_int8s([(s.version, n) for s, n in sizes]),
                    "indexes": arrays.int4s([key.index for key in keys]),
                    "fingerprints": arrays.uuids([key.fingerprint for key in keys]),
                },
            )

    def _open_tenants(self) -> None:
        opened = self._opened
        if opened:
            self._connection.execute(
                self._sql["insert_tenants"],
                {
                    "ids": arrays.int4s([state.tenant_id for state in opened]),
                    "names": arrays.texts([state.tenant for state in opened]),
                    "currencies": arrays.texts([state.currency for state in opened]),
                    "timezones": arrays.texts([state.timezone for state in opened]),
                    "books": arrays.texts([state.book for state in opened]),
                },
            )

    def _write_tenants(self, writes: Sequence[LedgerWrite]) -> None:
        states = [write.state for write in writes]
        self._connection.execute(
            self._sql["update_tenants"],
            {
                "ids": arrays.int4s([state.tenant_id for state in states]),
                "versions": arrays.int8s([state.version for state in states]),
                "digests": arrays.byteas([state.digest for state in states]),
                "shapes": arrays.int4s([len(state.shapes) for state in states]),
                "pending": arrays.int4s([state.pending for state in states]),
                "conflicts": arrays.int8s([state.conflicts for state in states]),
            },
        )

    def _write_balances(self, writes: Sequence[LedgerWrite]) -> None:
        rows = [
            (write.state.tenant_id, write.state.balances[period])
            for write in writes
            for period in write.state.touched
        ]
        if rows:
            balances = [balance for _, balance in rows]
            self._connection.execute(
                self._sql["upsert_balances"],
                {
                    "tenants": arrays.int4s([tenant_id for tenant_id, _ in rows]),
                    "periods": arrays.texts([one.period for one in balances]),
                    "charges": arrays.texts([amount_text(one.charge) for one in balances]),
                    "costs": arrays.texts([costs_text(one) for one in balances]),
                    "quantities": arrays.texts([quantities_text(one) for one in balances]),
                    "events": arrays.int8s([one.events for one in balances]),
                    "voided": arrays.int8s([one.voided for one in balances]),
                    "unpriced": arrays.int8s([one.unpriced for one in balances]),
                },
            )

    def _write_rare(self, writes: Sequence[LedgerWrite]) -> None:
        shapes = [
            (write.state.tenant_id, number, body)
            for write in writes
            for number, body in write.shapes
        ]
        if shapes:
            self._connection.execute(
                self._sql["insert_shapes"],
                {
                    "tenants": arrays.int4s([row[0] for row in shapes]),
                    "numbers": arrays.int4s([row[1] for row in shapes]),
                    "bodies": arrays.byteas([row[2] for row in shapes]),
                },
            )
        conflicts = [
            (write.state.tenant_id, write.state.version, index)
            for write in writes
            for index in write.conflicts
        ]
        if conflicts:
            self._connection.execute(
                self._sql["insert_conflicts"],
                {
                    "tenants": arrays.int4s([row[0] for row in conflicts]),
                    "versions": arrays.int8s([row[1] for row in conflicts]),
                    "indexes": arrays.int4s([row[2] for row in conflicts]),
                },
            )
        for write in writes:
            for key, correction in write.state.corrections.items():
                self._write_correction(write.state.tenant_id, key, correction)
        self._write_accumulators(writes)
        self._write_unpriced(writes)

    def _write_correction(self, tenant_id: int, key: bytes, correction: CorrectionState) -> None:
        parameters: dict[str, object] = {"tenant": tenant_id, "key": UUID(bytes=key)}
        parameters["reversal"] = reversal_body(correction)
        for name in ("void", "adjust", "standing"):
            version, index = getattr(correction, name) or (None, None)
            parameters[f"{name}_version"] = version
            parameters[f"{name}_index"] = index
        self._connection.execute(self._sql["upsert_corrections"], parameters)

    def _write_accumulators(self, writes: Sequence[LedgerWrite]) -> None:
        rows = [
            (write.state.tenant_id, key.split("\t", 1), quantity)
            for write in writes
            for key, quantity in write.state.accumulators.items()
        ]
        if rows:
            self._connection.execute(
                self._sql["upsert_accumulators"],
                {
                    "tenants": arrays.int4s([row[0] for row in rows]),
                    "sessions": arrays.texts([row[1][0] for row in rows]),
                    "keys": arrays.texts([row[1][1] for row in rows]),
                    "quantities": arrays.texts(
                        [scaled_text(row[2], QUANTITY_DECIMALS) for row in rows]
                    ),
                },
            )

    def _write_unpriced(self, writes: Sequence[LedgerWrite]) -> None:
        gone: list[TenantKey] = []
        new: list[tuple[TenantKey, UnpricedUsage]] = []
        for write in writes:
            for key, usage in write.state.unpriced.items():
                place = (write.state.tenant_id, key)
                if usage is None:
                    gone.append(place)
                else:
                    new.append((place, usage))
        if gone:
            self._connection.execute(
                self._sql["delete_unpriced"],
                {
                    "tenants": arrays.int4s([tenant_id for tenant_id, _ in gone]),
                    "keys": arrays.uuids([key for _, key in gone]),
                },
            )
        if new:
            self._connection.execute(
                self._sql["insert_unpriced"],
                {
                    "tenants": arrays.int4s([place[0] for place, _ in new]),
                    "keys": arrays.uuids([place[1] for place, _ in new]),
                    "times": arrays.int8s([usage.occurred_at for _, usage in new]),
                    "sources": arrays.texts([usage.source for _, usage in new]),
                    "ids": arrays.texts([usage.id for _, usage in new]),
                    "providers": arrays.texts([usage.provider for _, usage in new]),
                    "models": arrays.texts([usage.model for _, usage in new]),
                },
            )


def _check_protocol(store: PostgresStore) -> LedgerStore:
    return store
