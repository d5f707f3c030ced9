"""Sessions of gateways over WebSocket; see `ledger.application.streams`.

Commits here do not wait for the disk: what a crash of the database takes away is how far sessions
have come, and then more is sent again.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence

import msgspec
import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.live import FORGET_S, PATIENCE_S
from adapters.postgres.news import SESSIONS_CHANNEL, attached_payload
from adapters.postgres.projections import lost_connections
from ledger.application.live import Attribution
from ledger.application.streams import KEPT_S, Progress, StreamSession, StreamSessions
from ledger.domain.holds import HoldState, hold_of

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Attribution).decode


class PostgresStreamSessions:
    """Keeps sessions; thread-safe, one statement at a time.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sql = queries.load("live")
        self._lock = threading.Lock()
        self._connection: Connection[TupleRow] | None = None
        self._forget_s = time.monotonic()

    def begin(self, *, tenant: str, attribution: Attribution) -> StreamSession:
        """Begin a session, anew where it is there."""
        with self._use() as connection:
            self._forget(connection)
            row = connection.execute(
                self._sql["begin_session"],
                {
                    "tenant": tenant,
                    "session": attribution.session,
                    "attribution": _encode(attribution).decode(),
                },
            ).fetchone()
            session = _session(row)
            self._tell(connection, session)
            return session

    def resume(self, *, tenant: str, session: str, epoch: int) -> StreamSession | None:
        """Let a new connection have a session; None where there is none."""
        with self._use() as connection:
            place = {"tenant": tenant, "session": session}
            row = connection.execute(
                self._sql["resume_session"], {**place, "epoch": epoch}
            ).fetchone()
            if row is not None:
                found = _session(row)
                self._tell(connection, found)
                return found
            row = connection.execute(self._sql["session"], place).fetchone()
            return None if row is None else _session(row)

    def end(self, *, tenant: str, session: str, attachment: int) -> None:
        """Take note that a session is over, unless another connection has it."""
        with self._use() as connection:
            connection.execute(
                self._sql["end_session"],
                {"tenant": tenant, "session": session, "attachment": attachment},
            )

    def keep(self, progress: Sequence[Progress]) -> Sequence[Progress]:
        """Write down how far connections have come; return those that have lost their session."""
        if not progress:
            return ()
        with self._use() as connection:
            rows = connection.execute(
                self._sql["keep_sessions"],
                {
                    "tenants": [one.tenant for one in progress],
                    "sessions": [one.session for one in progress],
                    "attachments": [one.attachment for one in progress],
                    "acked": [one.acked for one in progress],
                },
            ).fetchall()
        kept = {(row[0], row[1]) for row in rows}
        return [one for one in progress if (one.tenant, one.session) not in kept]

    def open_holds(self, *, tenant: str, session: str) -> Sequence[HoldState]:
        """Return the open holds that name a session."""
        with self._use() as connection:
            rows = connection.execute(
                self._sql["session_holds"],
                {"tenant": tenant, "bytes": session.encode()},
                binary=True,
            ).fetchall()
        holds = [hold_of(bytes(row[0])) for row in rows]
        return [hold for hold in holds if hold.extra is not None and hold.extra.session == session]

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with self._lock:
            self._drop()

    def _tell(self, connection: Connection[TupleRow], session: StreamSession) -> None:
        """Tell every process that the session has a new connection."""
        if session.attachment > 1:
            payload = attached_payload(
                tenant=session.tenant, session=session.session, attachment=session.attachment
            )
            connection.execute(self._sql["wake"], {"channel": SESSIONS_CHANNEL, "payload": payload})

    def _forget(self, connection: Connection[TupleRow]) -> None:
        if time.monotonic() >= self._forget_s:
            self._forget_s = time.monotonic() + FORGET_S
            connection.execute(self._sql["forget_sessions"], {"kept_s": KEPT_S})

    @contextlib.contextmanager
    def _use(self) -> Iterator[Connection[TupleRow]]:
        with self._lock:
            try:
                with lost_connections():
                    yield self._open()
            except BaseException:
                self._drop()
                raise

    def _open(self) -> Connection[TupleRow]:
        connection = self._connection
        if connection is None or connection.closed:
            connection = self._database.connect(purpose="streams", patience_s=PATIENCE_S)
            connection.execute("SET synchronous_commit = off")
            self._connection = connection
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None


def _session(row: TupleRow | None) -> StreamSession:
    if row is None:
        raise ValueError("a session was written and is not there")
    tenant, session, epoch, attachment, acked, ended, attribution = row
    return StreamSession(
        tenant=tenant,
        session=session,
        epoch=epoch,
        attachment=attachment,
        acked=acked,
        ended=ended,
        attribution=_decode(attribution),
    )


def _check_protocol(sessions: PostgresStreamSessions) -> StreamSessions:
    return sessions
