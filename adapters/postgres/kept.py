"""One connection that is kept for short work, opened when it is needed and again when it died."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres.database import Database
from adapters.postgres.projections import lost_connections
from ledger.domain.errors import Unavailable

PATIENCE_S = 3
"""Longest time that one statement may take."""
_T = TypeVar("_T")


class KeptConnection:
    """A connection for one caller at a time; thread-safe.

    Args:
        database: to connect to.
        purpose: shown in ``pg_stat_activity``.
    """

    def __init__(self, database: Database, *, purpose: str) -> None:
        self._database = database
        self._purpose = purpose
        self._lock = threading.Lock()
        self._connection: Connection[TupleRow] | None = None

    def read(self, work: Callable[[Connection[TupleRow]], _T]) -> _T:
        """Return what some work that changes nothing returns; it is done again if it must.

        Raises:
            Unavailable: the database cannot serve it now.
        """
        with self._lock:
            if self._connection is not None:
                # It may have died unnoticed.
                with contextlib.suppress(Unavailable), self._open() as connection:
                    return work(connection)
            with self._open() as connection:
                return work(connection)

    def write(self, work: Callable[[Connection[TupleRow]], object]) -> None:
        """Do some work in a transaction, once.

        Raises:
            Unavailable: nothing was written, or it is unknown whether it was.
        """
        with self._lock:
            if self._connection is not None:
                # Nothing was asked for yet, so a new connection may try as well.
                with contextlib.suppress(Unavailable), self._open() as connection:
                    connection.execute("SELECT 1")
            with self._open() as connection, connection.transaction():
                work(connection)

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            self._drop()

    @contextlib.contextmanager
    def _open(self) -> Iterator[Connection[TupleRow]]:
        connection = self._connection
        if connection is None:
            connection = self._database.connect(purpose=self._purpose, patience_s=PATIENCE_S)
            self._connection = connection
        try:
            with lost_connections():
                yield connection
        except BaseException:
            # Whatever state it is in, the next use gets a fresh one.
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None
