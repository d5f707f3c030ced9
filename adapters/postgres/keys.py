"""Keys in the log, and the look-up that a keyring makes for a token it does not know.

A key's stream is named after its id, which is in the token: the log's primary key finds it, and no
table of keys has to be kept beside. The commit that changes keys tells their ids on the channel
`CHANNEL`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol, cast

from eventsourcing.persistence import (
    EventStore,
    IntegrityError,
    InterfaceError,
    OperationalError,
    StoredEvent,
)
from psycopg import Connection, Cursor
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.arrays import register
from adapters.postgres.database import Database
from adapters.postgres.kept import KeptConnection
from adapters.postgres.price_books import PriceMapper
from adapters.postgres.recorder import LedgerRecorder
from ledger.application.keyring import KeyFound, KeySource
from ledger.application.keys import STREAM_PREFIX, ApiKey, KeyChanged, KeyStore, fold
from ledger.application.ports import ConnectionLost
from ledger.domain.errors import Unavailable
from ledger.domain.periods import to_us

CHANNEL = "tallybook_keys"
"""Channel on which the id of each changed key is told, by the commit that changes it."""


class Told(Protocol):
    """Who wants to know of changed keys: a keyring."""

    def forget(self, id: str | None = None) -> None:
        """Read a key again before its next use; all of them without an id."""
        ...

    def heard(self) -> None:
        """Take note that nothing was missed up to now."""
        ...


class KeyRecorder(LedgerRecorder):
    """Appends keys' events to the log, and tells whose they are."""

    def _insert_stored_events(
        self,
        curs: Cursor[Any],
        stored_events: Sequence[StoredEvent],
        *,
        only_first: bool = False,
        **_: Any,
    ) -> None:
        sql = queries.load("keys")
        self._lock_table(curs)
        if only_first:
            # The writer lock makes the look and the append one step.
            curs.execute(sql["any"])
            if curs.fetchall()[0]["found"]:
                raise IntegrityError("there is a key already")
        ids = {str(event.originator_id).removeprefix(STREAM_PREFIX) for event in stored_events}
        curs.execute(sql["tell"], {"channel": CHANNEL, "ids": sorted(ids)})
        register(curs)
        # Last: the library reads the ids that the append returns.
        self.append(curs, stored_events)


class PostgresKeys:
    """Stores keys in the ledger's log; thread-safe.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # The mapper knows nothing of prices: it stores any event that has a topic of its own.
        self._mapper = PriceMapper()
        self._events = EventStore[str](self._mapper, KeyRecorder(database.datastore))
        self._sql = queries.load("keys")
        self._connection = KeptConnection(database, purpose="keys")
        self._told: list[Told] = []

    def tell(self, told: Told) -> None:
        """Tell a keyring of this process what is changed here, before the change is answered."""
        self._told.append(told)

    # -- the use cases' store -----------------------------------------------------------

    def events(self, id: str) -> Iterable[ApiKey.Event]:
        """Return a key's events in order."""
        try:
            found = list(self._events.get(STREAM_PREFIX + id))
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"keys cannot be read now: {error}") from error
        return cast("list[ApiKey.Event]", found)

    def all_events(self) -> Iterable[ApiKey.Event]:
        """Return the events of all keys, each key's in order."""
        return [
            self._event(row["originator_id"], row["originator_version"], row["topic"], row["state"])
            for row in self._rows("events")
        ]

    def save(self, changed: Sequence[ApiKey], *, only_first: bool = False) -> None:
        """Append the pending events in one commit; see `KeyStore`."""
        events = [event for key in changed for event in key.collect_events()]
        try:
            self._events.put(events, only_first=only_first)
        except IntegrityError as error:
            raise KeyChanged(str(error)) from error
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"keys cannot be saved now: {error}") from error
        for told in self._told:
            for key in changed:
                told.forget(key.key.id)

    def now(self) -> datetime:
        """Return the database's time."""
        now: datetime = self._rows("now")[0]["now"]
        return now.astimezone(UTC)

    # -- the keyring's source -----------------------------------------------------------

    def look_up(self, id: str) -> KeyFound:
        """Return a key and the database's time; one statement on a connection of its own.

        Raises:
            Unavailable: ``keys_unavailable``.
        """

        def ask(connection: Connection[TupleRow]) -> list[TupleRow]:
            return connection.execute(
                self._sql["look_up"], {"stream": STREAM_PREFIX + id}, binary=True
            ).fetchall()

        try:
            rows = self._connection.read(ask)
        except Unavailable as error:
            raise Unavailable(
                f"keys cannot be read now: {error}", code="keys_unavailable"
            ) from error
        key = fold(self._event(*row[1:]) for row in rows if row[1] is not None)
        return KeyFound(None if key is None else key.key, to_us(rows[0][0]))

    def close(self) -> None:
        """Close the look-up's connection; the next look-up opens a new one."""
        self._connection.close()

    def _event(self, stream: str, version: int, topic: str, state: bytes) -> ApiKey.Event:
        event = self._mapper.to_domain_event(StoredEvent(stream, version, topic, bytes(state)))
        return cast("ApiKey.Event", event)

    def _rows(self, name: str) -> list[Any]:
        try:
            with (
                self._database.datastore.get_connection() as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(self._sql[name], binary=True)
                return cursor.fetchall()
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"keys cannot be read now: {error}") from error


def _check_protocols(keys: PostgresKeys) -> tuple[KeyStore, KeySource]:
    return keys, keys
