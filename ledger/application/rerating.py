"""Rating later: usage that waits for a price, and usage whose price was changed afterwards.

Both run `RerateUsage` commands through the ledger in chunks of 1,000. Each chunk is committed by
itself; a run that was interrupted is simply run again: what was rated is `unchanged` then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Protocol

import msgspec

from ledger.application.engine import Ledger
from ledger.application.ports import CatalogSource
from ledger.application.reads import Reads
from ledger.domain.commands import RerateUsage
from ledger.domain.entries import (
    CorrectionApplied,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.periods import to_us
from ledger.domain.prices import PriceKind
from ledger.domain.shapes import shape_from_body
from ledger.domain.usage import key_digest

CHUNK = 1_000
"""Events of one commit."""
COMMITS_PER_READ = 200


class WaitingModel(msgspec.Struct, frozen=True):
    """A model, as responses name it, with unpriced events."""

    provider: str
    model: str
    events: int


class UnpricedEvent(msgspec.Struct, frozen=True):
    """A standing event without a price."""

    tenant: str
    source: str
    id: str


class UnpricedEvents(Protocol):
    """Finds unpriced usage."""

    def waiting(self) -> Sequence[WaitingModel]:
        """Return the models that unpriced events are of."""
        ...

    def unpriced(
        self, models: Sequence[WaitingModel], *, chunk: int
    ) -> Iterator[Sequence[UnpricedEvent]]:
        """Yield the events of these models that are unpriced now, in the order of the ledger.

        What is rated or recorded while this yields changes nothing in what it yields. Needs
        memory for one chunk only.
        """
        ...


class RatingCounts(msgspec.Struct, frozen=True):
    """What a run of re-rating did.

    Attributes:
        rated: unpriced events that have a price now.
        changed: priced events whose price is another now.
        unpriced: events looked at that stay without a price.
        unchanged: events looked at that are priced as before.
        lost: of those without a price, events that had one.
    """

    rated: int = 0
    changed: int = 0
    unpriced: int = 0
    unchanged: int = 0
    lost: int = 0


class Rerating:
    """Rates events again with the catalog as it is now.

    Args:
        ledger: runs the commands.
        prices: the catalog that the ledger rates with.
        waiting: finds unpriced usage.
        reads: finds a tenant's events.
    """

    def __init__(
        self,
        ledger: Ledger,
        prices: CatalogSource,
        waiting: UnpricedEvents,
        reads: Reads,
    ) -> None:
        self._ledger = ledger
        self._prices = prices
        self._waiting = waiting
        self._reads = reads

    def rate_unpriced(self) -> RatingCounts:
        """Rate the unpriced events of models that have a price by now; idempotent.

        Events that stay unpriced, because a leaf still has no price, are counted and left.
        """
        catalog = self._prices.load()
        known = {
            (priced.row.key.provider, priced.row.key.model)
            for priced in catalog.rows(kind=PriceKind.COST)
        }
        rated = still = 0
        models = []
        for waiting in self._waiting.waiting():
            name = catalog.model_name(waiting.provider, waiting.model)
            if (waiting.provider, name) in known:
                models.append(waiting)
            else:
                still += waiting.events
        for events in self._waiting.unpriced(models, chunk=CHUNK) if models else ():
            outcomes = self._ledger.run(
                [RerateUsage(one.tenant, one.source, one.id, "price_approved") for one in events]
            )
            priced = sum(
                one.status == "accepted" and "unpriced" not in one.flags for one in outcomes
            )
            rated += priced
            still += len(events) - priced
        return RatingCounts(rated=rated, unpriced=still)

    def rerate(
        self, *, tenant: str, start: datetime, end: datetime, reason: str = "price_changed"
    ) -> RatingCounts:
        """Rate a tenant's events of ``[start, end)`` again, posting the differences; idempotent.

        Args:
            tenant: whose.
            start: first instant.
            end: the instant after the last.
            reason: ``price_changed`` or ``plan_changed``, kept with each difference.

        Raises:
            InvalidInput: ``invalid_period`` if the end is not after the start.
            NotFound: ``unknown_tenant``.
        """
        if end <= start:
            raise InvalidInput("the end is not after the start", code="invalid_period")
        events = self._events(tenant, to_us(start), to_us(end), reason)
        changed = still = unchanged = lost = 0
        while chunk := list(islice(events, CHUNK)):
            for outcome in self._ledger.run(chunk):
                if "unpriced" in outcome.flags:
                    still += 1
                    lost += outcome.status == "accepted"
                elif outcome.status == "accepted":
                    changed += 1
                else:
                    unchanged += 1
        return RatingCounts(changed=changed, unpriced=still, unchanged=unchanged, lost=lost)

    def _events(self, tenant: str, start: int, end: int, reason: str) -> Iterator[RerateUsage]:
        """Yield commands for a tenant's events, reading its ledger backwards from now.

        An event counts where any posting of it lies in the time asked for: a capture may have
        moved its call's usage there. One that does not stand there is rated as it was.
        """
        reads = self._reads
        sources: list[str] = []
        moved: set[bytes] = set()
        before: int | None = None
        while commits := reads.commits(tenant=tenant, before=before, limit=COMMITS_PER_READ):
            for version, commit in commits:
                before = version
                for entry in commit.entries:
                    if isinstance(entry, UsageRecorded):
                        if not start <= entry.occurred_at < end:
                            continue
                        if entry.shape >= len(sources):
                            bodies = reads.shapes(tenant)
                            sources = [shape_from_body(body).shape.source for body in bodies]
                        source, id = sources[entry.shape], entry.id
                    elif isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
                        if entry.posted is None or not start <= entry.posted.occurred_at < end:
                            continue
                        source, id = entry.target_source, entry.target_id
                    else:
                        continue
                    digest = key_digest(source, id)
                    if digest in moved:
                        continue
                    if not isinstance(entry, UsageRecorded):
                        # Its recording is yet to come, for the ledger is read backwards.
                        moved.add(digest)
                    yield RerateUsage(tenant, source, id, reason)
