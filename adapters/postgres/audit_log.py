"""The audit log and the uses of keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import msgspec
from psycopg import Connection
from psycopg.rows import TupleRow

from adapters.postgres import queries
from adapters.postgres.database import Database
from adapters.postgres.kept import KeptConnection
from adapters.postgres.snapshots import Snapshots
from ledger.application.audit_log import AuditLine, AuditStore
from ledger.application.key_uses import KeyUse, KeyUseReads, KeyUseStore, KeyUseSum
from ledger.domain.periods import to_us


class PostgresAuditLog:
    """Stores lines of the audit log; thread-safe.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._writer = KeptConnection(database, purpose="audit log")
        self._reads = _Reads(database)

    def for_tenant(self, tenant: str) -> Self:
        """Return the lines of one tenant alone."""
        view = copy(self)
        view._reads = self._reads.bound_to(tenant)
        return view

    def append(self, line: AuditLine) -> None:
        """Add a line; see `AuditStore`."""
        row = msgspec.structs.asdict(line)
        row["detail"] = msgspec.json.encode(line.detail).decode()
        self._writer.write(lambda one: one.execute(self._reads.sql["append"], row))

    def list(
        self,
        *,
        tenant: str | None,
        before: int | None,
        limit: int,
        act: str | None,
        who: str | None,
    ) -> Sequence[AuditLine]:
        """Return lines, the newest first."""
        rows = self._reads.rows(
            "list", {"tenant": tenant, "before": before, "limit": limit, "act": act, "who": who}
        )
        return [
            AuditLine(
                number=row[0],
                at=to_us(row[1]),
                tenant=row[2],
                act=row[3],
                who=row[4],
                via=row[5],
                target=row[6],
                request_id=row[7],
                address=row[8],
                outcome=row[9],
                detail=row[10],
            )
            for row in rows
        ]

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reads.close()


class PostgresKeyUses:
    """Stores and reports uses of keys; thread-safe.

    Args:
        database: migrated.
    """

    def __init__(self, database: Database) -> None:
        self._writer = KeptConnection(database, purpose="key uses")
        self._reads = _Reads(database)

    def for_tenant(self, tenant: str) -> Self:
        """Return the uses of one tenant's keys alone."""
        view = copy(self)
        view._reads = self._reads.bound_to(tenant)
        return view

    def add(self, uses: Sequence[KeyUse]) -> None:
        """Add to the rows; see `KeyUseStore`."""
        parameters: dict[str, list[Any]] = {
            "tenants": [one.tenant for one in uses],
            "keys": [one.key for one in uses],
            "days": [one.day for one in uses],
            "routes": [one.route for one in uses],
            "statuses": [one.status for one in uses],
            "uses": [one.uses for one in uses],
            "firsts": [one.first_at for one in uses],
            "lasts": [one.last_at for one in uses],
        }
        self._writer.write(lambda one: one.execute(self._reads.sql["add_uses"], parameters))

    def report(
        self,
        *,
        tenant: str | None = None,
        key: str | None = None,
        since: int | None = None,
        routes: Sequence[str] | None = None,
        daily: bool = False,
        limit: int = 1_000,
    ) -> Sequence[KeyUseSum]:
        """Return uses by key, route and status, those that were used last first."""
        rows = self._reads.rows(
            "report",
            {
                "tenant": tenant,
                "key": key,
                "since": since,
                "routes": None if routes is None else list(routes),
                "daily": daily,
                "limit": limit,
            },
        )
        return [
            KeyUseSum(
                tenant=row[0],
                key=row[1],
                day=row[2],
                route=row[3],
                status=row[4],
                uses=row[5],
                first_at=to_us(row[6]),
                last_at=to_us(row[7]),
            )
            for row in rows
        ]

    def close(self) -> None:
        """Close the connections."""
        self._writer.close()
        self._reads.close()


class _Reads:
    """Snapshots as the engine, or bound to a tenant."""

    def __init__(self, database: Database) -> None:
        self._engine = Snapshots(database, isolated=False)
        self._isolated = Snapshots(database, isolated=True)
        self._bound: str | None = None
        self.sql = queries.load("audit_log")

    def bound_to(self, tenant: str) -> Self:
        """Return the same over one tenant's rows."""
        view = copy(self)
        view._bound = tenant
        return view

    def rows(self, name: str, parameters: dict[str, object]) -> list[TupleRow]:
        """Return the rows of a query."""

        def ask(connection: Connection[TupleRow]) -> list[TupleRow]:
            return connection.execute(self.sql[name], parameters).fetchall()

        if self._bound is None:
            return self._engine.ask(ask)
        return self._isolated.ask(ask, tenants=(self._bound,))

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._engine.close()
        self._isolated.close()


def _check_protocols(
    log: PostgresAuditLog, uses: PostgresKeyUses
) -> tuple[AuditStore, KeyUseStore, KeyUseReads]:
    return log, uses, uses
