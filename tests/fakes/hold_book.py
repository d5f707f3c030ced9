"""The model's memory: what was accepted, and every sum of it, computed anew, in `Decimal`."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from fakes.hold_values import (
    ZERO,
    Ask,
    Budget,
    Hold,
    Quantities,
    Rung,
    Terms,
    Usage,
    Who,
    charge_of,
    counts_at,
    filled,
    measured,
)


class Book:
    """What was accepted of one tenant: usage, holds, budgets; and every sum of it.

    Args:
        now: the time; set it by assignment and call `expire`.
        waived: whether somebody said "no cap" in as many words.
    """

    def __init__(self, now: int, *, waived: bool) -> None:
        self.now = now
        self.capped = waived
        self.budgets: list[Budget] = []
        self.usages: dict[tuple[str, str], Usage] = {}
        self.early: dict[tuple[str, str], tuple[bool, Quantities | None]] = {}
        self.captures: dict[tuple[str, str], tuple[object, str]] = {}
        self.holds: dict[str, Hold] = {}
        self.voids: dict[str, object] = {}
        self.reversals: dict[str, object] = {}
        self.confirmations: dict[str, object] = {}
        self._posted = ZERO

    # -- sums, each out of everything that was accepted --------------------------------

    def live(self) -> list[Budget]:
        """Return the budgets that are not ended."""
        return [one for one in self.budgets if one.terms.state != "ended"]

    def by_name(self, name: str) -> Budget | None:
        """Return the budget that has a name now."""
        return next((one for one in self.live() if one.terms.name == name), None)

    def spent(self, budget: Budget, now: int | None = None) -> Decimal:
        """Return what standing usage counts in the current window."""
        terms = budget.terms
        total = ZERO
        for usage in self.usages.values():
            standing = usage.standing()
            if standing is None or not counts_at(terms.window, usage.at, now or self.now):
                continue
            if self.applies(terms, usage.model, usage.who, standing):
                total += measured(terms, usage.model, standing)
                if terms.measure == "charge" and not terms.meters:
                    total -= usage.reversed
        return total

    def held(self, budget: Budget, now: int | None = None) -> Decimal:
        """Return what open holds reserve in the current window."""
        return sum(
            (
                self.remaining(hold, budget)
                for hold in self.holds.values()
                if counts_at(budget.terms.window, hold.at, now or self.now)
            ),
            ZERO,
        )

    @staticmethod
    def remaining(hold: Hold, budget: Budget) -> Decimal:
        """Return what one hold still reserves in a budget: what captures have not drawn."""
        return hold.bindings.get(budget.number, ZERO) if hold.status == "open" else ZERO

    def used(self, budget: Budget, now: int | None = None) -> Decimal:
        """Return spent + held."""
        return self.spent(budget, now) + self.held(budget, now)

    @staticmethod
    def applies(terms: Terms, model: str, who: Who, quantities: Quantities | None) -> bool:
        """Tell whether a call counts in a budget; the meters of an ask by amount are unknown."""
        if terms.state == "ended" or (terms.models and model not in terms.models):
            return False
        if quantities is not None and terms.meters and not set(terms.meters) & set(quantities):
            return False
        return {
            "tenant": True,
            "user": who.user == terms.value,
            "label": f"team={who.label}" == terms.value,
        }[terms.scope]

    def charge(self, usage: Usage) -> Decimal:
        """Return what stands of a usage event's charge."""
        standing = usage.standing()
        charge = None if standing is None else charge_of(usage.model, standing)
        return ZERO if charge is None else charge - usage.reversed

    def total(self) -> Decimal:
        """Return what all standing usage is charged."""
        return sum((self.charge(usage) for usage in self.usages.values()), ZERO)

    @staticmethod
    def drawn(hold: Hold, terms: Terms | None = None) -> Decimal:
        """Return what a hold's standing usage counts in a budget; without one its charge."""
        standing = hold.usage.standing() if hold.usage is not None else None
        if hold.usage is None or standing is None:
            return ZERO
        if terms is None:
            return charge_of(hold.usage.model, standing) or ZERO
        return measured(terms, hold.usage.model, standing)

    def compensate(self, usage: Usage) -> None:
        """Undo what of the reversals passes what stands of the charge."""
        standing = usage.standing()
        charge = charge_of(usage.model, standing) if standing is not None else ZERO
        usage.reversed = min(usage.reversed, charge or ZERO)

    def learn(self, usage: Usage, ask: Ask) -> None:
        """Let usage that came before its authorization say what nobody said of it."""
        if not usage.event:
            usage.model = usage.model or ask.model
        usage.who = filled(usage.who, ask.who)
        self.compensate(usage)

    def ceiling(self, budget: Budget) -> Decimal | None:
        """Return the confirm ceiling of the current window, raised by what was confirmed."""
        ceiling = budget.terms.lowest("confirm")
        if ceiling is None:
            return None
        raised = [
            to
            for at, until, to in budget.confirmed
            if self.now < until and counts_at(budget.terms.window, at, self.now)
        ]
        return max(ceiling, raised[-1]) if raised else ceiling

    # -- budgets --------------------------------------------------------------------------

    def set_budget(self, terms: Terms) -> None:
        """Give a budget terms; another identity makes another budget."""
        budget = self.by_name(terms.name)
        if budget is not None and budget.terms.identity() == terms.identity():
            budget.terms = terms
        else:
            if budget is not None:
                budget.terms = replace(budget.terms, state="ended")
            self.budgets.append(Budget(len(self.budgets), terms))
        self.capped = self.capped or terms.cap

    def confirm(self, id: str, name: str, ceiling: Decimal, until: int) -> None:
        """Raise the confirm ceiling of the current window."""
        budget = self.by_name(name)
        assert budget is not None
        self.confirmations[id] = (name, ceiling, until)
        budget.confirmed.append((self.now, until, ceiling))

    def default_cap(self) -> None:
        """Give the ledger the cap that it gets with its first authorization."""
        steps = (Rung("inform", Decimal(50)), Rung("warn", Decimal(80)), Rung("stop", Decimal(100)))
        self.set_budget(Terms("default", Decimal(100), steps, window="month"))
