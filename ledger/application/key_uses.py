"""Uses of keys: counted in memory, written in the background, never in anybody's way.

One row counts the uses of a key on one day, of one route and class of status. Counts are
written at most once a second, and on closing. A crash loses those of the last second; while the
database is away they are kept, and beyond `MAX_ROWS` rows only how many were not written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from datetime import date
from typing import Protocol

import msgspec

from ledger.domain.errors import Unavailable

EVERY_S = 1.0
"""How often counts are written."""
MAX_ROWS = 10_000
"""Most rows that wait to be written."""
_DAY_US = 86_400_000_000

_log = logging.getLogger(__name__)


class KeyUse(msgspec.Struct, frozen=True, kw_only=True):
    """Uses of a key on one day.

    Attributes:
        tenant: of the key; "" for the platform.
        key: id of it.
        day: days since the epoch, in UTC.
        route: template of the route, such as ``/v2/holds/{id}``.
        status: class of the answers: 2 for 200 to 299.
        uses: how many.
        first_at: the first of them, microseconds since the epoch.
        last_at: the last.
    """

    tenant: str
    key: str
    day: int
    route: str
    status: int
    uses: int
    first_at: int
    last_at: int


class KeyUseSum(msgspec.Struct, frozen=True, kw_only=True):
    """Uses of a key over some time.

    Attributes:
        tenant: of the key; "" for the platform.
        key: id of it.
        day: in UTC; None where all days are in one row.
        route: template of the route.
        status: class of the answers.
        uses: how many.
        first_at: the first of them, microseconds since the epoch.
        last_at: the last.
    """

    tenant: str
    key: str
    day: date | None
    route: str
    status: int
    uses: int
    first_at: int
    last_at: int


class KeyUseReads(Protocol):
    """Says which keys are used for what."""

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
        """Return uses by key, route and status, those that were used last first.

        Args:
            tenant: of the keys; "" for the platform, None for all.
            key: only this one.
            since: only days with a use at this time or later, microseconds; None for all.
            routes: only these templates; None for all.
            daily: a row for each day.
            limit: most rows.

        Raises:
            Unavailable: they cannot be read now.
        """
        ...

    def for_tenant(self, tenant: str) -> KeyUseReads:
        """Return the uses of one tenant's keys alone, which the database enforces."""
        ...


class KeyUseStore(Protocol):
    """Where uses are written."""

    def add(self, uses: Sequence[KeyUse]) -> None:
        """Add to the rows of the same tenant, key, day, route and status; all or none.

        Raises:
            Unavailable: nothing was written, or it is unknown whether it was.
        """
        ...


_Place = tuple[str, str, int, str, int]


class KeyUses:
    """Counts uses and writes them down; thread-safe.

    Args:
        store: where they go.
        every_s: how often.
    """

    def __init__(self, store: KeyUseStore, *, every_s: float = EVERY_S) -> None:
        self._store = store
        self._every_s = every_s
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._counts: dict[_Place, list[int]] = {}
        self._lost = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        """Return how many uses were not counted, because too much waited to be written."""
        return self._lost

    def count(self, *, key: str, tenant: str, route: str, status: int, at: int) -> None:
        """Count a use; neither waits nor fails.

        Args:
            key: id of the key.
            tenant: of the key; "" for the platform.
            route: template of the route.
            status: of the answer, such as 200.
            at: when, microseconds since the epoch.
        """
        place = (tenant, key, at // _DAY_US, route, status // 100)
        with self._lock:
            counted = self._counts.get(place)
            if counted is not None:
                counted[0] += 1
                counted[2] = at
            elif len(self._counts) < MAX_ROWS:
                self._counts[place] = [1, at, at]
            else:
                self._lost += 1
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(
                    target=self._run, name="tallybook-key-uses", daemon=True
                )
                self._thread.start()

    def flush(self) -> None:
        """Write what was counted.

        Raises:
            Unavailable: it could not be written, and waits for the next time.
        """
        with self._writing:
            with self._lock:
                counts, self._counts = self._counts, {}
            if not counts:
                return
            try:
                self._store.add([_use(place, counted) for place, counted in counts.items()])
            except Unavailable:
                self._put_back(counts)
                raise
            except BaseException:
                self._lost += sum(uses for uses, _, _ in counts.values())
                raise

    def close(self) -> None:
        """Write what was counted and stop; what cannot be written now is lost, and logged."""
        self._closing.set()
        thread = self._thread
        if thread is not None:
            thread.join()
        try:
            self.flush()
        except Unavailable as error:
            _log.warning("the last uses of keys are lost: %s", error)

    def _run(self) -> None:
        failed = False
        while not self._closing.wait(self._every_s):
            try:
                self.flush()
                failed = False
            except Unavailable as error:
                if not failed:
                    _log.warning("uses of keys cannot be written now: %s", error)
                failed = True
            except Exception:
                # Counting must go on whatever happened to one batch; it is told, not hidden.
                _log.exception("uses of keys could not be written")

    def _put_back(self, counts: dict[_Place, list[int]]) -> None:
        with self._lock:
            for place, (uses, first_at, last_at) in counts.items():
                counted = self._counts.get(place)
                if counted is not None:
                    counted[0] += uses
                    counted[1] = first_at
                elif len(self._counts) < MAX_ROWS:
                    self._counts[place] = [uses, first_at, last_at]
                else:
                    self._lost += uses


def _use(place: _Place, counted: list[int]) -> KeyUse:
    tenant, key, day, route, status = place
    uses, first_at, last_at = counted
    return KeyUse(
        tenant=tenant,
        key=key,
        day=day,
        route=route,
        status=status,
        uses=uses,
        first_at=first_at,
        last_at=last_at,
    )
