"""The model's answers to asks: authorize, extend, progress."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fakes.hold_book import Book
from fakes.hold_values import (
    LEAST,
    SECOND,
    ZERO,
    Answer,
    Ask,
    Budget,
    Hold,
    Quantities,
    Refused,
    charge_of,
    measured,
    merged,
)


class Asking(Book):
    """Answers what may be done: authorizations, extensions, checkpoints."""

    def authorize(self, id: str, ask: Ask, *, dry: bool = False) -> Answer:
        """Say whether a call may be made."""
        hold = self.holds.get(id)
        if hold is not None and hold.ask is not None:
            if hold.ask != ask:
                return Answer(f"exists_with_different_{_differs(hold.ask, ask)}", "deny")
            if hold.code != "created":
                return hold.first
            if hold.status != "open":
                return Answer("exists", "deny", ZERO, hold.model)
            return Answer("exists", hold.first.decision, hold.amount, hold.model)
        if not self.capped and not dry:
            self.default_cap()
        answer, bindings = self._decide(hold, ask)
        if dry or answer.code in ("confirmation_required", "invalid_amount"):
            return answer
        made = hold or Hold(id)
        self.holds[id] = replace(
            made,
            ask=ask,
            code=answer.code,
            model=answer.model,
            at=self.now,
            amount=answer.amount,
            first=answer,
        )
        made = self.holds[id]
        if answer.code == "created":
            made.status = "open"
            made.expires_at = self.now + ask.ttl * SECOND
            made.reserved = answer.amount
            made.bindings = bindings
            made.estimate = dict(ask.quantities)
        elif answer.code == "created_resolved":
            made.status = "captured"
        elif answer.code != "denied_voided":
            made.status = "refused"
        if made.usage is not None:
            self.learn(made.usage, ask)
        return answer

    def _decide(self, hold: Hold | None, ask: Ask) -> tuple[Answer, dict[int, Decimal]]:
        if hold is not None and hold.status == "voided":
            return Answer("denied_voided", "deny", ZERO, ask.model), {}
        if hold is not None and hold.usage is not None:
            return Answer("created_resolved", "deny", ZERO, ask.model), {}
        downgraded = self._downgrade(ask)
        result = self._fit(ask, ask.model)
        if downgraded:
            instead = self._fit(ask, downgraded)
            if not isinstance(instead, Refused):
                result = instead
            else:
                downgraded = ""
                if instead.code == "confirmation_required" and _denies(result):
                    result = instead
        model = downgraded or ask.model
        if isinstance(result, Refused):
            decision = "confirm" if result.code == "confirmation_required" else "deny"
            return Answer(result.code, decision, ZERO, ask.model), {}
        amount, partial, bindings = result
        decision = "allow_downgraded" if downgraded else "allow_partial" if partial else "allow"
        return Answer("created", decision, amount, model), bindings

    def _applying(self, ask: Ask, model: str) -> list[Budget]:
        quantities = dict(ask.quantities) if ask.amount is None else None
        return [one for one in self.live() if self.applies(one.terms, model, ask.who, quantities)]

    def _downgrade(self, ask: Ask) -> str:
        """Return the model that a downgrade step authorizes instead; "" for none."""
        if ask.amount is not None:
            return ""
        quantities = dict(ask.quantities)
        before = charge_of(ask.model, quantities)
        if before is None:
            return ""
        for budget in self._applying(ask, ask.model):
            need = measured(budget.terms, ask.model, quantities)
            for step in budget.terms.steps:
                if step.kind != "downgrade" or self.used(budget) + need < step.at:
                    continue
                after = charge_of(step.model, quantities)
                if after is not None and after < before:
                    return step.model
        return ""

    def _fit(self, ask: Ask, model: str) -> Refused | tuple[Decimal, bool, dict[int, Decimal]]:
        """Return amount, whether it is less than asked, and what each budget reserves."""
        budgets = self._applying(ask, model)
        quantities = dict(ask.quantities)
        caps = [one for one in budgets if one.terms.cap]
        if any(one.terms.on_unpriced == "deny" and self._unknown(one, ask, model) for one in caps):
            return Refused("denied_unpriced")
        if any(one.terms.state == "closed" for one in budgets):
            return Refused("denied_budget_closed")

        def needs(amount: Decimal) -> dict[int, Decimal]:
            if ask.amount is None:
                return {one.number: measured(one.terms, model, quantities) for one in budgets}
            return {one.number: amount for one in budgets if not self._unknown(one, ask, model)}

        asked = charge_of(model, quantities) or ZERO
        partial = False
        if ask.amount is not None:
            room = self._room(caps)
            if ask.amount == "available":
                rooms = [room, *(self._below(one, self.ceiling(one)) for one in caps)]
                bounded = [one for one in rooms if one is not None]
                if not bounded:
                    return Refused("invalid_amount")
                # Where there is nothing to have, it is as if the least worth having was asked for.
                asked = max(min(bounded), ask.min_amount or LEAST)
            else:
                asked = ask.amount
                least = ask.min_amount
                if room is not None and asked > room and least is not None and room >= least:
                    asked, partial = room, True
        reserve = needs(asked)
        # What is unknown and may pass counts nothing; a cap that is passed already refuses it, too.
        for budget in caps:
            stop = budget.terms.lowest("stop")
            if stop is not None and self.used(budget) + reserve.get(budget.number, ZERO) > stop:
                return Refused("denied_exceeds_budget")
        for budget in caps:
            ceiling = self.ceiling(budget)
            need = reserve.get(budget.number, ZERO)
            if ceiling is not None and self.used(budget) + need > ceiling:
                # An ask of which only a part fits below the stops is not one that a person allows.
                return Refused("denied_exceeds_budget" if partial else "confirmation_required")
        return asked, partial, reserve

    @staticmethod
    def _unknown(budget: Budget, ask: Ask, model: str) -> bool:
        """Tell whether nobody knows what an ask counts in a budget; that is never held as zero."""
        money = budget.terms.measure in ("charge", "cost")
        if ask.amount is not None:
            return not money or bool(budget.terms.meters)
        return money and charge_of(model, dict(ask.quantities)) is None

    def _room(self, caps: list[Budget]) -> Decimal | None:
        """Return the charge that fits below every stop; None where there is none."""
        rooms = [self._below(one, one.terms.lowest("stop")) for one in caps]
        return min((room for room in rooms if room is not None), default=None)

    def _below(self, budget: Budget, ceiling: Decimal | None) -> Decimal | None:
        money = budget.terms.measure in ("charge", "cost") and not budget.terms.meters
        if ceiling is None or not money:
            return None
        return ceiling - self.used(budget)

    def extend(self, id: str, step: int, target: Decimal | Quantities, ttl: int = 0) -> Answer:
        """Reserve up to a charge, or the price of quantities, in all."""
        hold = self.holds.get(id)
        if hold is None or (hold.ask is None and hold.status == "unmatched"):
            return Answer("hold_not_found")
        if hold.step == (step, (target, ttl)):
            return Answer("exists")
        if step <= hold.step[0]:
            return Answer("stale_step")
        if hold.status != "open":
            return Answer("hold_expired" if hold.status == "expired" else "hold_resolved")
        assert hold.ask is not None
        needs = self._targets(hold, target)
        if isinstance(needs, Answer):
            return needs
        after = dict(hold.bindings)
        for budget, need in needs:
            # What captures posted counts towards a target.
            more = need - self.drawn(hold, budget.terms) - after.get(budget.number, ZERO)
            if more > 0:
                if self._refuses(budget, hold, more):
                    return Answer("denied_exceeds_budget")
                after[budget.number] = after.get(budget.number, ZERO) + more
        hold.bindings = after
        charge = charge_of(hold.model, target) if isinstance(target, dict) else target
        more = (charge or ZERO) - self.drawn(hold) - hold.amount
        hold.amount += max(more, ZERO)
        hold.reserved += max(more, ZERO)
        if isinstance(target, dict):
            hold.estimate = merged(hold.estimate, target)
        hold.step = (step, (target, ttl))
        if ttl:
            hold.expires_at = self.now + ttl * SECOND
        return Answer("extended", amount=hold.amount)

    def _targets(
        self, hold: Hold, target: Decimal | Quantities
    ) -> list[tuple[Budget, Decimal]] | Answer:
        """Return what a target needs in every budget that applies, or why that is not known."""
        assert hold.ask is not None
        quantities = target if isinstance(target, dict) else None
        needs = []
        for budget in self.live():
            terms = budget.terms
            bound = hold.bindings.get(budget.number)
            if not bound and not self.applies(terms, hold.model, hold.ask.who, quantities):
                continue
            money = terms.measure in ("charge", "cost")
            if isinstance(target, dict):
                known = not money or charge_of(hold.model, target) is not None
                need = measured(terms, hold.model, target)
            else:
                known, need = money and not terms.meters, target
            if not known and terms.cap and terms.on_unpriced == "deny":
                return Answer("denied_unpriced")
            if known:
                needs.append((budget, need))
        return needs

    def _refuses(self, budget: Budget, hold: Hold, more: Decimal) -> bool:
        """Tell whether a budget has no room for more of a hold that it counts."""
        terms = budget.terms
        if terms.state == "ended":
            return False
        at = self.now if terms.window.startswith("rolling") else hold.at
        limits = [one for one in (terms.lowest("stop"), self.ceiling(budget)) if one is not None]
        return terms.state == "closed" or any(self.used(budget, at) + more > one for one in limits)

    def progress(self, id: str, step: int, quantities: Quantities) -> Answer:
        """Keep a checkpoint."""
        hold = self.holds.get(id)
        if hold is None or (hold.ask is None and hold.status == "unmatched"):
            return Answer("hold_not_found")
        if hold.checkpoint == (step, quantities):
            return Answer("exists")
        if step <= hold.checkpoint[0]:
            return Answer("stale_step")
        if hold.status != "open":
            return Answer("hold_expired" if hold.status == "expired" else "hold_resolved")
        hold.checkpoint = (step, quantities)
        return Answer("progressed")


def _denies(result: object) -> bool:
    """Tell whether nobody may allow what was asked."""
    return isinstance(result, Refused) and result.code != "confirmation_required"


def _differs(one: Ask, other: Ask) -> str:
    """Return the first member, by name, in which two asks differ."""
    flat = [{**vars(ask), "user": ask.who.user, "labels": ask.who.label} for ask in (one, other)]
    return min(name for name in flat[0] if name != "who" and flat[0][name] != flat[1][name])
