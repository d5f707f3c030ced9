"""Which entries an evidence query returns: those with a posting, or a reversal, that it fits."""

from __future__ import annotations

from collections.abc import Mapping

from ledger.domain.entries import (
    CorrectionApplied,
    Entry,
    Posting,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.invoice_parts import EvidenceQuery
from ledger.domain.periods import to_us
from ledger.domain.plans import Plan
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape

_Countable = UsageRecorded | Posting


class EvidenceFilter:
    """Tells which entries a query returns.

    Args:
        query: what it asks for.
        plan: the version that it names; None where it names none.
    """

    def __init__(self, query: EvidenceQuery, plan: Plan | None) -> None:
        self._query = query
        self._plan = plan
        self._since, self._until = to_us(query.since), to_us(query.until)
        self._known: dict[int, bool] = {}

    def takes(self, entry: Entry, shapes: Mapping[int, CompiledShape]) -> bool:
        """Tell whether an entry is behind the line.

        Args:
            entry: of a commit that the query is about.
            shapes: of the ledger, by number, as far as they are defined by then.
        """
        if isinstance(entry, ChargeReversed):
            return (
                not self._query.meter
                and not self._query.charge
                and self._since <= entry.occurred_at < self._until
                and self._fits(entry.shape, shapes)
            )
        return any(
            self._since <= one.occurred_at < self._until and self._fits(one.shape, shapes)
            for one in postings_in(entry)
            if self._query.meter or self._query.charge
        )

    def _fits(self, number: int, shapes: Mapping[int, CompiledShape]) -> bool:
        known = self._known.get(number)
        if known is None:
            known = self._known[number] = self._matches(shapes[number])
        return known

    def _matches(self, compiled: CompiledShape) -> bool:
        query, shape = self._query, compiled.shape
        if shape.billable == "platform":
            return False
        if query.charge:
            return any(self._charge(compiled, meter) == query.charge for meter in shape.meters)
        if (shape.provider, shape.model, shape.byok) != (query.provider, query.model, query.byok):
            return False
        if not query.meter:
            return True
        if query.meter not in shape.meters or self._charge(compiled, query.meter):
            return False
        card = shape.card
        place = shape.meters.index(query.meter)
        version = card.sell[place].version if card is not None and card.sell else ""
        return version == query.price_version

    def _charge(self, compiled: CompiledShape, meter: str) -> str:
        if self._plan is None:
            return ""
        shape = compiled.shape
        charge = self._plan.charge_for(
            provider=shape.provider, model=shape.model, meter=meter, byok=shape.byok
        )
        return "" if charge is None else charge.name


def postings_in(entry: Entry) -> tuple[_Countable, ...]:
    """Return what an entry posts and reverses; nothing where it is about no usage."""
    if isinstance(entry, UsageRecorded):
        return (entry,)
    if isinstance(entry, UsageVoided):
        return () if entry.reversed is None else (entry.reversed,)
    if isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
        return tuple(one for one in (entry.reversed, entry.posted) if one is not None)
    return ()
