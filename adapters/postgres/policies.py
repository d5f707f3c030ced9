"""The default cap in the log, through the eventsourcing library's mapper and event store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import cast

from eventsourcing.persistence import (
    EventStore,
    IntegrityError,
    InterfaceError,
    OperationalError,
)

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.price_books import PriceMapper
from ledger.application.policies import STREAM, CapPolicy, PolicyChanged, PolicyStore
from ledger.application.ports import ConnectionLost


class PostgresPolicies:
    """Stores the default cap in the ledger's log.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # The mapper knows nothing of prices: it stores any event that has a topic of its own.
        self._events = EventStore[str](PriceMapper(), database.recorder)
        self._sql = queries.load("protection_reads")

    def events(self, *, after: int) -> Iterable[CapPolicy.Event]:
        """Return the events after a version, in order."""
        try:
            found = list(self._events.get(STREAM, gt=after))
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the default cap cannot be read now: {error}") from error
        return cast("list[CapPolicy.Event]", found)

    def save(self, policy: CapPolicy) -> None:
        """Append the pending events; see `PolicyStore`."""
        try:
            self._events.put(policy.collect_events())
        except IntegrityError as error:
            raise PolicyChanged(str(error)) from error
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the default cap cannot be saved now: {error}") from error

    def now(self) -> datetime:
        """Return the database's time."""
        try:
            with (
                self._database.datastore.get_connection() as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(self._sql["now"])
                now: datetime = cursor.fetchall()[0]["now"]
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the database's time cannot be read now: {error}") from error
        return now.astimezone(UTC)


def _check_protocol(policies: PostgresPolicies) -> PolicyStore:
    return policies
