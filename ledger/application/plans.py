"""Plans: publish, retire and look up versions; each plan is an event-sourced stream of the log.

plans.publish(document, by="ann")          # version 1, 2, …; the same content is none
plans.plan("team", version=2)
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from ledger.domain.errors import NotFound, Refused
from ledger.domain.plan_versions import PlanVersions
from ledger.domain.plans import Plan, plan_from_json

MAX_ATTEMPTS = 5
"""How often a command is tried while others change the plan."""


class PlanChanged(Exception):
    """Somebody else changed the plan meanwhile; nothing was saved."""


class PlanStore(Protocol):
    """Where plans are stored."""

    def names(self) -> Sequence[str]:
        """Return the names of all plans, sorted."""
        ...

    def events(self, name: str, *, after: int) -> Iterable[PlanVersions.Event]:
        """Return a plan's events after a version, in order."""
        ...

    def save(self, plan: PlanVersions) -> None:
        """Append the pending events.

        Raises:
            PlanChanged: the stream has others at their place.
        """
        ...

    def now(self) -> datetime:
        """Return the database's time."""
        ...


class PlanView(msgspec.Struct, frozen=True):
    """A plan and its versions.

    Attributes:
        name: of the plan.
        latest: number of the latest version.
        retired: whether new subscriptions are refused.
        plan: the version that was asked for.
        version: its number.
        by: who published it.
        at: when.
    """

    name: str
    latest: int
    retired: bool
    plan: Plan
    version: int
    by: str
    at: datetime


class Plans:
    """Keeps plans; thread-safe.

    Args:
        store: where they are.
    """

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._known: dict[str, PlanVersions] = {}

    def publish(self, document: bytes | str, *, by: str) -> PlanView:
        """Publish a version of a plan, its first or its next; the same content is no new version.

        Args:
            document: the plan's JSON.
            by: who does it.

        Raises:
            InvalidInput: as `plan_from_json`.
            Refused: ``plan_currency_fixed``; ``plan_busy`` if others change it all the time.
        """
        plan = plan_from_json(document)
        with self._lock:
            for _ in range(MAX_ATTEMPTS):
                at = self._store.now()
                found = self._load(plan.name)
                if found is None:
                    found = PlanVersions.open(plan, by=by, at=at)
                else:
                    found.publish(plan, by=by, at=at)
                if self._save(found):
                    return _view(found, found.latest)
        raise _busy(plan.name)

    def retire(self, name: str, *, by: str) -> PlanView:
        """Keep new subscriptions away from a plan; idempotent.

        Raises:
            NotFound: ``unknown_plan``.
            Refused: ``plan_busy``.
        """
        with self._lock:
            for _ in range(MAX_ATTEMPTS):
                found = self._existing(name)
                found.retire(by=by, at=self._store.now())
                if self._save(found):
                    return _view(found, found.latest)
        raise _busy(name)

    def plan(self, name: str, *, version: int | None = None) -> PlanView:
        """Return a version of a plan, by default the latest.

        Raises:
            NotFound: ``unknown_plan``, ``unknown_plan_version``.
        """
        with self._lock:
            found = self._known.get(name)
            # What is published stays: a version that is known need not be looked up again.
            if version is None or found is None or version > found.latest:
                found = self._existing(name)
            return _view(found, found.latest if version is None else version)

    def list(self) -> Sequence[PlanView]:
        """Return the latest version of each plan, by name."""
        return [self.plan(name) for name in self._store.names()]

    def _existing(self, name: str) -> PlanVersions:
        found = self._load(name)
        if found is None:
            raise NotFound(f"there is no plan {name[:64]!r}", code="unknown_plan")
        return found

    def _load(self, name: str) -> PlanVersions | None:
        plan = self._known.get(name)
        for event in self._store.events(name, after=plan.version if plan is not None else 0):
            plan = event.mutate(plan)
        if plan is not None:
            self._known[name] = plan
        return plan

    def _save(self, plan: PlanVersions) -> bool:
        # What fails to be saved must not stay in the aggregate: it is read again.
        self._known.pop(plan.name, None)
        if plan.pending_events:
            try:
                self._store.save(plan)
            except PlanChanged:
                return False
        self._known[plan.name] = plan
        return True


def _view(plan: PlanVersions, version: int) -> PlanView:
    document = plan.at_version(version)
    return PlanView(
        plan.name, plan.latest, plan.retired, document, version, *plan.published(version)
    )


def _busy(name: str) -> Refused:
    return Refused(
        f"others are changing {name} all the time; nothing was saved, try again", code="plan_busy"
    )
