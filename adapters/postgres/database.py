"""One database as the rest of the adapter uses it: connections, recorders, settings.

Everything connects with the same search path and tells PostgreSQL who it is.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import psycopg
from eventsourcing.postgres import PostgresDatastore
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow, tuple_row

from adapters.postgres.migrate import SCHEMA
from adapters.postgres.recorder import LedgerRecorder, LedgerTrackingRecorder
from adapters.postgres.store import PostgresStore
from ledger.domain.errors import Unavailable


class CannotConnect(Unavailable):
    """No connection to the database can be had."""

    default_code = "cannot_connect"


class Database:
    """A migrated database.

    Args:
        url: libpq connection string or URL of a role that owns the schema.
        schema: where the tables are.
    """

    def __init__(self, url: str, *, schema: str = SCHEMA) -> None:
        self.url = url
        self.schema = schema
        parts: dict[str, Any] = conninfo_to_dict(url)
        self.datastore = PostgresDatastore(
            dbname=parts.get("dbname") or "",
            host=parts.get("host") or "",
            port=parts.get("port") or 5432,
            user=parts.get("user") or "",
            password=parts.get("password") or "",
            schema=schema,
            originator_id_type="text",
            pool_size=1,
            max_overflow=4,
        )
        # The library takes parts; what it has no part for (TLS, sockets, …) goes in as it is.
        self.datastore.pool.kwargs = {"row_factory": psycopg.rows.dict_row}
        self.datastore.pool.conninfo = make_conninfo(
            url, options=f"-c search_path={schema}", application_name="tallybook"
        )
        self.recorder = LedgerRecorder(self.datastore)
        self.tracking = LedgerTrackingRecorder(self.datastore)
        self.store = PostgresStore(url, self.recorder, schema=schema)

    def connect(
        self, *, purpose: str, autocommit: bool = True, patience_s: int | None = None
    ) -> Connection[TupleRow]:
        """Return a new connection of its own.

        Args:
            purpose: shown in ``pg_stat_activity``.
            autocommit: False starts a transaction with the first statement.
            patience_s: longest time to connect, for a statement, and without an answer from the
                network; None waits as long as it takes.

        Raises:
            CannotConnect: the server does not answer or refuses.
        """
        options = f"-c search_path={self.schema}"
        url = self.url
        if patience_s is not None:
            options += f" -c statement_timeout={patience_s}s"
            # libpq waits no less than two seconds for a connection.
            url = make_conninfo(
                url, connect_timeout=max(2, patience_s), tcp_user_timeout=patience_s * 1000
            )
        try:
            return Connection.connect(
                url,
                autocommit=autocommit,
                options=options,
                application_name=f"tallybook {purpose}",
                row_factory=tuple_row,
            )
        except psycopg.OperationalError as error:
            raise CannotConnect(f"cannot connect to the database: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        self.store.close()
        self.datastore.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
