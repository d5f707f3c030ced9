"""Plans in the log, through the eventsourcing library's mapper and event store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from eventsourcing.persistence import (
    EventStore,
    IntegrityError,
    InterfaceError,
    OperationalError,
)

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.price_books import PriceMapper
from ledger.application.plans import PlanChanged, PlanStore
from ledger.application.ports import ConnectionLost
from ledger.domain.plan_versions import STREAM_PREFIX, PlanVersions, plan_stream_id


class PostgresPlans:
    """Stores plans in the ledger's log.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        # The mapper knows nothing of prices: it stores any event that has a topic of its own.
        self._events = EventStore[str](PriceMapper(), database.recorder)
        self._sql = queries.load("billing")

    def names(self) -> Sequence[str]:
        """Return the names of all plans."""
        rows = self._rows("plan_names")
        return [row["originator_id"].removeprefix(STREAM_PREFIX) for row in rows]

    def events(self, name: str, *, after: int) -> Iterable[PlanVersions.Event]:
        """Return a plan's events after a version, in order."""
        try:
            found = list(self._events.get(plan_stream_id(name), gt=after))
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the plans cannot be read now: {error}") from error
        return cast("list[PlanVersions.Event]", found)

    def save(self, plan: PlanVersions) -> None:
        """Append the pending events; see `PlanStore`."""
        try:
            self._events.put(plan.collect_events())
        except IntegrityError as error:
            raise PlanChanged(str(error)) from error
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the plan cannot be saved now: {error}") from error

    def now(self) -> datetime:
        """Return the database's time."""
        now: datetime = self._rows("now")[0]["now"]
        return now.astimezone(UTC)

    def _rows(self, name: str) -> list[dict[str, Any]]:
        try:
            with (
                self._database.datastore.get_connection() as connection,
                connection.cursor() as cursor,
            ):
                cursor.execute(self._sql[name])
                return cursor.fetchall()
        except (InterfaceError, OperationalError) as error:
            raise ConnectionLost(f"the plans cannot be read now: {error}") from error


def _check_protocol(plans: PostgresPlans) -> PlanStore:
    return plans
