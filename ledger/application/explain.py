"""Explain: one usage event, the figures behind its amounts, and all that happened to it since.

An event is named by its id, by its receipt ``<tenant>:<version>.<index>``, by the provider's id
of the request, or by the id of a correction of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ledger.application.explain_find import entry_of, find_event, receipt_of
from ledger.application.explain_rating import (
    Origin,
    PlanLookup,
    PriceLookup,
    Rating,
    origins,
    rate_posting,
)
from ledger.application.reads import Located, Reads
from ledger.application.recorded import recorded_event, taken_fingerprint
from ledger.domain.entries import (
    ConflictKept,
    CorrectionApplied,
    Posting,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.errors import InvariantViolation
from ledger.domain.money import AMOUNT_DECIMALS, EXACT, from_scaled, plain
from ledger.domain.periods import from_us
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape, shape_from_body
from ledger.domain.usage import UsageEvent, canonical_payload

Kind = Literal["recorded", "void", "adjust", "rerate", "applied", "conflict", "reversal"]
Standing = Literal["recorded", "voided", "adjusted", "rerated"]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Where in the log an entry is.

    Attributes:
        receipt: ``<tenant>:<version>.<index>``.
        commit: number of the commit in the tenant's ledger.
        index: place of the entry there.
        digest: of the commit, hex.
        before: digest of the commit before, hex; "" in the first.
        recorded_at: database time.
        position: notification id of the commit.
    """

    receipt: str
    commit: int
    index: int
    digest: str
    before: str
    recorded_at: datetime
    position: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One step in an event's life.

    Attributes:
        kind: ``recorded``, ``void``, ``adjust``, ``rerate``, ``applied`` (a correction that had
            come before the event takes effect), ``conflict`` or ``reversal``.
        proof: where its entry is.
        source: of the correction's key; "" where it has none.
        id: likewise.
        reason: as given.
        note: what it did, where that is not plain from the amounts.
        took_back: posting that stood until then.
        posted: posting that stands from then on.
        payload: the payload that was refused.
        amount: charge that a reversal took back; negative where one is undone.
    """

    kind: Kind
    proof: Proof
    source: str = ""
    id: str = ""
    reason: str = ""
    note: str = ""
    took_back: Rating | None = None
    posted: Rating | None = None
    payload: Any = None
    amount: Decimal | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All there is to say of a usage event.

    Attributes:
        tenant: whose ledger.
        currency: of its charges.
        timezone: of its days and months.
        book: sell price book.
        source: of the event's key.
        id: of the event's key.
        event: canonical members as recorded, defaults left out.
        occurred_at: as rated.
        time_defaulted: the producer gave no time.
        fingerprint: digest of the canonical payload, hex; of the capture, where one recorded it.
        proof: where the entry is.
        rating: amounts as recorded.
        timeline: in the order of the log; the recording included.
        standing: what it is now.
        stands: the posting that counts now; None after a void.
        charge: what the event counts for in the balance; None while unpriced.
        costs: likewise, by currency.
        recomputed: ``equal``, ``different`` or ``unpriced``; over all its postings.
    """

    tenant: str
    currency: str
    timezone: str
    book: str
    source: str
    id: str
    event: dict[str, Any]
    occurred_at: datetime
    time_defaulted: bool
    fingerprint: str
    proof: Proof
    rating: Rating
    timeline: tuple[Change, ...]
    standing: Standing
    stands: Rating | None
    charge: Decimal | None
    costs: dict[str, Decimal]
    recomputed: Literal["equal", "different", "unpriced"]


def explain(
    *,
    reads: Reads,
    event: str,
    tenant: str | None = None,
    source: str | None = None,
    prices: PriceLookup | None = None,
    plans: PlanLookup | None = None,
) -> Explanation:
    """Explain one usage event.

    Args:
        reads: read models.
        event: id, receipt, provider's request id, or id of a correction.
        tenant: whose; None looks through all ledgers.
        source: of the event; with a tenant it makes the id unambiguous.
        prices: tells where rates come from.
        plans: tells who published what a plan charges.

    Raises:
        NotFound: ``unknown_event``, ``unknown_tenant``.
        AmbiguousId: ``ambiguous_id``, with the candidates.
    """
    located = find_event(reads=reads, event=event, tenant=tenant, source=source)
    return _Explainer(reads, located, prices, plans).explain()


