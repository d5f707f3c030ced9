"""The ledger's charge is the plan's number: whatever is recorded, corrected, or subscribed when."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from fakes.billing_world import BillingWorld, Clock, memory_world
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.billing_calendar import Holding, Stretch, span_on, stretches_of
from ledger.domain.holds import ReverseCharge
from ledger.domain.money import EXACT, from_scaled
from ledger.domain.plans import Plan
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy

FIRST = datetime(2026, 9, 20, tzinfo=UTC)
HOURS = 24 * 25
PRICES = {"tokens.input": Decimal("0.001"), "tool.calls": Decimal("0.003")}
MODELS: list[dict[str, Any]] = [
    {"model": {"tiers": [{"rate": "0.002"}]}},
    {"included": "1000", "model": {"tiers": [{"rate": "0.01"}]}},
    {"model": {"tiers": [{"up_to": "900", "rate": "0.01"}, {"rate": "0.005", "flat": "3"}]}},
    {"model": {"mode": "volume", "tiers": [{"up_to": "700", "rate": "0.02"}, {"rate": "0.01"}]}},
    {"model": {"tiers": [{"rate": "7", "unit_size": "1000", "blocks": "up"}], "max_amount": "20"}},
    {"window": "day", "model": {"free_quantity": "300", "tiers": [{"rate": "0.01"}]}},
    {"window": "hour", "model": {"tiers": [{"up_to": "500", "rate": "0.01"}, {"rate": "0.1"}]}},
    {
        "model": {
            "tiers": [{"rate": "0.01"}],
            "commitment": {"amount": "9", "overage_factor": "0.5"},
            "discount_percent": "12.5",
        }
    },
]
OPERATIONS = st.one_of(
    st.tuples(
        st.just("use"),
        st.integers(0, HOURS),
        st.sampled_from(["tokens.input", "tokens.input", "tool.calls"]),
        st.sampled_from([0, 1, 300, 500, 900]),
    ),
    st.tuples(st.just("use"), st.just(504), st.just("tokens.input"), st.sampled_from([400, 650])),
    st.tuples(st.just("void"), st.integers(0, 30), st.just(""), st.just(0)),
    st.tuples(st.just("adjust"), st.integers(0, 30), st.just(""), st.integers(0, 900)),
    st.tuples(st.just("subscribe"), st.integers(0, 24), st.just(""), st.integers(0, 5)),
    st.tuples(st.just("reverse"), st.integers(0, 30), st.just(""), st.integers(1, 9)),
)


class Story:
    """One tenant's usage, and what it comes to by hand."""

    def __init__(self, world: BillingWorld, models: list[dict[str, Any]]) -> None:
        self.world = world
        self.usage: dict[str, tuple[datetime, str, int]] = {}
        self.corrected: set[str] = set()
        world.open("acme")
        for number, model in enumerate(models):
            charge = {"name": "tokens", "meters": ["tokens.*"], **model}
            world.publish(name=f"plan{number}", fees=[], charges=[charge])

    def act(self, what: str, number: int, meter: str, amount: int) -> None:
        """Do one thing."""
        known = sorted(self.usage)
        id = known[number % len(known)] if known else ""
        if what == "use":
            at = FIRST + timedelta(hours=number)
            id = self.world.use("acme", at.isoformat(), **{meter.replace(".", "_"): amount})
            self.usage[id] = (at, meter, amount)
        elif what == "subscribe":
            day = (FIRST + timedelta(days=number)).date()
            account = self.holdings()
            if not account or account[-1].from_day <= day:
                # Two anchors may cut the same days out of periods of other lengths.
                anchor = (None, date(2026, 8, 30), date(2026, 8, 31))[amount // 2]
                self.world.subscriptions.subscribe(
                    "acme", f"plan{amount % 2}", from_day=day, anchor=anchor, by="ann"
                )
        elif what == "void" and id:
            self.world.void("acme", id)
            del self.usage[id]
        elif what == "adjust" and id and id not in self.corrected:
            at, meter, _ = self.usage[id]
            self.world.adjust("acme", id, {meter: str(amount)})
            self.usage[id] = (at, meter, amount)
            self.corrected.add(id)
        elif what == "reverse" and id:
            self.world.ledger.run(
                [ReverseCharge("acme", f"r{number}", "gateway", id, amount * 10**16, "test")]
            )

    def holdings(self) -> tuple[Holding, ...]:
        """Return the tenant's subscriptions."""
        place = self.world.store.place("acme")
        return self.world.store.accounts([place.tenant_id])[place.tenant_id].holdings

    def owed(self) -> Decimal:
        """Return what its usage comes to: F of each charge and window, the rest at list prices."""
        total = Decimal(0)
        holdings = self.holdings()
        runs: dict[tuple[Stretch, str], Decimal] = defaultdict(Decimal)
        spans = {}
        for at, meter, quantity in self.usage.values():
            span = span_on(at.date(), timezone="UTC", segments=self.segments())
            stretch = next(
                one
                for one in stretches_of(span, holdings)
                if one.first_day <= at.date() < one.after_day
            )
            spans[stretch] = span
            if meter == "tool.calls" or not stretch.plan:
                total += PRICES[meter] * quantity
                continue
            window = self.plan(stretch).charges[0].window
            form = {"": "", "day": "%d", "hour": "%dT%H"}[window]
            runs[stretch, at.strftime(form)] += quantity
        for (stretch, _), quantity in runs.items():
            [charge] = self.plan(stretch).charges
            model = charge.model_for(
                spans[stretch].period, first_day=stretch.first_day, after_day=stretch.after_day
            )
            total = EXACT.add(
                total, EXACT.subtract(model.charge(quantity), model.charge(Decimal()))
            )
        return total

    def segments(self) -> Any:
        """Return the tenant's cycles."""
        place = self.world.store.place("acme")
        return self.world.store.accounts([place.tenant_id])[place.tenant_id].segments

    def plan(self, stretch: Stretch) -> Plan:
        """Return the plan of a stretch."""
        return self.world.plans.plan(stretch.plan, version=stretch.version).plan

    def charged(self) -> Decimal:
        """Return what the ledger's balances say."""
        assert self.world.memory is not None
        balances = self.world.memory.balances("acme")
        return from_scaled(sum(one.charge for one in balances), 18)

    def burned(self) -> Decimal:
        """Return what prepaid credit paid."""
        assert self.world.memory is not None
        credit = self.world.memory.protection("acme").credit
        assert not credit.owed
        return from_scaled(sum(one.burned for one in credit.grants.values()), 18)


@settings(max_examples=100, deadline=None)
@given(
    models=st.lists(st.sampled_from(MODELS), min_size=2, max_size=2),
    first=st.integers(0, 20),
    operations=st.lists(OPERATIONS, min_size=4, max_size=24),
    reversals=st.booleans(),
)
def test_balance_and_credit_are_the_plan_s_number(
    models: list[dict[str, Any]],
    first: int,
    operations: list[tuple[str, int, str, int]],
    *,
    reversals: bool,
) -> None:
    """After each step the balance is F, by hand, and ample credit has paid exactly that."""
    clock = Clock()
    clock.set("2026-09-20")
    with memory_world(clock) as world:
        story = Story(world, models)
        world.ledger.run(
            [
                SetCreditPolicy("acme", required=True),
                GrantCredit("acme", "g", 10**30),
            ]
        )
        story.act("subscribe", first, "", 0)
        for operation in operations:
            if operation[0] == "reverse" and not reversals:
                continue
            story.act(*operation)
            assert world.unsettled("acme") is None
            assert story.burned() == story.charged()
            if not reversals:
                assert story.charged() == story.owed()
        for id in sorted(story.usage):
            story.act("void", sorted(story.usage).index(id), "", 0)
        assert story.charged() == 0
        assert story.burned() == 0
