"""Tells a keyring which keys other processes changed, as soon as they commit.

A thread listens on a connection of its own. Every second it asks the server whether it still
listens there; only then the keyring may trust what it keeps. While the connection is away the
keyring hears nothing and reads keys again after a second (`ledger.application.keyring`).

LISTEN needs a session: behind a pooler that hands a server's connection on after each transaction
nothing is heard, and keys are read again every second.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from psycopg import Connection
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Identifier

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.kept import PATIENCE_S
from adapters.postgres.keys import CHANNEL, Told
from adapters.postgres.projections import lost_connections
from ledger.domain.errors import Unavailable

BEAT_S = 1.0
"""How often the server is asked whether it listens."""
RETRY_S = 1.0
"""Wait before a lost connection is opened again."""
_SLICE_S = 0.2

_log = logging.getLogger(__name__)


class KeyWatch:
    """Watches for changed keys until it is closed.

    Args:
        database: whose keys.
        told: the keyring.
    """

    def __init__(self, database: Database, told: Told) -> None:
        self._database = database
        self._told = told
        self._sql = queries.load("keys")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallybook-keys", daemon=True)

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread.start()

    def close(self) -> None:
        """Stop; takes a quarter of a second at most."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._closing.is_set():
            try:
                connection = self._database.connect(purpose="keys watch", patience_s=PATIENCE_S)
                with contextlib.closing(connection):
                    self._watch(connection)
            except Unavailable as error:
                if not told:
                    _log.warning("changes of keys are not heard now: %s", error)
                told = True
                self._closing.wait(RETRY_S)
            else:
                told = False

    def _watch(self, connection: Connection[TupleRow]) -> None:
        with lost_connections():
            connection.execute(SQL("LISTEN {}").format(Identifier(CHANNEL)))
            # What was changed before that was not heard.
            self._told.forget()
            beat_at = 0.0
            while not self._closing.is_set():
                if time.monotonic() >= beat_at:
                    beat_at = time.monotonic() + BEAT_S
                    self._beat(connection)
                self._hear(connection, _SLICE_S)

    def _beat(self, connection: Connection[TupleRow]) -> None:
        row = connection.execute(self._sql["hears"], {"channel": CHANNEL}).fetchone()
        # What came with the answer counts before the answer does.
        self._hear(connection, 0)
        if row and row[0]:
            self._told.heard()

    def _hear(self, connection: Connection[TupleRow], timeout_s: float) -> None:
        for notification in connection.notifies(timeout=timeout_s):
            self._told.forget(notification.payload)
