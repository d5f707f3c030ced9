"""Cost protection in plain Python, written from docs/spec/holds.md: the obvious way, with lists.

It keeps what was accepted (usage, holds, budgets, confirmations) and computes every sum anew out
of that, in `Decimal`. It knows nothing of entries, shapes, counters or scaled integers; the state
machine in tests/property compares it with the ledger after every step. Instants are microseconds
since the epoch, the zone is UTC, there is one provider, and credit is a model of its own.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fakes.hold_asking import Asking
from fakes.hold_values import (
    EXPIRY,
    SOURCE,
    ZERO,
    Answer,
    Hold,
    Quantities,
    Usage,
    Who,
    call_of,
    filled,
    merged,
    nonzero,
)


class Model(Asking):
    """One tenant's cost protection.

    Args:
        now: the time; set it by assignment and call `expire`.
        waived: whether somebody said "no cap" in as many words.
    """

    # -- the clock ------------------------------------------------------------------------

    def expire(self) -> None:
        """Expire what is due, before any command."""
        due = [
            one
            for one in self.holds.values()
            if one.status == "open" and one.expires_at <= self.now
        ]
        for hold in sorted(due, key=lambda one: (one.expires_at, one.id)):
            assert hold.ask is not None
            posts: Quantities = {}
            if hold.ask.on_expiry == "capture_progress":
                posts = hold.checkpoint[1]
            elif hold.ask.on_expiry == "capture_full":
                posts = merged(hold.estimate, hold.checkpoint[1])
            if posts:
                posts = merged(self._captured(hold), posts)
                usage = hold.usage
                if usage is None:
                    usage = Usage(EXPIRY, hold.id, hold.model, hold.ask.who, hold.expires_at, {})
                    usage.named = False
                self._restate(hold, replace(usage, quantities=posts))
            hold.status = "expired"

    # -- captures ---------------------------------------------------------------------------

    def capture(
        self,
        id: str,
        capture: str,
        quantities: Quantities,
        *,
        final: bool,
        model: str = "",
        at: int | None = None,
        event: Who | None = None,
    ) -> Answer:
        """Record what a call took; recording never refuses.

        Args:
            id: of the hold.
            capture: of the capture, or the usage event.
            quantities: so far.
            final: nothing more comes.
            model: that it names; "" for none.
            at: that it names; None for none.
            event: attribution, of a usage event that names the hold; None for a capture.
        """
        source = SOURCE if event is None else "gateway"
        payload = (id, sorted(quantities.items()), final, model, at, event)
        if (source, capture) in self.captures:
            same = self.captures[source, capture][0] == payload
            return Answer("exists" if same else "capture_conflict")
        hold = self.holds.get(id) or Hold(id)
        asked = hold.ask.who if hold.ask is not None else Who()
        when = at
        if when is None:
            late = hold.status == "expired"
            when = min(self.now, hold.expires_at) if late else self.now
        said = Usage(
            *(source, capture, model or hold.model),
            *(asked if event is None else filled(event, asked), when, quantities, id),
            named=at is not None,
            event=event is not None,
        )
        was = hold.usage
        if was is not None and hold.final:
            if not final:
                return Answer("stale_capture")
            same = nonzero(was.quantities) == nonzero(quantities)
            # Of usage that was voided nothing stands that could differ.
            same = same and (was.void or said.model == was.model)
            return Answer("exists" if same else "capture_conflict")
        if was is not None and not final:
            said = self._merged(hold, was, said)
            same = nonzero(was.quantities) == nonzero(said.quantities)
            if same and (was.void or (was.model, was.at, was.named) == call_of(said)):
                return Answer("stale_capture")
        self.holds[id] = hold
        self.captures[source, capture] = (payload, id)
        if was is not None:
            said = replace(
                was,
                **{name: getattr(said, name) for name in ("model", "at", "quantities", "named")},
                who=said.who if event is not None else was.who,
                event=was.event or said.event,
            )
        self._restate(hold, said)
        hold.final = final
        if hold.status == "unmatched" or hold.code == "created_resolved":
            return Answer("captured_unmatched")
        if hold.status != "open":
            return Answer("captured_late")
        if final:
            hold.status = "captured"
        over = self._posted > hold.reserved
        return Answer("captured_over_hold" if over else "captured")

    @staticmethod
    def _merged(hold: Hold, was: Usage, said: Usage) -> Usage:
        """Return what captures that are not final say together, in whatever order they came.

        The larger quantities, the greatest model of those that were named, the earliest time of
        those that were named.
        """
        models = [one for one in (was.model, said.model) if one not in ("", hold.model)]
        at, named = (said.at, True) if said.named else (was.at, was.named)
        if said.named and was.named:
            at = min(was.at, said.at)
        return replace(
            said,
            quantities=merged(was.quantities, said.quantities),
            model=max(models, default=hold.model),
            at=at,
            named=named,
        )

    @staticmethod
    def _captured(hold: Hold) -> Quantities:
        return hold.usage.quantities if hold.usage is not None else {}

    def _restate(self, hold: Hold, usage: Usage) -> None:
        """Let the hold's one usage event say this; what it posts more than before is drawn."""
        before = {one.number: self.drawn(hold, one.terms) for one in self.budgets}
        charged = self.drawn(hold)
        first = hold.usage is None
        hold.usage = usage
        self._posted = self.drawn(hold)
        if hold.status == "open":
            for budget in self.budgets:
                more = self.drawn(hold, budget.terms) - before[budget.number]
                if budget.number in hold.bindings:
                    left = hold.bindings[budget.number] - max(more, ZERO)
                    hold.bindings[budget.number] = max(left, ZERO)
            hold.amount = max(hold.amount - max(self._posted - charged, ZERO), ZERO)
        self.usages[usage.source, usage.id] = usage
        if first:
            # Corrections that came before change what is charged, not what the call drew.
            usage.void, usage.adjusted = self.early.pop((usage.source, usage.id), (False, None))
        self.compensate(usage)

    def _arrive(self, usage: Usage) -> None:
        key = (usage.source, usage.id)
        self.usages[key] = usage
        usage.void, usage.adjusted = self.early.pop(key, (False, None))

    def void(self, id: str, void: str, *, force: bool = False) -> Answer:
        """Give a hold up."""
        payload = (id, force)
        if void in self.voids:
            return Answer("exists" if self.voids[void] == payload else "exists_with_different_")
        hold = self.holds.get(id)
        if hold is not None and hold.status == "unmatched":
            # Its capture came first, so there is nothing to give up.
            return Answer("hold_already_captured")
        if hold is None:
            self.voids[void] = payload
            hold = self.holds.setdefault(id, Hold(id))
            hold.status = "voided"
            return Answer("voided_unmatched")
        if hold.status != "open":
            return Answer(f"hold_already_{hold.status}")
        if (hold.checkpoint[0] or hold.usage is not None) and not force:
            return Answer("hold_has_progress")
        self.voids[void] = payload
        hold.status = "voided"
        return Answer("voided")

    def reverse(self, reversal: str, key: tuple[str, str], amount: Decimal) -> Answer:
        """Take part of a captured charge back."""
        payload = (key, amount)
        if reversal in self.reversals:
            same = self.reversals[reversal] == payload
            return Answer("exists" if same else "exists_with_different_")
        usage = self.usages.get(key)
        if usage is None and key in self.captures:
            usage = self.holds[self.captures[key][1]].usage
        if usage is None:
            return Answer("capture_not_found")
        if amount > self.charge(usage):
            return Answer("exceeds_capture")
        self.reversals[reversal] = payload
        usage.reversed += amount
        return Answer("reversed")

    # -- usage without a hold, and corrections ------------------------------------------------

    def record(self, id: str, model: str, who: Who, at: int, quantities: Quantities) -> str:
        """Record usage that names no hold."""
        key = ("gateway", id)
        if key in self.usages:
            was = self.usages[key]
            same = (was.model, was.who, was.at) == (model, who, at)
            return "duplicate" if same and was.quantities == quantities else "conflict"
        self._arrive(Usage(*key, model, who, at, quantities))
        return "accepted"

    def correct(self, key: tuple[str, str], quantities: Quantities | None) -> None:
        """Void (None) or adjust an event, whether it is here or not; a void outweighs."""
        usage = self.usages.get(key)
        if usage is None:
            void, adjusted = self.early.get(key, (False, None))
            self.early[key] = (void or quantities is None, quantities or adjusted)
        elif quantities is None:
            usage.void = True
        else:
            usage.adjusted = quantities
        if usage is not None:
            self.compensate(usage)
