"""A tenant with a plan in memory, its calls in flight, and what its state folds to."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

from fakes.hold_world import World, assert_rows_are_the_fold, catalog

from adapters.memory import MemoryBilling, MemoryPlans, MemoryPrices
from ledger.application.asks import (
    authorize_hold,
    capture_hold,
    extend_hold,
    progress_hold,
    void_hold,
)
from ledger.application.plans import Plans
from ledger.application.sequencer import Sequencer
from ledger.application.subscriptions import Subscriptions
from ledger.application.tenant_plans import TenantPlans
from ledger.application.verify_protection import check_reserved
from ledger.domain.budgets import BudgetTerms, Step
from ledger.domain.commands import Outcome
from ledger.domain.holds import HoldAnswer
from ledger.domain.plan_rates import is_of_holds

MONEY = 10**18
Charge = dict[str, Any]
"""A charge of a plan, without its name and its meters."""


class PlanWorld(World):
    """Two processes, one tenant on a plan.

    Args:
        charges: of the plan: one for all tokens, or one for input and one for output.
    """

    def __init__(self, *charges: Charge) -> None:
        super().__init__()
        self.captures = 0
        self.publish(*charges)

    def sequencers_of(self) -> list[Sequencer]:
        """Return both processes; they know plans."""

        def clock() -> datetime:
            return datetime.fromtimestamp(self.now / 10**6, UTC)

        self.billing = MemoryBilling(self.store, clock)
        self.plans = Plans(MemoryPlans(clock))
        source = TenantPlans(self.billing, self.plans)
        # A catalog remembers what plans charge by their names and versions: each world has its own.
        prices = MemoryPrices(self.store, catalog())
        return [Sequencer(self.store, prices, plans=source, retry_delays_s=()) for _ in range(2)]

    def publish(self, *charges: Charge) -> None:
        """Put the tenant on a plan with these charges, from the first of the month on."""
        meters = (["tokens.*"],) if len(charges) == 1 else (["tokens.input"], ["tokens.output"])
        named = [
            {"name": f"charge{number}", "meters": meters[number], **charge}
            for number, charge in enumerate(charges)
        ]
        plan = {
            "name": "team",
            "currency": "USD",
            "cycle": {"anchor": "2026-01-01", "timezone": "UTC"},
            "fees": [],
            "charges": named,
        }
        self.plans.publish(json.dumps(plan), by="ann")
        self.subscriptions = Subscriptions(self.billing, self.plans, lambda tenant, day: 0)
        self.subscriptions.subscribe("acme", "team", from_day=date(2026, 11, 1), by="ann")

    def cap(self, limit: int, *, name: str = "cap", **terms: Any) -> None:
        """Set a cap a month, in units of 10^-18."""
        steps = (Step("stop", 10_000),)
        self.set_budget(BudgetTerms(name, limit, currency="USD", steps=steps, **terms))

    def ask(self, id: str, tokens: int, output: int = 0, **members: Any) -> HoldAnswer:
        """Ask for a call of so many tokens of input and of output."""
        if "amount" not in members:
            members["quantities"] = _quantities(tokens, output)
        document = {"hold": id, "provider": "openai", "model": "big", **members}
        return _detail(self.run(authorize_hold(document, tenant="acme")))

    def extend(self, id: str, step: int, tokens: int, output: int = 0) -> HoldAnswer:
        """Extend a hold to so many tokens in all."""
        document = {"step": step, "quantities": _quantities(tokens, output)}
        return _detail(self.run(extend_hold(document, tenant="acme", hold=id)))

    def progress(self, id: str, step: int, tokens: int, output: int = 0) -> Outcome:
        """Say how far a call is."""
        document = {"step": step, "quantities": _quantities(tokens, output)}
        return self.run(progress_hold(document, tenant="acme", hold=id))

    def capture(self, id: str, tokens: int, output: int = 0, *, final: bool = True) -> HoldAnswer:
        """Capture what a call has used until now."""
        self.captures += 1
        used = _quantities(tokens, output)
        document = {"capture": f"k{self.captures}", "quantities": used, "final": final}
        return _detail(self.run(capture_hold(document, tenant="acme", hold=id)))

    def void(self, id: str) -> Outcome:
        """Give a hold up."""
        return self.run(void_hold({"void": f"v-{id}", "force": True}, tenant="acme", hold=id))

    def charged(self) -> int:
        """Return all that the tenant was charged x 10^18."""
        return sum(one.charge for one in self.state.balances.values())

    def of_holds(self) -> dict[str, int]:
        """Return what open holds promise and reserve of the plan's charges, where it is not 0."""
        running = self.state.running.items()
        return {key: number for key, number in running if number and is_of_holds(key)}


def _quantities(tokens: int, output: int) -> dict[str, str]:
    return {"tokens.input": str(tokens)} | ({"tokens.output": str(output)} if output else {})


def _detail(outcome: Outcome) -> HoldAnswer:
    assert outcome.detail is not None, outcome
    return outcome.detail


def assert_sound(world: PlanWorld) -> None:
    """Assert that rows are what the log folds to, and that what is held is of open holds."""
    assert_rows_are_the_fold(world)
    kept = {key: number for key, number in world.store.accumulators("acme").items() if number}
    folded = {**world.state.accumulators, **world.state.running}
    assert kept == {key: number for key, number in folded.items() if number}
    wrong: list[tuple[object, ...]] = []
    check_reserved(
        guard=world.guard, running=world.state.running, add=lambda *said: wrong.append(said)
    )
    assert wrong == []
