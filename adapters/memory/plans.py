"""Plans in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from ledger.application.plans import PlanChanged, PlanStore
from ledger.domain.plan_versions import PlanVersions


class MemoryPlans:
    """Keeps plans' events; thread-safe.

    Args:
        clock: returns the time.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._events: dict[str, list[PlanVersions.Event]] = {}

    def names(self) -> Sequence[str]:
        """Return the names of all plans."""
        return sorted(self._events)

    def events(self, name: str, *, after: int) -> Iterable[PlanVersions.Event]:
        """Return a plan's events after a version, in order."""
        return tuple(self._events.get(name, ())[after:])

    def save(self, plan: PlanVersions) -> None:
        """Append the pending events; see `PlanStore`."""
        with self._lock:
            known = self._events.setdefault(plan.name, [])
            pending = [e for e in plan.collect_events() if isinstance(e, PlanVersions.Event)]
            if pending[0].originator_version != len(known) + 1:
                raise PlanChanged(plan.name)
            known.extend(pending)

    def now(self) -> datetime:
        """Return the clock's time."""
        return self._clock()


def _check_protocol(plans: MemoryPlans) -> PlanStore:
    return plans
