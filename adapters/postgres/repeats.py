"""Answers to repeated commands: an attempt is a transaction that holds the lock of its key.

The lock goes with the transaction, so an attempt whose process dies blocks nobody, and its answer
is kept or not kept as a whole. The claim of the key is committed before, in a transaction of its
own, and outlives it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from hashlib import blake2b

import msgspec
import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.projections import lost_connections
from ledger.application.repeats import (
    KEPT_HOURS,
    Attempt,
    Command,
    KeyInUse,
    KeyReused,
    Repeats,
)
from ledger.domain.errors import InvariantViolation, Unavailable

IDLE_CONNECTIONS = 2
"""Most connections kept open between attempts."""


class _Attempt:
    def __init__(self, answer: bytes | None, command: Command) -> None:
        self.answer = answer
        self.command = command
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
        asked: dict[str, object] = {"owner": owner, "key": key, "digest": digest}
        connection = self._take()
        refused: Exception | None = None
        try:
            with connection.transaction(), lost_connections():
                again = self._claim(connection, asked)
            with connection.transaction():
                with lost_connections():
                    attempt = self._begin(connection, asked, again=again)
                try:
                    # What is raised here is the caller's own.
                    yield attempt
                except Unavailable:
                    raise
                except Exception as error:
                    refused = error
                self._end(connection, asked, attempt, refused=refused is not None)
        except psycopg.Error:
            # Only the commit is left to fail: whether the answer was kept is unknown.
            connection.close()
            if refused is None:
                with lost_connections():
                    raise
        finally:
            self._give(connection)
        if refused is not None:
            raise refused

    def _end(
        self,
        connection: Connection[TupleRow],
        asked: dict[str, object],
        attempt: _Attempt,
        *,
        refused: bool,
    ) -> None:
        if refused:
            # Where it cannot be said, the claim stays, and only the same command gets the key.
            connection.execute(self._sql["release"], asked)
        elif attempt.kept is not None:
            with lost_connections():
                connection.execute(self._sql["keep"], {**asked, "answer": attempt.kept})
                connection.execute(self._sql["forget"], {"hours": KEPT_HOURS + 1})

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def _claim(self, connection: Connection[TupleRow], asked: dict[str, object]) -> bool:
        """Claim the key for the command; return whether it had the key already."""
        self._lock_key(connection, asked)
        if self._find(connection, asked) is not None:
            return True
        connection.execute(self._sql["claim"], asked)
        return False

    def _begin(
        self, connection: Connection[TupleRow], asked: dict[str, object], *, again: bool
    ) -> _Attempt:
        self._lock_key(connection, asked)
        found = self._find(connection, asked)
        if found is None:
            # Somebody had the key for the blink of an eye, and was refused.
            connection.execute(self._sql["claim"], asked)
            found = self._find(connection, asked)
        if found is None:
            raise InvariantViolation("the claim of an Idempotency-Key is gone")
        answer, at = found
        members = msgspec.msgpack.encode((asked["owner"], asked["key"], at))
        name = blake2b(members, digest_size=8).hexdigest()
        return _Attempt(answer or None, Command(name, again))

    def _lock_key(self, connection: Connection[TupleRow], asked: dict[str, object]) -> None:
        [(locked,)] = connection.execute(self._sql["lock"], asked).fetchall()
        if not locked:
            raise KeyInUse(
                "a command under this Idempotency-Key is being worked on; ask again later"
            )

    def _find(
        self, connection: Connection[TupleRow], asked: dict[str, object]
    ) -> tuple[bytes, int] | None:
        """Return answer and time of the command that has the key."""
        row = connection.execute(self._sql["find"], asked).fetchone()
        if row is None:
            return None
        if bytes(row[0]) != asked["digest"]:
            raise KeyReused(
                "this Idempotency-Key was used for another command; a new command needs a new key"
            )
        return bytes(row[1]), row[2]

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
