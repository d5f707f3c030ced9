"""Leadership of one process among all that share a database: a session's advisory lock.

It ends with the connection, however that ends, so a process that was killed does not keep it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.projections import lock_key, lost_connections
from ledger.application.leading import Leader, Leadership

PATIENCE_S = 10
"""Longest time that the database may take for an answer."""


class PostgresLeader:
    """Where leadership is to be had.

    Args:
        database: of which one process leads.
        name: what it leads in.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name
        self._sql = queries.load("projections")

    @contextlib.contextmanager
    def try_lead(self) -> Iterator[Leadership | None]:
        """Take the lead, or None if another process has it; see `Leader`."""
        connection = self._database.connect(purpose=self._name, patience_s=PATIENCE_S)
        with contextlib.closing(connection), lost_connections():
            connection.execute(self._sql["be_missed"])
            lock = lock_key(self._database.schema, f"{self._name} lead")
            [taken] = connection.execute(
                self._sql["try_session_lock"], {"lock": lock}
            ).fetchone() or (False,)
            yield _Held(connection) if taken else None


class _Held:
    def __init__(self, connection: Connection[TupleRow]) -> None:
        self._connection = connection

    def held(self) -> bool:
        """Return whether it is still held: as long as the session lives."""
        with lost_connections():
            self._connection.execute("SELECT 1")
        return True


def _check_protocol(leader: PostgresLeader) -> Leader:
    return leader