class _Explainer:
    def __init__(
        self,
        reads: Reads,
        located: Located,
        prices: PriceLookup | None,
        plans: PlanLookup | None,
    ) -> None:
        entry = entry_of(located)
        if not isinstance(entry, UsageRecorded):
            raise InvariantViolation(f"{receipt_of(located)} is no usage event")
        self._reads = reads
        self._located = located
        self._entry = entry
        self._origin: Callable[[str], Origin | None] = origins(prices, plans)
        self._shapes = [shape_from_body(body) for body in reads.shapes(located.tenant.tenant)]

    def explain(self) -> Explanation:
        tenant = self._located.tenant
        entry = self._entry
        shape = self._shape(entry.shape)
        event = recorded_event(tenant=tenant.tenant, shape=shape, entry=entry)
        rating = self._rate(entry)
        timeline = self._timeline(shape.shape.source)
        standing, stands = _standing(timeline)
        charge, costs = _counts(timeline)
        return Explanation(
            tenant=tenant.tenant,
            currency=tenant.currency,
            timezone=tenant.timezone,
            book=tenant.book,
            source=event.source,
            id=event.id,
            event=_document(event),
            occurred_at=from_us(entry.occurred_at),
            time_defaulted=event.occurred_at is None,
            fingerprint=taken_fingerprint(tenant=tenant.tenant, shape=shape, entry=entry).hex(),
            proof=_proof(self._located),
            rating=rating,
            timeline=timeline,
            standing=standing,
            stands=stands,
            charge=None if stands is not None and stands.charge is None else charge,
            costs=costs,
            recomputed=_verdict(timeline),
        )

    def _shape(self, number: int) -> CompiledShape:
        return self._shapes[number]

    def _rate(self, posting: Posting | UsageRecorded, *, reversed_: bool = False) -> Rating:
        return rate_posting(
            shape=self._shape(posting.shape),
            posting=posting,
            currency=self._located.tenant.currency,
            origin=self._origin,
            reversed_=reversed_,
        )

    def _maybe(self, posting: Posting | None) -> Rating | None:
        return None if posting is None else self._rate(posting)

    def _taken_back(self, posting: Posting | None, *, as_recorded: bool = False) -> Rating | None:
        return None if posting is None else self._rate(posting, reversed_=not as_recorded)

    def _timeline(self, source: str) -> tuple[Change, ...]:
        tenant = self._located.tenant
        ask = self._reads.history
        places = {
            (one.version, one.index): one
            for one in ask(tenant=tenant.tenant, source=source, id=self._entry.id)
        }
        if tenant.conflicts:
            for one in tuple(places.values()):
                entry = entry_of(one)
                if isinstance(entry, UsageVoided | UsageAdjusted):
                    # A correction's key may have been sent with another payload as well.
                    for other in ask(tenant=tenant.tenant, source=entry.source, id=entry.id):
                        if isinstance(entry_of(other), ConflictKept):
                            places[other.version, other.index] = other
        places[self._located.version, self._located.index] = self._located
        return tuple(self._change(places[place]) for place in sorted(places))

    def _change(self, located: Located) -> Change:
        entry = entry_of(located)
        proof = _proof(located)
        if isinstance(entry, UsageRecorded):
            return Change(kind="recorded", proof=proof, posted=self._rate(entry))
        if isinstance(entry, UsageVoided):
            return Change(
                kind="void",
                proof=proof,
                source=entry.source,
                id=entry.id,
                reason=entry.reason,
                note="came before its event" if entry.reversed is None else "",
                took_back=self._taken_back(entry.reversed),
            )
        if isinstance(entry, UsageAdjusted):
            return Change(
                kind="adjust",
                proof=proof,
                source=entry.source,
                id=entry.id,
                reason=entry.reason,
                note=self._without_effect(located) if entry.posted is None else "",
                took_back=self._taken_back(entry.reversed),
                posted=self._maybe(entry.posted),
            )
        if isinstance(entry, UsageRerated | CorrectionApplied):
            kind: Kind = "rerate"
            reason = note = ""
            if isinstance(entry, UsageRerated):
                reason = entry.reason
            else:
                kind = "applied"
                tenant = located.tenant.tenant
                note = f"by {tenant}:{entry.correction_version}.{entry.correction_index}"
            return Change(
                kind=kind,
                proof=proof,
                reason=reason,
                note=note,
                # What is corrected with its recording is taken back as it was recorded.
                took_back=self._taken_back(entry.reversed, as_recorded=kind == "applied"),
                posted=self._maybe(entry.posted),
            )
        if isinstance(entry, ConflictKept):
            return Change(
                kind="conflict",
                proof=proof,
                source=entry.source,
                id=entry.id,
                note=f"contradicts entry {entry.version}.{entry.index}; charged nothing",
                payload=_payload(entry.payload),
            )
        if isinstance(entry, ChargeReversed):
            return Change(
                kind="reversal",
                proof=proof,
                id=entry.id,
                reason=entry.reason,
                note="" if entry.id else "follows from a correction",
                amount=from_scaled(entry.amount, AMOUNT_DECIMALS),
            )
        raise InvariantViolation(f"{type(entry).__name__} is about no event")

    def _without_effect(self, located: Located) -> str:
        own = (self._located.version, self._located.index)
        if (located.version, located.index) < own:
            return "came before its event"
        return "without effect: the event was voided before"


