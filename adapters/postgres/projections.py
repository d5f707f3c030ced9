"""Projections' rows and positions in PostgreSQL.

A batch is one transaction under the projection's advisory lock. It takes no lock that the writer
takes, and the log is read outside it: the log only grows, and in order, so what was read up to
an id stays true. A batch that a crash loses is run again, position and rows being lost together;
so its commit need not wait for the disk.

A rebuild writes to a table of its own, of the live one's form, and in the end makes the live
rows equal to its own instead of taking their place: readers see the old rows or the new ones and
never wait, grants and views on the live table stay, and only rows that differ are written.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from struct import pack
from typing import Any, NamedTuple

import psycopg
from eventsourcing import persistence
from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable, Identifier

from adapters.postgres import arrays, queries
from adapters.postgres.database import Database
from ledger.application.ports import ConnectionLost, StoredCommit
from ledger.application.runner import (
    LogSignal,
    ProjectionBatch,
    ProjectionStatus,
    ProjectionStore,
    Rebuild,
    RebuildReport,
    RollupRows,
    SwapBatch,
    Window,
)
from ledger.domain.entries import COMMIT_TOPIC, tenant_of_stream
from ledger.domain.errors import InvariantViolation, Refused, Unavailable
from ledger.projections import billing_daily, usage_daily

WINDOW_BYTES = 4 * 1024 * 1024
"""A batch takes no further commits once they are this many bytes together."""
_SETTINGS = (
    "SET jit = off; SET synchronous_commit = off; SET idle_in_transaction_session_timeout = '5min'"
)
_TEXT_OID = 25


class Layout(NamedTuple):
    """A rollup's table: columns of its key, of its numbers, and those that a rebuild resets."""

    table: str
    keys: tuple[str, ...]
    numbers: tuple[str, ...]
    marks: tuple[str, ...] = ()

    def places(self, table: str) -> dict[str, Composable]:
        """Return what the statements have places for."""
        columns = [Identifier(name) for name in (*self.keys, *self.numbers)]
        keys = [Identifier(name) for name in self.keys]
        return {
            "table": Identifier(table),
            "live": Identifier(self.table),
            "keys": SQL(", ").join(keys),
            "columns": SQL(", ").join(columns),
            "live_keys": SQL(", ").join(SQL("u.{}").format(key) for key in keys),
            "new_keys": SQL(", ").join(SQL("r.{}").format(key) for key in keys),
            "updates": SQL(", ").join(
                SQL("{0} = excluded.{0}").format(Identifier(name))
                for name in (*self.numbers, *self.marks)
            ),
        }


_LAYOUTS = {
    usage_daily.NAME: Layout(
        "usage_daily",
        (
            *("tenant_id", "day", "provider", "model", "meter", "usage_user", "project"),
            "cost_currency",
        ),
        ("quantity", "charge", "cost", "unpriced"),
    ),
    billing_daily.NAME: Layout(
        "billing_daily",
        (
            *("tenant_id", "day", "provider", "model", "meter", "byok", "platform"),
            *("price_version", "rate"),
        ),
        ("quantity", "charge", "unpriced", "credit"),
        ("changed",),
    ),
}


class RebuildRunning(Refused):
    """Somebody rebuilds this projection now."""

    default_code = "rebuild_running"


class PostgresProjections:
    """Where projections' rows and positions are; thread-safe.

    Args:
        database: migrated.
        window_bytes: most bytes of commits in one batch, unless a single one has more.
    """

    def __init__(self, database: Database, *, window_bytes: int = WINDOW_BYTES) -> None:
        self._database = database
        self._window_bytes = window_bytes
        self._sql = queries.load("projections")
        self._lock = threading.RLock()
        self._connection: Connection[TupleRow] | None = None

    @contextlib.contextmanager
    def batch(self, *, name: str) -> Iterator[ProjectionBatch]:
        """Open a batch over the live rows; see `ProjectionStore`."""
        with self._use() as connection, connection.transaction():
            yield self._open(connection, name=name, of=name, table=_LAYOUTS[name].table)

    def status(self, *, name: str, version: int) -> ProjectionStatus:
        """Return how far a projection is."""
        with self._use() as connection:
            row = connection.execute(
                self._sql["status"], {"name": name, "rebuild": _rebuild_name(name, version)}
            ).fetchone()
        position, head, rebuilding = row or (0, 0, None)
        return ProjectionStatus(name, position, head, rebuilding)

    @contextlib.contextmanager
    def signal(self) -> Iterator[LogSignal]:
        """Listen to the log's channel on a connection of its own."""
        connection = self._database.connect(purpose="projections listener")
        with contextlib.closing(connection):
            channel = Identifier(self._database.recorder.channel_name)
            with lost_connections():
                connection.execute(SQL("LISTEN {}").format(channel))
            yield _Signal(connection)

    @contextlib.contextmanager
    def rebuild(self, *, name: str, version: int) -> Iterator[Rebuild]:
        """Begin or go on with a rebuild; see `ProjectionStore`."""
        connection = self._connect("projections rebuild")
        # The lock is the session's: it ends with the connection, however that ends.
        with contextlib.closing(connection), lost_connections():
            lock = lock_key(self._database.schema, f"{name} rebuild")
            [taken] = connection.execute(
                self._sql["try_session_lock"], {"lock": lock}
            ).fetchone() or (False,)
            if not taken:
                raise RebuildRunning(f"{name} is being rebuilt already; wait until that has ended")
            rebuild = _PostgresRebuild(self, connection, name=name, version=version)
            rebuild.prepare()
            yield rebuild

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            if self._connection is not None:
                with contextlib.suppress(psycopg.Error):
                    self._connection.close()
                self._connection = None

    def _connect(self, purpose: str) -> Connection[TupleRow]:
        connection = self._database.connect(purpose=purpose)
        with lost_connections():
            connection.execute(_SETTINGS)
        arrays.register(connection)
        return connection

    @contextlib.contextmanager
    def _use(self) -> Iterator[Connection[TupleRow]]:
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect("projections")
            try:
                with lost_connections():
                    yield self._connection
            except Unavailable:
                self.close()
                raise

    def _open(
        self, connection: Connection[TupleRow], *, name: str, of: str, table: str
    ) -> _PostgresBatch:
        return _PostgresBatch(
            connection,
            self._database,
            name=name,
            of=of,
            table=table,
            window_bytes=self._window_bytes,
        )


