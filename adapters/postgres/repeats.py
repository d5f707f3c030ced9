"""Answers to repeated commands: an attempt is a transaction that holds the lock of its key.

The lock goes with the transaction, so an attempt whose process dies blocks nobody, and its answer
is kept or not kept as a whole.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.projections import lost_connections
from ledger.application.repeats import KEPT_HOURS, Attempt, KeyInUse, KeyReused, Repeats

IDLE_CONNECTIONS = 2
"""Most connections kept open between attempts."""


class _Attempt:
    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.kept: bytes | None = None

    def keep(self, answer: bytes) -> None:
        self.kept = answer


class PostgresRepeats:
    """Keeps answers; thread-safe.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries.load("repeats")
        self._idle: list[Connection[TupleRow]] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def attempt(self, *, owner: str, key: str, digest: bytes) -> Iterator[Attempt]:
        """Begin an attempt; see `Repeats`."""
        asked: dict[str, object] = {"owner": owner, "key": key}
        connection = self._take()
        try:
            with connection.transaction():
                with lost_connections():
                    attempt = self._begin(connection, asked, digest)
                # What is raised here is the caller's own.
                yield attempt
                if attempt.kept is not None:
                    with lost_connections():
                        connection.execute(
                            self._sql["keep"],
                            {**asked, "digest": digest, "answer": attempt.kept},
                        )
                        connection.execute(self._sql["forget"], {"hours": KEPT_HOURS + 1})
        except psycopg.Error:
            # Only the commit is left to fail: whether the answer was kept is unknown.
            connection.close()
            with lost_connections():
                raise
        finally:
            self._give(connection)

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def _begin(
        self, connection: Connection[TupleRow], asked: dict[str, object], digest: bytes
    ) -> _Attempt:
        [(locked,)] = connection.execute(self._sql["lock"], asked).fetchall()
        if not locked:
            raise KeyInUse(
                "a command under this Idempotency-Key is being worked on; ask again later"
            )
        row = connection.execute(self._sql["find"], asked).fetchone()
        if row is None:
            return _Attempt(None)
        if bytes(row[0]) != digest:
            raise KeyReused(
                "this Idempotency-Key was used for another command; a new command needs a new key"
            )
        return _Attempt(bytes(row[1]))

    def _take(self) -> Connection[TupleRow]:
        with self._lock:
            kept = self._idle.pop() if self._idle else None
        if kept is not None:
            # A kept connection may have died unnoticed, and an attempt cannot be asked twice.
            try:
                kept.execute("SELECT 1")
            except psycopg.Error:
                kept.close()
            else:
                return kept
        return self._database.connect(purpose="repeats")

    def _give(self, connection: Connection[TupleRow]) -> None:
        if not connection.closed and not connection.broken:
            with self._lock:
                if len(self._idle) < IDLE_CONNECTIONS:
                    self._idle.append(connection)
                    return
        connection.close()


def _check_protocol(repeats: PostgresRepeats) -> Repeats:
    return repeats
