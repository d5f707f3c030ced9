"""Draws: one capture, or expiry, of one hold, and how its usage is posted. Pure.

Of one hold one usage event is recorded; what comes later restates it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger.domain.catalog import Catalog
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.corrections import apply_pending
from ledger.domain.entries import Entry, Posting, UsageAdjusted, UsageRecorded, UsageRerated
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation
from ledger.domain.hold_usage import (
    CALL,
    WHO,
    attribution,
    event_of,
    filled,
    micro,
    pay,
    quantities_of,
)
from ledger.domain.holds import EXPIRED, OPEN, REFUSED, UNMATCHED, VOIDED, HoldAnswer, HoldState
from ledger.domain.ledger import CorrectionState, LedgerState, standing_posting
from ledger.domain.postings import rated_posting, reversal_of
from ledger.domain.promises import lowered, taken
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import Binding, HoldCaptured, HoldPromised
from ledger.domain.reversals import around
from ledger.domain.shapes import CompiledShape
from ledger.domain.usage import UsageEvent, key_digest, scaled_quantities


class Posted(msgspec.Struct):
    """What a capture posts.

    Attributes:
        before: entries before the money: shape definitions, undone reversals.
        money: the usage or its restatement; None where nothing is posted.
        after: entries after it.
        old: what stood; None for the first capture.
        new: what stands from now on; None if the event was voided.
        shape: of ``new``.
        first: the usage event is recorded here.
        usage: its source and id.
    """

    before: list[Entry]
    money: UsageRecorded | UsageRerated | None
    after: list[Entry]
    old: Posting | None
    new: Posting | None
    shape: CompiledShape | None
    first: bool
    usage: tuple[str, str]


class Standing(msgspec.Struct, frozen=True):
    """What stands of a hold's usage event.

    Attributes:
        usage: its source and id.
        correction: what corrections say of it.
        posting: without evidence; None after a void.
        shape: of ``posting``; None after a void.
        adjusted: quantities of an adjustment, canonical, which count instead of any captured ones.
    """

    usage: tuple[str, str]
    correction: CorrectionState
    posting: Posting | None
    shape: CompiledShape | None
    adjusted: dict[str, str] | None


def standing_of(state: LedgerState, hold: HoldState | None, known: Known) -> Standing | None:
    """Return what stands of a hold's usage event; None before one, and of a lease, which has many.

    Raises:
        InvariantViolation: an adjustment is not where the corrections say.
    """
    if hold is None or not hold.usage[0] or hold.kind == "lease":
        return None
    correction = state.corrections.get(key_digest(*hold.usage)) or CorrectionState()
    place = correction.standing or (hold.usage_version, hold.usage_index)
    posting = standing_posting(known.entry(place))
    if posting is None:
        return Standing(hold.usage, correction, None, None, None)
    adjusted = None
    if correction.adjust is not None:
        entry = known.entry(correction.adjust)
        if not isinstance(entry, UsageAdjusted):
            raise InvariantViolation(f"{correction.adjust} is no adjustment")
        adjusted = quantities_of(entry.meters, entry.quantities)
    shape = state.shapes[posting.shape]
    return Standing(hold.usage, correction, _bare(posting), shape, adjusted)


class Draw:
    """One capture of one hold, known or not; or its expiry."""

    def __init__(
        self,
        state: LedgerState,
        guard: Protection,
        hold: HoldState | None,
        id: str,
        known: Known,
        catalog: Catalog,
        now: int,
        *,
        by_usage: bool = False,
    ) -> None:
        self.state = state
        self.guard = guard
        self.hold = hold
        self.id = id
        self.known = known
        self.catalog = catalog
        self.now = now
        self.additive = hold is not None and hold.kind == "lease"
        self.by_usage = by_usage
        self.asked = False
        self.standing = standing_of(state, hold, known)

    def decide(
        self,
        event: UsageEvent,
        key: bytes,
        fingerprint: bytes,
        *,
        final: bool,
        defaulted: bool,
        own: bytes | None = None,
    ) -> Decision:
        """Return the entries and the answer.

        Args:
            event: what is captured.
            key: of the capture.
            fingerprint: of the capture.
            final: nothing more is to come.
            defaulted: nobody said when it happened.
            own: fingerprint to keep with recorded usage; the capture's where None.
        """
        hold = self.hold
        if self.additive:
            final = final and not self.by_usage
        own = fingerprint if own is None else own
        posted = self.post(event, final=final, defaulted=defaulted, fingerprint=own)
        remaining, bindings, allocations = self._remaining(posted, final=final)
        charge, overrun = self.overrun(posted)
        late = hold is not None and hold.status in (EXPIRED, VOIDED, REFUSED)
        unmatched = self._unmatched()
        meters, numbers = micro(event.quantities)
        by_event = self.by_usage and (hold is None or not hold.version)
        told = (("late", late), ("unmatched", unmatched), ("event", by_event))
        flags = tuple(name for name, holds in told if holds)
        drawn = HoldCaptured(
            self.id,
            "" if posted.first else event.source,
            "" if posted.first else event.id,
            b"" if posted.first else fingerprint,
            self.now,
            final,
            () if self.additive else meters,
            () if self.additive else numbers,
            remaining,
            bindings,
            allocations,
            overrun,
            ("", "") if self.additive else posted.usage,
            posted.first and not self.additive,
            flags,
        )
        entries: list[Entry] = [*posted.before, drawn]
        at = len(posted.before)
        if posted.money is not None:
            entries.append(posted.money)
            if posted.first:
                at += 1
        entries += posted.after
        promised = self._promised(posted, final=final)
        if promised is not None:
            entries.append(promised)
        status = "captured"
        if unmatched:
            status = "captured_unmatched"
        elif late:
            status = "captured_late"
        elif overrun:
            status = "captured_over_hold"
        detail = HoldAnswer(
            self.id,
            amount=remaining,
            currency=self.state.currency,
            provider=event.provider,
            model=event.model,
            charge=charge,
            overrun=overrun,
        )
        unpriced = posted.shape is not None and posted.shape.unpriced
        outcome = Outcome(status, flags=("unpriced",) if unpriced else (), detail=detail)
        return Decision(tuple(entries), outcome, key, fingerprint, at)

    def post(
        self, event: UsageEvent, *, final: bool, defaulted: bool, fingerprint: bytes
    ) -> Posted:
        """Return the usage event of a first capture, or its restatement."""
        if self.standing is None:
            return self._first(event, final=final, defaulted=defaulted, fingerprint=fingerprint)
        return self.restate(event, self.standing, final=final, defaulted=defaulted)

    def take_from(self, asked: UsageEvent, before: Sequence[Entry]) -> list[Entry]:
        """Return the restatement of usage that came before its authorization; [] for none.

        What no capture said is as the hold asked. A usage event said it all but for whom.

        Args:
            asked: what the authorization says.
            before: entries of the same decision that may define shapes.
        """
        hold, standing = self.hold, self.standing
        if hold is None or standing is None or standing.posting is None or standing.shape is None:
            return []
        was = standing.posting
        event = event_of(
            self.state.tenant,
            standing.shape.shape,
            was.extra,
            quantities_of(hold.captured_meters, hold.captured),
            was.occurred_at,
        )
        told = filled(event, asked, WHO if hold.by_event else CALL)
        if told is event:
            return []
        self.asked = True
        posted = self.restate(
            told,
            standing,
            final=hold.final,
            defaulted=was.extra is not None and was.extra.time_defaulted,
            before=before,
        )
        money = [] if posted.money is None else [posted.money]
        return [*posted.before, *money, *posted.after]

    def restate(
        self,
        event: UsageEvent,
        standing: Standing,
        *,
        final: bool,
        defaulted: bool,
        before: Sequence[Entry] = (),
    ) -> Posted:
        """Return what is posted instead of what stands.

        Args:
            event: what stands from now on; where an adjustment stands, but for its quantities.
            standing: what stands.
            final: nothing more is to come.
            defaulted: nobody said when it happened.
            before: entries of the same decision that may define shapes.
        """
        state, usage = self.state, standing.usage
        was, old_shape = standing.posting, standing.shape
        if was is None or old_shape is None:
            return Posted([], None, [], None, None, None, False, usage)
        event = msgspec.structs.replace(
            event,
            source=usage[0],
            quantities=event.quantities if standing.adjusted is None else standing.adjusted,
        )
        reversed_ = reversal_of(state, old_shape, was)
        numbers, decimals = scaled_quantities(event.quantities)
        posting, shape, defined = rated_posting(
            state,
            self.catalog,
            event,
            numbers,
            decimals,
            at=was.occurred_at if event.occurred_at is None else event.occurred_at,
            extra=self._restated_extra(event, was.extra or Extra(), defaulted=defaulted),
            before=before,
            without=(old_shape, was),
        )
        posting = msgspec.structs.replace(
            posting,
            extra=pay(
                state,
                shape,
                posting.charge,
                posting.extra,
                back=reversed_.extra or Extra(),
                correction=standing.correction,
                hold=self.hold,
                keeps=self._keeps(was, posting, shape, final=final),
            ),
        )
        undone, again = around(state, usage, standing.correction, was, posting, shape, self.now)
        restated = UsageRerated(*usage, "captured", reversed_, posting)
        return Posted([*defined, *undone], restated, again, was, posting, shape, False, usage)

    def _restated_extra(self, event: UsageEvent, was: Extra, *, defaulted: bool) -> Extra:
        """Return attribution and evidence: a capture has the attribution that stands."""
        if self.by_usage or self.asked:
            return attribution(event, self.id, defaulted=defaulted)
        return msgspec.structs.replace(
            was,
            raw=event.raw.encode(),
            request_id=event.request_id or was.request_id,
            time_defaulted=defaulted,
            leaf_charges=(),
            leaf_costs=(),
            leaf_before=(),
            credit=(),
            owed=0,
        )

    def _first(
        self, event: UsageEvent, *, final: bool, defaulted: bool, fingerprint: bytes
    ) -> Posted:
        state = self.state
        numbers, decimals = scaled_quantities(event.quantities)
        extra = attribution(event, self.id, defaulted=defaulted)
        if fingerprint:
            extra = msgspec.structs.replace(extra, fingerprint=fingerprint)
        at = event.occurred_at or self.now
        posting, shape, defined = rated_posting(
            state, self.catalog, event, numbers, decimals, at=at, extra=extra
        )
        keeps = self._keeps(None, posting, shape, final=final)
        paid = pay(state, shape, posting.charge, posting.extra, hold=self.hold, keeps=keeps)
        posting = msgspec.structs.replace(posting, extra=paid)
        recorded = UsageRecorded(
            event.id, at, posting.shape, numbers, posting.charge, posting.cost, paid
        )
        after: list[Entry] = []
        if state.pending:
            before = [*defined, recorded]
            after = apply_pending(
                *(state, shape, recorded, self.known, self.catalog, before),
                hold=self.hold,
                keeps=keeps,
            )
        usage = (event.source, event.id)
        return Posted(list(defined), recorded, after, None, posting, shape, True, usage)

    # -- what stays reserved ----------------------------------------------------------

    def _keeps(
        self, old: Posting | None, new: Posting, shape: CompiledShape, *, final: bool
    ) -> tuple[tuple[int, int], ...]:
        """Return what the hold goes on reserving of grants once this is posted."""
        hold = self.hold
        if hold is None or hold.status != OPEN or not hold.allocations:
            return ()
        if final and not self.additive:
            return ()
        drawn = new.charge * shape.charge_factor
        if old is not None:
            drawn -= old.charge * self.state.shapes[old.shape].charge_factor
        left = max(0, sum(part for _, part in hold.allocations) - max(drawn, 0))
        return self.guard.credit.kept(hold.allocations, left)

    def _remaining(
        self, posted: Posted, *, final: bool
    ) -> tuple[int, tuple[Binding, ...], tuple[tuple[int, int], ...]]:
        hold = self.hold
        if hold is None or hold.status != OPEN or final:
            return 0, (), ()
        state = self.state
        new, shape = posted.new, posted.shape
        if new is None or shape is None:
            return hold.amount, hold.bindings, hold.allocations
        old = posted.old
        drawn = new.charge * shape.charge_factor
        if old is not None:
            drawn -= old.charge * state.shapes[old.shape].charge_factor
        bindings = []
        for number, start, bound in hold.bindings:
            budget = self.guard.budgets[number]
            took = budget.of_posting(shape, new)
            if old is not None:
                took -= budget.of_posting(state.shapes[old.shape], old)
            left = max(0, bound - max(took, 0))
            if left:
                bindings.append((number, start, left))
        keeps = self._keeps(old, new, shape, final=final)
        return max(0, hold.amount - max(drawn, 0)), tuple(bindings), keeps

    def _promised(self, posted: Posted, *, final: bool) -> HoldPromised | None:
        """Return what the hold goes on promising; None where that stays as it is, or is over."""
        hold = self.hold
        if hold is None or hold.status != OPEN or final or not hold.promises:
            return None
        state, old = self.state, posted.old
        old_shape = None if old is None else state.shapes[old.shape]
        left = lowered(
            hold.promises,
            taken(old_shape, old, state.timezone),
            taken(posted.shape, posted.new, state.timezone),
        )
        return None if left == hold.promises else HoldPromised(hold.id, left)

    def _unmatched(self) -> bool:
        """Tell whether usage came before the authorization, so that nothing was ever reserved."""
        hold = self.hold
        return hold is None or hold.status == UNMATCHED or hold.code == "created_resolved"

    def overrun(self, posted: Posted) -> tuple[int, int]:
        """Return the hold's charge and what of it is beyond what was reserved."""
        new, shape, hold = posted.new, posted.shape, self.hold
        if new is None or shape is None:
            return 0, 0
        charge = new.charge * shape.charge_factor
        if hold is None or self._unmatched():
            return charge, 0
        if self.additive:
            return charge, hold.overrun + max(0, charge - hold.amount)
        return charge, max(0, charge - hold.reserved)


def _bare(posting: Posting) -> Posting:
    """Return a posting without the evidence that the usage entry keeps already."""
    extra = posting.extra
    if extra is None or not (extra.raw or extra.fingerprint):
        return posting
    return msgspec.structs.replace(
        posting, extra=msgspec.structs.replace(extra, raw=b"", fingerprint=b"")
    )