class _PostgresBatch:
    """One transaction of the caller's; made with the projection's lock, and holds it."""

    def __init__(
        self,
        connection: Connection[TupleRow],
        database: Database,
        *,
        name: str,
        of: str,
        table: str,
        window_bytes: int,
    ) -> None:
        self._connection = connection
        self._database = database
        self._name = name
        self._of = of
        self._layout = _LAYOUTS[of]
        self._places = self._layout.places(table)
        self._upto = 0
        self._window_bytes = window_bytes
        self._sql = queries.load("projections")
        self.lock(name)
        self.position = self.position_of(name)

    def lock(self, name: str) -> None:
        """Take a projection's lock until the transaction ends."""
        lock = lock_key(self._database.schema, name)
        self._connection.execute(self._sql["lock"], {"lock": lock})

    def position_of(self, name: str) -> int:
        """Return a projection's position."""
        row = self._connection.execute(self._sql["position"], {"name": name}).fetchone()
        return int(row[0]) if row else 0

    def window(self, *, limit: int, upto: int | None) -> Window:
        """Return the log after the position."""
        after = self.position
        row = self._connection.execute(
            self._sql["window_end"],
            {"after": after, "upto": upto, "limit": limit, "bytes": self._window_bytes},
        ).fetchone()
        last = row[0] if row else None
        if last is None:
            return Window((), after)
        self._upto = last
        notifications = self._database.recorder.select_notifications(
            start=after, limit=limit, stop=last, inclusive_of_start=False
        )
        commits = []
        for one in notifications:
            tenant_id = tenant_of_stream(str(one.originator_id))
            if tenant_id is None:
                continue
            if one.topic != COMMIT_TOPIC:
                raise InvariantViolation(
                    f"notification {one.id} is a {one.topic!r} in a tenant's ledger; this version"
                    f" reads {COMMIT_TOPIC!r}"
                )
            commits.append(StoredCommit(one.id, tenant_id, one.originator_version, one.state))
        return Window(commits, last)

    def timezones(self, tenants: Collection[int]) -> Mapping[int, str]:
        """Return tenants' time zones."""
        rows = self._connection.execute(
            self._sql["timezones"], {"tenants": arrays.int4s(list(tenants))}
        )
        return dict(rows.fetchall())

    def shapes(self, wanted: Collection[tuple[int, int]]) -> Mapping[tuple[int, int], bytes]:
        """Return shape bodies."""
        rows = self._connection.execute(
            self._sql["shapes"],
            {
                "tenants": arrays.int4s([tenant_id for tenant_id, _ in wanted]),
                "numbers": arrays.int4s([number for _, number in wanted]),
            },
            binary=True,
        )
        return {(row[0], row[1]): bytes(row[2]) for row in rows.fetchall()}

    def add(self, rows: RollupRows) -> None:
        """Add numbers to rows; the projection's lock makes their order free."""
        if not rows:
            return
        keys = list(zip(*rows, strict=True))
        numbers = list(zip(*rows.values(), strict=True))
        parameters: dict[str, Any] = {"tenant_id": arrays.int4s(keys[0])}
        named = zip(self._layout.keys[1:], keys[1:], strict=True)
        for name, column in (*named, *zip(self._layout.numbers, numbers, strict=True)):
            parameters[name] = _repeated_texts(list(map(str, column)))
        parameters["upto"] = self._upto
        self._connection.execute(
            self._sql[f"add_{self._of}"].format(**self._places), parameters, prepare=True
        )

    def advance(self, position: int) -> None:
        """Move the position forward, in this transaction."""
        with self._connection.cursor() as cursor:
            self._database.tracking.advance(cursor, self._name, position)
        self.position = position