def _document(event: UsageEvent) -> dict[str, Any]:
    """Return the canonical members, the time in RFC 3339."""
    document: dict[str, Any] = msgspec.json.decode(canonical_payload(event))
    if event.occurred_at is not None:
        document["occurred_at"] = from_us(event.occurred_at).isoformat()
    return document


def _proof(located: Located) -> Proof:
    return Proof(
        receipt=receipt_of(located),
        commit=located.version,
        index=located.index,
        digest=located.digest,
        before=located.commit.before.hex(),
        recorded_at=from_us(located.commit.recorded_at),
        position=located.position,
    )


def _payload(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return payload.hex()


def _standing(timeline: Sequence[Change]) -> tuple[Standing, Rating | None]:
    """Return what an event is after all that happened, and the posting that stands."""
    standing: Standing = "recorded"
    stands: Rating | None = None
    for change in timeline:
        if change.kind == "recorded":
            stands = change.posted
        elif change.took_back is not None:
            stands = change.posted
            if stands is None:
                standing = "voided"
            else:
                standing = "rerated" if change.kind == "rerate" else "adjusted"
    return standing, stands


def _counts(timeline: Sequence[Change]) -> tuple[Decimal, dict[str, Decimal]]:
    """Return the sum of what was posted less what was taken back: charge, costs by currency."""
    charge = Decimal(0)
    costs: dict[str, Decimal] = {}
    add, subtract = EXACT.add, EXACT.subtract
    for change in timeline:
        if change.amount is not None:
            charge = subtract(charge, change.amount)
        for move, rating in ((subtract, change.took_back), (add, change.posted)):
            if rating is None or rating.charge is None or rating.cost is None:
                continue
            charge = move(charge, rating.charge)
            if rating.cost_currency:
                before = costs.get(rating.cost_currency, Decimal(0))
                costs[rating.cost_currency] = move(before, rating.cost)
    return plain(charge), {name: plain(cost) for name, cost in costs.items()}


def _verdict(timeline: Sequence[Change]) -> Literal["equal", "different", "unpriced"]:
    """Return one word for all postings: the worst one, unpriced ones aside."""
    said = {
        rating.recomputed
        for change in timeline
        for rating in (change.took_back, change.posted)
        if rating is not None
    }
    if "different" in said:
        return "different"
    return "equal" if "equal" in said else "unpriced"
