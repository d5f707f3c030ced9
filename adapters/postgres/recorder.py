"""The recorder: the eventsourcing library's application recorder over our log.

It differs from the library's in two ways. It takes a transaction-scoped advisory lock instead of
locking the table, so VACUUM and ANALYZE are never blocked; and it sends rows as binary column
arrays instead of an array of composites as text. Tenants' ledgers and the library's own
aggregates (price books, …) go through it into one log with one sequence: the lock makes commit
order equal log order, so a reader that tails the log never misses an entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import StoredEvent, Tracking
from eventsourcing.postgres import (
    PostgresApplicationRecorder,
    PostgresDatastore,
    PostgresTrackingRecorder,
)
from psycopg import Cursor
from psycopg.sql import SQL, Identifier

from adapters.postgres.arrays import byteas, int8s, register, texts

LOG_TABLE = "ledger_log"
TRACKING_TABLE = "projection_tracking"
WRITER_LOCK = 7_461_626_279_001
"""Key of the advisory lock that the one writer at a time holds until its commit."""


class LedgerRecorder(PostgresApplicationRecorder):
    """Application recorder of the ledger's log.

    Args:
        datastore: with text originator ids and the schema of our tables.
    """

    def __init__(self, datastore: PostgresDatastore, **_: Any) -> None:
        super().__init__(datastore, events_table_name=LOG_TABLE)
        # Our migrations own every table; the library must create nothing.
        self.sql_create_statements.clear()
        # Positions are counted under the writer lock, not drawn from a sequence: a sequence
        # leaves holes, and in a database that was copied from another it can step back after
        # a crash.
        self.lock_table_statements = [SQL("SELECT pg_advisory_xact_lock({})").format(WRITER_LOCK)]
        self.insert_columns_statement = SQL(
            "INSERT INTO {table}"
            " (notification_id, originator_id, originator_version, topic, state)"
            " SELECT coalesce((SELECT max(notification_id) FROM {table}), 0) + place,"
            " originator_id, originator_version, topic, state"
            " FROM unnest(%(streams)s, %(versions)s, %(topics)s, %(states)s) WITH ORDINALITY"
            " AS new (originator_id, originator_version, topic, state, place)"
            " RETURNING notification_id"
        ).format(table=Identifier(datastore.schema, LOG_TABLE))
        self.notify_statement = SQL("NOTIFY {}").format(Identifier(self.channel_name))

    def append(self, cursor: Cursor[Any], stored_events: Sequence[StoredEvent]) -> None:
        """Insert stored events in a transaction that holds the writer lock; ids are returned rows.

        Args:
            cursor: one on which, or on whose connection before it, `arrays.register` was called.
            stored_events: in order.
        """
        self._notify_channel(cursor)
        cursor.execute(
            self.insert_columns_statement,
            {
                "streams": texts([str(event.originator_id) for event in stored_events]),
                "versions": int8s([event.originator_version for event in stored_events]),
                "topics": texts([event.topic for event in stored_events]),
                "states": byteas([event.state for event in stored_events]),
            },
        )

    def _insert_stored_events(
        self, curs: Cursor[Any], stored_events: Sequence[StoredEvent], **_: Any
    ) -> None:
        register(curs)
        self._lock_table(curs)
        self.append(curs, stored_events)


class LedgerTrackingRecorder(PostgresTrackingRecorder):
    """Positions of projections, in the table that our migrations own."""

    def __init__(self, datastore: PostgresDatastore, **_: Any) -> None:
        super().__init__(datastore, tracking_table_name=TRACKING_TABLE)
        self.sql_create_statements.clear()

    def advance(self, cursor: Cursor[Any], name: str, position: int) -> None:
        """Move a projection's position forward in the caller's transaction."""
        self._insert_tracking(cursor, Tracking(name, position))
