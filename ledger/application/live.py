"""Live: what whoever waits for a budget is told as soon as it is committed, in every process.

A commit in which a budget reaches a step, or in which a call is refused for what has no step,
carries `News`. The store keeps them beside the log under the commit's position and wakes the
listeners; a `LiveFeed` reads them in the order of the log, so that nothing is missed whatever
happens to the waking.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ledger.domain.budgets import BudgetTerms
from ledger.domain.entries import Entry
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import BudgetStepReached, HoldRefused
from ledger.domain.wide import narrowed, widened

CLOSED = "closed"
"""In place of a step: the budget is closed."""
CREDIT = "credit"
"""In place of a step: prepaid credit had not enough."""
NO_BUDGET = -1
TOLD_BY = (BudgetStepReached, HoldRefused)
"""Entries that may be news."""
_REFUSED = {"budget_closed": CLOSED, "credit": CREDIT}


class Attribution(msgspec.Struct, frozen=True, omit_defaults=True):
    """For whom or what a session works."""

    session: str = ""
    user: str = ""
    project: str = ""
    api_key: str = ""
    conversation: str = ""
    plugin: str = ""
    labels: dict[str, str] = {}

    def in_scope(self, terms: BudgetTerms) -> bool:
        """Tell whether a budget's scope is one of these; what it counts does not matter."""
        if terms.scope == "tenant":
            return True
        if terms.scope == "label":
            name, _, value = terms.value.partition("=")
            return self.labels.get(name) == value
        return bool(getattr(self, terms.scope) == terms.value)


class News(msgspec.Struct, frozen=True, array_like=True):
    """What a commit says to those who wait; numbers are in the budget's measure.

    Attributes:
        step: kind of the step, `CLOSED` or `CREDIT`.
        place: of the step in the ladder; -1 for none.
        budget: number; `NO_BUDGET` for credit.
        window: start of it.
        threshold: what was reached.
        used: spent + held, and asked for a call that was kept back.
        at: when.
        limit_at: for ``projected``: when the limit will be passed.
        forecast: for ``projected``: what the window will come to.
        measure: ``charge``, ``cost`` or a meter; "" where the budget says it.
    """

    step: str
    place: int
    budget: int
    window: int
    threshold: int
    used: int
    at: int
    limit_at: int = 0
    forecast: int = 0
    measure: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Return what tells two news from one that was told twice."""
        return (self.budget, self.window, self.step, self.threshold)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(ext_hook=narrowed)


def news_body(news: News) -> bytes:
    """Return the stored form of news; money is often beyond 64 bits."""
    return _encoder.encode(widened(msgspec.to_builtins(news)))


def news_from(body: bytes) -> News:
    """Return the news of a stored form."""
    return msgspec.convert(_decoder.decode(body), News)


def news_of(entry: Entry, guard: Protection | None) -> list[News]:
    """Return what an entry says to those who wait; nothing for most entries.

    Args:
        entry: of a commit.
        guard: of its ledger.
    """
    if isinstance(entry, BudgetStepReached):
        return [
            News(
                entry.kind,
                entry.step,
                entry.budget,
                entry.window,
                entry.threshold,
                entry.used,
                entry.at,
                entry.limit_at,
                entry.forecast,
            )
        ]
    if isinstance(entry, HoldRefused):
        # A budget that refuses reached a step and says so itself, in this commit or before.
        numbers = guard.names if guard is not None else {}
        return [
            News(
                _REFUSED[reason.code],
                -1,
                NO_BUDGET if reason.code == CREDIT else numbers.get(reason.name, NO_BUDGET),
                reason.window,
                reason.limit,
                reason.spent + reason.held + reason.asked,
                entry.at,
                measure=reason.measure,
            )
            for reason in entry.reasons
            if reason.code in _REFUSED
        ]
    return []


class Told(msgspec.Struct, frozen=True):
    """News as a feed gives them.

    Attributes:
        tenant: whose ledger.
        currency: of it.
        position: of the commit in the log.
        news: what happened.
        terms: of the budget as they are now; None for credit, or a budget that is gone.
    """

    tenant: str
    currency: str
    position: int
    news: News
    terms: BudgetTerms | None

    def concerns(self, attribution: Attribution) -> bool:
        """Tell whether whoever works for this is to hear of it."""
        if self.terms is None:
            return self.news.step == CREDIT
        return attribution.in_scope(self.terms)


class Attached(msgspec.Struct, frozen=True):
    """A connection has taken a session over; see `ledger.application.streams`."""

    tenant: str
    session: str
    attachment: int


class Listener(Protocol):
    """Who is told; called on the feed's thread, so it returns at once."""

    def told(self, news: Sequence[Told]) -> None:
        """Take news, in the order of the log; each comes once."""
        ...

    def attached(self, attached: Attached) -> None:
        """Take note that a session was taken over, by whichever process."""
        ...


class LiveFeed(Protocol):
    """Tells news of all tenants, from whichever process they come."""

    def start(self, listener: Listener) -> Callable[[], None]:
        """Tell what is committed from now on; return what ends it.

        It has begun when this returns: what is committed afterwards is told within a second,
        whatever happens to the connection; while the database is away it is told later.

        Raises:
            Unavailable: the database cannot be reached.
        """
        ...