class _PostgresSwap(_PostgresBatch):
    """The last batch of a rebuild: over its rows, under the live projection's lock too."""

    def __init__(self, live: str, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._live = live
        self.lock(live)
        self.live_position = self.position_of(live)

    def replace(self) -> RebuildReport:
        """Make the live rows and position equal to the rebuild's, and drop the rebuild."""
        if self.position < self.live_position:
            raise InvariantViolation(
                f"the rebuild of {self._live} is at {self.position}, behind the live rows at"
                f" {self.live_position}"
            )
        connection = self._connection
        places = self._places
        removed = connection.execute(self._sql["remove_surplus"].format(**places)).rowcount
        changed = connection.execute(self._sql["put_differences"].format(**places)).rowcount
        rows = connection.execute(self._sql["count_rows"].format(**places)).fetchone()
        connection.execute(self._sql["drop_rebuild"].format(**places))
        connection.execute(self._sql["forget_rebuilds"], {"prefix": _rebuild_prefix(self._live)})
        if self.position > self.live_position:
            with connection.cursor() as cursor:
                self._database.tracking.advance(cursor, self._live, self.position)
        return RebuildReport(self._live, self.position, rows[0] if rows else 0, changed, removed)


class _PostgresRebuild:
    """A rebuild, on a connection that holds the rebuild's lock."""

    def __init__(
        self,
        store: PostgresProjections,
        connection: Connection[TupleRow],
        *,
        name: str,
        version: int,
    ) -> None:
        self._store = store
        self._connection = connection
        self._live = name
        self._name = _rebuild_name(name, version)
        self._table = f"{_LAYOUTS[name].table}_rebuild"

    def prepare(self) -> None:
        """Make the rebuild's table and position, unless an interrupted rebuild left them."""
        sql, connection = self._store._sql, self._connection
        places = _LAYOUTS[self._live].places(self._table)
        with connection.transaction():
            row = connection.execute(
                sql["rebuild_exists"], {"table": self._table, "name": self._name}
            ).fetchone()
            if row and row[0]:
                return
            connection.execute(sql["drop_rebuild"].format(**places))
            connection.execute(sql["forget_rebuilds"], {"prefix": _rebuild_prefix(self._live)})
            connection.execute(sql["create_rebuild"].format(**places))
            with connection.cursor() as cursor:
                self._store._database.tracking.advance(cursor, self._name, 0)

    @contextlib.contextmanager
    def batch(self) -> Iterator[ProjectionBatch]:
        """Open a batch over the rebuild's rows."""
        with lost_connections(), self._connection.transaction():
            yield self._store._open(
                self._connection, name=self._name, of=self._live, table=self._table
            )

    @contextlib.contextmanager
    def swap(self) -> Iterator[SwapBatch]:
        """Open the last batch."""
        sql, connection = self._store._sql, self._connection
        with lost_connections():
            connection.execute(sql["analyze_rebuild"].format(table=Identifier(self._table)))
            with connection.transaction():
                yield _PostgresSwap(
                    self._live,
                    connection,
                    self._store._database,
                    name=self._name,
                    of=self._live,
                    table=self._table,
                    window_bytes=self._store._window_bytes,
                )


class _Signal:
    """Notifications of the log's channel."""

    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection

    def wait(self, timeout_s: float) -> bool:
        """Wait for a notification; several that are there count as one."""
        with lost_connections():
            heard = list(self._connection.notifies(timeout=timeout_s, stop_after=1))
        return bool(heard)


@contextlib.contextmanager
def lost_connections() -> Iterator[None]:
    """Tell a lost connection from other errors; the transaction is gone either way.

    Raises:
        ConnectionLost: the connection broke or the server is shutting down.
        Unavailable: ``database_unavailable`` for a lock or a resource that could not be had.
    """
    try:
        yield
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
            raise ConnectionLost(f"the database connection was lost: {error}") from error
        raise Unavailable(
            f"the database cannot serve this now: {error}", code="database_unavailable"
        ) from error
    except (persistence.OperationalError, persistence.InterfaceError) as error:
        raise ConnectionLost(f"the log cannot be read: {error}") from error


def _repeated_texts(values: Sequence[str]) -> arrays.TextArray:
    """Return at least one string, of which many are equal, as ``text[]``; as `arrays.texts`."""
    packed = {}
    for value in set(values):
        encoded = value.encode()
        packed[value] = pack(">i", len(encoded)) + encoded
    head = pack(">iiiii", 1, 0, _TEXT_OID, len(values), 1)
    return arrays.TextArray(head + b"".join(map(packed.__getitem__, values)))


def _rebuild_prefix(name: str) -> str:
    return f"{name}:rebuild:"


def _rebuild_name(name: str, version: int) -> str:
    return f"{_rebuild_prefix(name)}{version}"


def lock_key(schema: str, name: str) -> int:
    """Return the key of an advisory lock, for each schema its own."""
    digest = blake2b(f"tallybook projection {schema} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _check_protocol(store: PostgresProjections) -> ProjectionStore:
    return store
