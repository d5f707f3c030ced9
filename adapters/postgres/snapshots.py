"""Snapshots for queries: read-only transactions on kept connections, as the engine or for a tenant.

The engine sees every row. For a tenant the transaction becomes the role `tallybook_tenant`, and
row-level security shows it the rows of the tenants that the transaction names: a query that
forgets its predicate returns nothing foreign. docs/spec/isolation.md.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar

import psycopg
from psycopg import Connection, Cursor, IsolationLevel
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Composable

from adapters.postgres import arrays, queries
from adapters.postgres.exchange import Exchange, Parameters
from adapters.postgres.projections import lost_connections
from adapters.postgres.rows import Row
from ledger.application.ports import ConnectionLost
from ledger.domain.errors import NotFound, Unavailable

IDLE_CONNECTIONS = 4
"""Most connections of each kind that are kept open between queries."""
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_T = TypeVar("_T")


class Connecting(Protocol):
    """Opens connections: a `Database`."""

    def connect(self, *, purpose: str) -> Connection[TupleRow]:
        """Return a new connection of its own."""
        ...


class CannotIsolate(Unavailable):
    """The engine's role cannot become the role that sees only a tenant's rows."""

    default_code = "cannot_isolate"


class Snapshots:
    """Connections for queries of one kind; thread-safe.

    The two kinds do not share connections: a statement that is prepared under one role would be
    planned again under the other.

    Args:
        database: migrated.
        isolated: transactions see only the tenants that they name.
        statements: those for `ask_prepared`, by name.
    """

    def __init__(
        self,
        database: Connecting,
        *,
        isolated: bool,
        statements: Mapping[str, Composable] | None = None,
    ) -> None:
        self._database = database
        self._isolated = isolated
        self._sql = queries.load("isolation")
        self._statements: dict[str, str | Composable] = {
            **(statements or {}),
            **self._sql,
            "begin": SQL(_BEGIN),
            "commit": SQL("COMMIT"),
        }
        self._exchanges: dict[Connection[TupleRow], Exchange] = {}
        self._idle: list[Connection[TupleRow]] = []
        self._lock = threading.Lock()

    def ask(
        self, query: Callable[[Connection[TupleRow]], _T], *, tenants: Sequence[str] = ()
    ) -> _T:
        """Return what a query answers in one read-only transaction on one snapshot.

        A query that a lost connection breaks is asked once more on a new one.

        Args:
            query: called with the connection, inside the transaction.
            tenants: names of those whose rows it may see; unknown ones count for nothing.

        Raises:
            ConnectionLost: the database went away twice.
            CannotIsolate: the role is missing, or the engine may not become it.
        """

        def in_transaction(connection: Connection[TupleRow]) -> _T:
            with connection.transaction():
                if self._isolated:
                    self._become(connection, tenants)
                return query(connection)

        return self._use(in_transaction)

    def ask_one(
        self, query: psycopg.sql.SQL, parameters: dict[str, object], *, tenants: Sequence[str]
    ) -> list[TupleRow]:
        """Return the rows of one statement, in one round trip; arguments as for `ask`."""

        def pipelined(connection: Connection[TupleRow]) -> list[TupleRow]:
            with connection.pipeline():
                connection.execute(_BEGIN)
                if self._isolated:
                    self._become(connection, tenants)
                cursor = connection.execute(query, parameters, binary=True)
                connection.execute("COMMIT")
            return cursor.fetchall()

        return self._use(pipelined)

    def ask_prepared(
        self, name: str, parameters: Parameters, *, tenants: Sequence[str]
    ) -> list[Row]:
        """Return the rows of one of the statements, in one round trip with little ado.

        psycopg takes several times the processor time for the same, which matters where the rows
        are few and asked for all the time.

        Args:
            name: of the statement.
            parameters: of it, in wire form.
            tenants: as for `ask`.
        """

        def exchanged(connection: Connection[TupleRow]) -> list[Row]:
            exchange = self._exchanges.get(connection)
            if exchange is None:
                exchange = Exchange(connection, self._statements)
                self._exchanges[connection] = exchange
            exchange.ask("begin")
            if self._isolated:
                exchange.ask("become_tenant", {"tenants": arrays.texts(tenants)})
            answer = exchange.ask(name, parameters)
            exchange.ask("commit")
            exchange.run()
            return answer.rows

        return self._use(exchanged)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                self._close(connection)

    def _close(self, connection: Connection[TupleRow]) -> None:
        self._exchanges.pop(connection, None)
        connection.close()

    def _become(self, connection: Connection[TupleRow], tenants: Sequence[str]) -> Cursor[TupleRow]:
        # Until the transaction ends, however it does.
        return connection.execute(self._sql["become_tenant"], {"tenants": list(tenants)})

    def _use(self, work: Callable[[Connection[TupleRow]], _T]) -> _T:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            # A kept connection may have died unnoticed; asking again changes nothing.
            with contextlib.suppress(ConnectionLost):
                return self._use_on(kept, work)
        purpose = "tenants' reads" if self._isolated else "reads"
        connection = self._database.connect(purpose=purpose)
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        return self._use_on(connection, work)

    def _use_on(
        self, connection: Connection[TupleRow], work: Callable[[Connection[TupleRow]], _T]
    ) -> _T:
        try:
            with lost_connections(), _isolating() if self._isolated else contextlib.nullcontext():
                answer = work(connection)
        except NotFound:
            self._keep(connection)
            raise
        except BaseException:
            self._close(connection)
            raise
        self._keep(connection)
        return answer

    def _keep(self, connection: Connection[TupleRow]) -> None:
        with self._lock:
            if len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        self._close(connection)


@contextlib.contextmanager
def _isolating() -> Iterator[None]:
    try:
        yield
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue) as error:
        if "tallybook_tenant" not in str(error):
            raise
        raise CannotIsolate(
            "the database does not let this role read as tallybook_tenant"
            f" ({error.diag.message_primary}); an administrator must run, for the role that"
            " tallybook connects as: CREATE ROLE tallybook_tenant NOLOGIN;"
            " GRANT tallybook_tenant TO <role>; then `tallybook migrate`"
        ) from error
