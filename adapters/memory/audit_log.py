"""The audit log and the uses of keys in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from copy import copy
from datetime import date, timedelta
from typing import Self

from msgspec.structs import replace

from ledger.application.audit_log import AuditLine, AuditStore
from ledger.application.key_uses import KeyUse, KeyUseReads, KeyUseStore, KeyUseSum

_EPOCH = date(1970, 1, 1)
_Place = tuple[str, str, int, str, int]


class MemoryAuditLog:
    """Stores lines of the audit log; thread-safe.

    Args:
        clock: microseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._lines: list[AuditLine] = []
        self._bound: str | None = None

    def for_tenant(self, tenant: str) -> Self:
        """Return the lines of one tenant alone."""
        view = copy(self)
        view._bound = tenant
        return view

    def append(self, line: AuditLine) -> None:
        """Add a line; see `AuditStore`."""
        with self._lock:
            self._lines.append(replace(line, number=len(self._lines) + 1, at=self._clock()))

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
        with self._lock:
            found = [
                line
                for line in reversed(self._lines)
                if self._bound in (None, line.tenant)
                and tenant in (None, line.tenant)
                and (before is None or line.number < before)
                and (act is None or line.act == act or line.act.startswith(f"{act}."))
                and who in (None, line.who)
            ]
        return found[:limit]


class MemoryKeyUses:
    """Stores and reports uses of keys; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[_Place, KeyUse] = {}
        self._bound: str | None = None

    def for_tenant(self, tenant: str) -> Self:
        """Return the uses of one tenant's keys alone."""
        view = copy(self)
        view._bound = tenant
        return view

    def add(self, uses: Sequence[KeyUse]) -> None:
        """Add to the rows; see `KeyUseStore`."""
        with self._lock:
            for one in uses:
                place = (one.tenant, one.key, one.day, one.route, one.status)
                known = self._rows.get(place, one)
                self._rows[place] = replace(
                    one,
                    uses=one.uses + (0 if known is one else known.uses),
                    first_at=min(one.first_at, known.first_at),
                    last_at=max(one.last_at, known.last_at),
                )

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
        groups: dict[tuple[str, str, date | None, str, int], list[KeyUse]] = {}
        with self._lock:
            for row in self._rows.values():
                if (
                    self._bound in (None, row.tenant)
                    and tenant in (None, row.tenant)
                    and key in (None, row.key)
                    and (since is None or row.last_at >= since)
                    and (routes is None or row.route in routes)
                ):
                    day = _EPOCH + timedelta(days=row.day) if daily else None
                    place = (row.tenant, row.key, day, row.route, row.status)
                    groups.setdefault(place, []).append(row)
        sums = [
            KeyUseSum(
                tenant=place[0],
                key=place[1],
                day=place[2],
                route=place[3],
                status=place[4],
                uses=sum(one.uses for one in rows),
                first_at=min(one.first_at for one in rows),
                last_at=max(one.last_at for one in rows),
            )
            for place, rows in groups.items()
        ]
        sums.sort(key=lambda one: (-one.last_at, one.tenant, one.key, one.route, one.status))
        return sums[:limit]


def _check_protocols(
    log: MemoryAuditLog, uses: MemoryKeyUses
) -> tuple[AuditStore, KeyUseStore, KeyUseReads]:
    return log, uses, uses
