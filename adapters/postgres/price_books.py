"""Price books in the log, through the eventsourcing library's mapper and event store.

An event's state is MessagePack, deflated: a pull of ten thousand rows is one event of some
hundred kilobytes. Topics are short and versioned (`ledger.domain.price_book`), so a class may
move and a new form gets a new number. Decimals are text.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    EventStore,
    IntegrityError,
    InterfaceError,
    Mapper,
    OperationalError,
    StoredEvent,
    Transcoder,
)
from eventsourcing.utils import get_topic, resolve_topic
from psycopg import Cursor
from psycopg.rows import DictRow

from adapters.postgres import queries
from adapters.postgres.arrays import register
from adapters.postgres.database import Database
from adapters.postgres.recorder import LedgerRecorder
from ledger.application.ports import ConnectionLost
from ledger.application.price_shelf import PricesChanged, PriceStore, StoredPriceEvent
from ledger.application.rerating import UnpricedEvent, UnpricedEvents, WaitingModel
from ledger.domain.errors import InvariantViolation
from ledger.domain.price_book import PriceBook

_encode = msgspec.msgpack.Encoder().encode


@cache
def _decoder(event_class: type[Any]) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(event_class)


class _NoTranscoder(Transcoder):
    """Stands where the library wants one; the mapper below does the whole work."""

    def encode(self, obj: Any) -> bytes:
        raise NotImplementedError

    def decode(self, data: bytes) -> Any:
        raise NotImplementedError


class PriceMapper(Mapper[str]):
    """Maps price book events to stored events and back."""

    def __init__(self) -> None:
        super().__init__(_NoTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[str]) -> StoredEvent:
        """Return the stored form of an event."""
        return StoredEvent(
            originator_id=domain_event.originator_id,
            originator_version=domain_event.originator_version,
            topic=get_topic(type(domain_event)),
            state=zlib.compress(_encode(domain_event), 1),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[str]:
        """Return the event of a stored form.

        Raises:
            InvariantViolation: it cannot be read: the log was changed or is newer than this code.
        """
        try:
            event_class = resolve_topic(stored_event.topic)
            event = _decoder(event_class).decode(zlib.decompress(stored_event.state))
        except Exception as error:
            raise InvariantViolation(
                f"event {stored_event.originator_version} of {stored_event.originator_id}"
                f" ({stored_event.topic}) cannot be read: {error}"
            ) from error
        return cast("DomainEventProtocol[str]", event)


class PriceRecorder(LedgerRecorder):
    """Appends to the log only if no price changed since the caller looked."""

    def _insert_stored_events(
        self, curs: Cursor[Any], stored_events: Sequence[StoredEvent], *, head: int = 0, **_: Any
    ) -> None:
        # The writer lock makes the look and the append one step; the append follows.
        self._lock_table(curs)
        curs.execute(queries.load("prices")["head"])
        now = curs.fetchall()[0]["head"]
        if now != head:
            raise IntegrityError(f"price books are at position {now}, no longer at {head}")
        register(curs)
        self.append(curs, stored_events)


class PostgresPriceBooks:
    """Stores price books in the ledger's log, and finds unpriced usage.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mapper = PriceMapper()
        self._events = EventStore[str](self._mapper, PriceRecorder(database.datastore))
        self._sql = queries.load("prices")

    def _rows(self, name: str, parameters: dict[str, object]) -> list[DictRow]:
        try:
            with (
                self._database.datastore.get_connection() as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(self._sql[name], parameters, binary=True)
                return cursor.fetchall()
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the price books cannot be read now: {error}") from error

    def head(self) -> int:
        """Return the position of the last event of any price book; 0 if there is none."""
        return int(self._rows("head", {})[0]["head"])

    def events(self, *, after: int) -> Iterable[StoredPriceEvent]:
        """Return the events after a position: each book's in order."""
        for row in self._rows("events", {"after": after}):
            event = self._mapper.to_domain_event(
                StoredEvent(
                    originator_id=row["originator_id"],
                    originator_version=row["originator_version"],
                    topic=row["topic"],
                    state=row["state"],
                )
            )
            yield StoredPriceEvent(row["notification_id"], cast("PriceBook.Event", event))

    def save(self, books: Sequence[PriceBook], *, head: int) -> int:
        """Append the books' pending events in one commit; see `PriceStore`."""
        events = [event for book in books for event in book.collect_events()]
        try:
            recordings = self._events.put(events, head=head)
        except IntegrityError as error:
            raise PricesChanged(str(error)) from error
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the price books cannot be saved now: {error}") from error
        return recordings[-1].notification.id

    def now(self) -> datetime:
        """Return the database's time."""
        now: datetime = self._rows("now", {})[0]["now"]
        return now.astimezone(UTC)

    def waiting(self) -> Sequence[WaitingModel]:
        """Return the models that unpriced events are of."""
        return [
            WaitingModel(row["provider"], row["model"], row["events"])
            for row in self._rows("waiting", {})
        ]

    def unpriced(
        self, models: Sequence[WaitingModel], *, chunk: int
    ) -> Iterator[Sequence[UnpricedEvent]]:
        """Yield the events of these models that are unpriced now, in the order of the ledger."""
        wanted = {
            "providers": [one.provider for one in models],
            "models": [one.model for one in models],
        }
        # A held cursor: the server keeps the result, and no transaction stays open meanwhile.
        with (
            self._database.connect(purpose="rating") as connection,
            connection.cursor("unpriced", withhold=True) as cursor,
        ):
            cursor.execute(self._sql["unpriced"], wanted)
            while rows := cursor.fetchmany(chunk):
                yield [UnpricedEvent(*row) for row in rows]


def _check_protocols(books: PostgresPriceBooks) -> tuple[PriceStore, UnpricedEvents]:
    return books, books
