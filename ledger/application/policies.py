"""Policies that hold for all tenants: the default cap, an event-sourced aggregate of one stream.

The stream is in the same log as the ledgers, so whoever follows the log learns of a change. While
nobody has said anything it does not exist, and the built-in default cap applies.

    policies.set_default_cap(Decimal(50), currency="EUR", by="ann")
    policies.default_cap().terms("EUR")
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol, Self

from eventsourcing.domain import BaseAggregate, CanInitAggregate, CanMutateAggregate

from ledger.application import ask_fields as fields
from ledger.application.ports import PolicySource
from ledger.domain.default_cap import DefaultCap
from ledger.domain.errors import InvariantViolation, Refused

STREAM = "policy-default-cap"
"""Stream of the default cap."""
MAX_ATTEMPTS = 5
"""How often a change is tried while others change the policy."""


class CapPolicy(BaseAggregate[str]):
    """What was said of new ledgers' caps.

    Attributes:
        waived: "none", in as many words.
        limits: charge x 10^18 by currency.
        by: who spoke last.
    """

    TOPIC = "tb.policy.default-cap:1"

    @dataclass(frozen=True)
    class Event(CanMutateAggregate[str]):
        """Something that was said."""

        originator_id: str
        originator_version: int
        timestamp: datetime

    @dataclass(frozen=True)
    class Opened(Event, CanInitAggregate[str]):
        """Somebody is about to say something for the first time."""

        TOPIC = "tb.policy.default-cap-opened:1"
        originator_topic: str

    @dataclass(frozen=True)
    class LimitSet(Event):
        """New ledgers of a currency get a cap of this much charge x 10^18 a month."""

        TOPIC = "tb.policy.default-cap-set:1"
        currency: str
        limit: str
        by: str

        def apply(self, aggregate: CapPolicy) -> None:
            """Keep the limit; it counts again if there was none by word."""
            aggregate.limits = {**aggregate.limits, self.currency: int(self.limit)}
            aggregate.waived = False
            aggregate.by = self.by

    @dataclass(frozen=True)
    class Waived(Event):
        """New ledgers get no cap."""

        TOPIC = "tb.policy.default-cap-waived:1"
        by: str

        def apply(self, aggregate: CapPolicy) -> None:
            """Keep that; limits stay for the day when one is set again."""
            aggregate.waived = True
            aggregate.by = self.by

    def __init__(self) -> None:
        self.waived = False
        self.limits: Mapping[str, int] = {}
        self.by = ""

    @classmethod
    def open(cls, *, at: datetime) -> Self:
        """Return a policy that says nothing yet."""
        return cls._create(cls.Opened, id=STREAM, timestamp=at)

    def set_limit(self, currency: str, limit: int, *, by: str, at: datetime) -> None:
        """Set the limit of new ledgers in a currency, x 10^18; the same again changes nothing."""
        if self.waived or self.limits.get(currency) != limit:
            # As text: a limit may be wider than the 64 bits of the stored form's integers.
            self.trigger_event(
                self.LimitSet, currency=currency, limit=str(limit), by=by, timestamp=at
            )

    def waive(self, *, by: str, at: datetime) -> None:
        """Say that new ledgers get no cap; again changes nothing."""
        if not self.waived:
            self.trigger_event(self.Waived, by=by, timestamp=at)

    def value(self) -> DefaultCap:
        """Return what applies."""
        return DefaultCap(waived=self.waived, limits=dict(self.limits), by=self.by)


class PolicyChanged(Exception):
    """Somebody else changed the policy meanwhile; nothing was saved."""


class PolicyStore(Protocol):
    """Where the policy is stored."""

    def events(self, *, after: int) -> Iterable[CapPolicy.Event]:
        """Return the events after a version, in order; one read."""
        ...

    def save(self, policy: CapPolicy) -> None:
        """Append the pending events.

        Raises:
            PolicyChanged: the stream has others at their place.
        """
        ...

    def now(self) -> datetime:
        """Return the database's time."""
        ...


class Policies:
    """Keeps the default cap; thread-safe. It is the write path's `PolicySource`.

    Args:
        store: where the policy is.
    """

    def __init__(self, store: PolicyStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._policy: CapPolicy | None = None
        self._value = DefaultCap()

    def load(self) -> DefaultCap:
        """Return the default cap as it is now; one read."""
        with self._lock:
            return self._current()

    def default_cap(self) -> DefaultCap:
        """Return the default cap as it is now."""
        return self.load()

    def set_default_cap(self, limit: Decimal | str, *, currency: str, by: str) -> DefaultCap:
        """Set the cap of ledgers that never had one, in one currency; the same again is nothing.

        Args:
            limit: charge a month, at least 0, at most 18 decimals.
            currency: of those ledgers, ISO 4217.
            by: who says so.

        Raises:
            InvalidInput: ``invalid_limit``, ``invalid_currency``.
            Refused: ``policy_busy`` if others change it all the time; nothing was saved.
        """
        amount: int = fields.money(limit, "/limit")
        checked: str = fields.currency(currency, "/currency")
        return self._change(lambda policy, at: policy.set_limit(checked, amount, by=by, at=at))

    def waive_default_cap(self, *, by: str) -> DefaultCap:
        """Say in as many words that new ledgers get no cap; again is nothing.

        Raises:
            Refused: ``policy_busy`` if others change it all the time; nothing was saved.
        """
        return self._change(lambda policy, at: policy.waive(by=by, at=at))

    def _change(self, decision: _Decision) -> DefaultCap:
        with self._lock:
            for _ in range(MAX_ATTEMPTS):
                self._current()
                at = self._store.now()
                policy = self._policy or CapPolicy.open(at=at)
                # What fails to be saved must not stay in the aggregate: it is read again.
                self._policy = None
                decision(policy, at)
                if policy.pending_events:
                    try:
                        self._store.save(policy)
                    except PolicyChanged:
                        self._value = DefaultCap()
                        continue
                self._policy = policy
                self._value = policy.value()
                return self._value
        raise Refused(
            "others are changing the default cap all the time; nothing was saved, try again",
            code="policy_busy",
        )

    def _current(self) -> DefaultCap:
        policy = self._policy
        changed = False
        for event in self._store.events(after=policy.version if policy is not None else 0):
            policy = event.mutate(policy)
            changed = True
        if changed:
            if policy is None:
                raise InvariantViolation(f"{STREAM} has events and no policy after them")
            self._policy = policy
            self._value = policy.value()
        return self._value


class _Decision(Protocol):
    def __call__(self, policy: CapPolicy, at: datetime, /) -> None: ...


def _check_protocol(policies: Policies) -> PolicySource:
    return policies
