"""A plan's versions: an event-sourced stream of publications, none of which is ever edited.

Version n is the n-th publication. Who has a version keeps it until a change of subscription;
retiring a plan only keeps new subscribers away. Times come from the caller.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanMutateAggregate

from ledger.domain.errors import InvalidInput, NotFound, Refused
from ledger.domain.plans import Plan

STREAM_PREFIX = "plan-"


def plan_stream_id(name: str) -> str:
    """Return the id of a plan's stream."""
    return f"{STREAM_PREFIX}{name}"


class PlanVersions(BaseAggregate[str]):
    """All versions of one plan.

    Args:
        plan: the first version.

    Attributes:
        versions: in order of publication; version 1 is the first.
        later: who published each version after the first, and when.
        retired: whether new subscriptions are refused.
    """

    TOPIC = "tb.plan:1"

    @dataclass(frozen=True)
    class Event(CanMutateAggregate[str]):
        """Something that happened to a plan."""

        originator_id: str
        originator_version: int
        timestamp: datetime

    @dataclass(frozen=True)
    class Opened(Event, CanInitAggregate[str]):
        """The plan's first version was published."""

        TOPIC = "tb.plan.opened:1"
        originator_topic: str
        plan: Plan
        by: str

    @dataclass(frozen=True)
    class VersionPublished(Event):
        """Another version was published."""

        TOPIC = "tb.plan.version-published:1"
        plan: Plan
        by: str

        def apply(self, aggregate: PlanVersions) -> None:
            """Add the version; a retired plan is open again."""
            aggregate.versions.append(self.plan)
            aggregate.later.append((self.by, self.timestamp))
            aggregate.retired = False

    @dataclass(frozen=True)
    class PlanRetired(Event):
        """Nobody new gets the plan any more."""

        TOPIC = "tb.plan.retired:1"
        by: str

        def apply(self, aggregate: PlanVersions) -> None:
            """Close the plan to new subscriptions."""
            aggregate.retired = True

    def __init__(self, plan: Plan, by: str) -> None:
        self.name = plan.name
        self.opened_by = by
        self.versions: list[Plan] = [plan]
        self.later: list[tuple[str, datetime]] = []
        self.retired = False

    @property
    def latest(self) -> int:
        """Return the number of the latest version."""
        return len(self.versions)

    @classmethod
    def open(cls, plan: Plan, *, by: str, at: datetime) -> Self:
        """Publish a plan's first version."""
        return cls._create(cls.Opened, id=plan_stream_id(plan.name), plan=plan, by=by, timestamp=at)

    def publish(self, plan: Plan, *, by: str, at: datetime) -> int:
        """Publish a version and return its number; the same content again is no new version.

        Raises:
            InvalidInput: ``invalid_plan`` for another plan's name.
            Refused: ``plan_currency_fixed`` for another currency than the first version's.
        """
        if plan.name != self.name:
            raise InvalidInput(
                f"{plan.name} is no version of {self.name}", code="invalid_plan", pointer="/name"
            )
        currency = self.versions[0].currency
        if plan.currency != currency:
            raise Refused(
                f"{self.name} is in {currency}; a plan in {plan.currency} needs a name of its own",
                code="plan_currency_fixed",
            )
        if plan != self.versions[-1] or self.retired:
            self.trigger_event(self.VersionPublished, plan=plan, by=by, timestamp=at)
        return self.latest

    def retire(self, *, by: str, at: datetime) -> None:
        """Close the plan to new subscriptions; idempotent."""
        if not self.retired:
            self.trigger_event(self.PlanRetired, by=by, timestamp=at)

    def published(self, number: int) -> tuple[str, datetime]:
        """Return who published a version that there is, and when."""
        return (self.opened_by, self.created_on) if number == 1 else self.later[number - 2]

    def at_version(self, number: int) -> Plan:
        """Return a version, retired or not.

        Raises:
            NotFound: ``unknown_plan_version``.
        """
        if not 1 <= number <= self.latest:
            raise NotFound(
                f"{self.name} has no version {number}; it has 1 to {self.latest}",
                code="unknown_plan_version",
            )
        return self.versions[number - 1]
