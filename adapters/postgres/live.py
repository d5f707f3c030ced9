"""News of budgets across processes: written with the commit, read in the log's order.

The commit's own transaction writes its news and wakes the listeners with NOTIFY. Each process has
one `PostgresLiveFeed`: a thread that listens on a connection of its own and, woken or not, reads
what is behind its position at least once a second. A waking that is lost, or a connection, costs
time and no news.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable

import msgspec
from psycopg import Connection, Notify
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.news import NEWS_CHANNEL, SESSIONS_CHANNEL
from adapters.postgres.projections import lost_connections
from ledger.application.live import CREDIT, Attached, Listener, LiveFeed, Told, news_from
from ledger.domain.budgets import terms_of
from ledger.domain.errors import Unavailable

POLL_S = 1.0
"""Longest time without a look at the news."""
RETRY_S = 0.5
PATIENCE_S = 5
KEPT_US = 24 * 3600 * 1_000_000
"""How long news are kept; no feed is behind for longer."""
FORGET_S = 3600.0
_PIECE = 1000
_LAST = 2**31 - 1

_payload = msgspec.json.Decoder(tuple[str, str, int]).decode

_log = logging.getLogger(__name__)


class PostgresLiveFeed:
    """Tells what other processes and this one commit; see `LiveFeed`.

    Args:
        database: migrated.
        poll_s: longest time without a look at the news.
    """

    def __init__(self, database: Database, *, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._watches: list[_Watch] = []

    def start(self, listener: Listener) -> Callable[[], None]:
        """Tell what is committed from now on; return what ends it."""
        watch = _Watch(self._database, listener, self._poll_s)
        watch.begin()
        self._watches.append(watch)
        return watch.close

    def close(self) -> None:
        """End whatever was started."""
        for watch in self._watches:
            watch.close()


class _Watch:
    """One listener's thread."""

    def __init__(self, database: Database, listener: Listener, poll_s: float) -> None:
        self._database = database
        self._listener = listener
        self._poll_s = poll_s
        self._sql = queries.load("live")
        self._closing = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        # Of the last news that was told: its commit's in the log, and its place there.
        self._position = (0, 0)
        self._forget_s = time.monotonic() + FORGET_S
        self._thread = threading.Thread(target=self._run, name="tallybook-live", daemon=True)
        self._first: Connection[TupleRow] | None = None

    def begin(self) -> None:
        """Listen, find the position, and go on in a thread."""
        try:
            connection = self._connect()
            with lost_connections():
                [(head,)] = connection.execute(self._sql["head"]).fetchall()
        except BaseException:
            self._close_pipe()
            raise
        self._position = (int(head), _LAST)
        self._first = connection
        self._thread.start()

    def close(self) -> None:
        """Stop at once; again changes nothing."""
        if self._closing.is_set():
            return
        self._closing.set()
        os.write(self._wake_write, b".")
        self._thread.join()
        self._close_pipe()

    def _close_pipe(self) -> None:
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _connect(self) -> Connection[TupleRow]:
        connection = self._database.connect(purpose="live", patience_s=PATIENCE_S)
        with lost_connections():
            for channel in (NEWS_CHANNEL, SESSIONS_CHANNEL):
                connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
        connection.add_notify_handler(self._notified)
        return connection

    def _run(self) -> None:
        complained = False
        while not self._closing.is_set():
            try:
                connection = self._first or self._connect()
                self._first = None
                with contextlib.closing(connection), lost_connections():
                    complained = False
                    self._follow(connection)
            except Unavailable as error:
                if not complained:
                    _log.warning("news of budgets are late: %s", error)
                complained = True
                self._closing.wait(RETRY_S)

    def _follow(self, connection: Connection[TupleRow]) -> None:
        while not self._closing.is_set():
            # The answer to a statement also brings the notifications that came before it.
            while self._look(connection) == _PIECE:
                pass
            if time.monotonic() >= self._forget_s:
                self._forget_s = time.monotonic() + FORGET_S
                connection.execute(self._sql["forget_news"], {"kept_us": KEPT_US})
            select.select([connection.fileno(), self._wake_read], [], [], self._poll_s)

    def _look(self, connection: Connection[TupleRow]) -> int:
        position, place = self._position
        rows = connection.execute(
            self._sql["news"],
            {"position": position, "place": place, "limit": _PIECE},
            binary=True,
        ).fetchall()
        if rows:
            self._listener.told([_told(row) for row in rows])
            self._position = (rows[-1][0], rows[-1][1])
        return len(rows)

    def _notified(self, notification: Notify) -> None:
        if notification.channel == SESSIONS_CHANNEL:
            with contextlib.suppress(msgspec.MsgspecError):
                self._listener.attached(Attached(*_payload(notification.payload)))


def _told(row: TupleRow) -> Told:
    position, _, _, body, tenant, currency, terms = row
    news = news_from(bytes(body))
    known = terms is not None and news.step != CREDIT
    return Told(tenant, currency, position, news, terms_of(terms.encode()) if known else None)


def _check_protocol(feed: PostgresLiveFeed) -> LiveFeed:
    return feed
