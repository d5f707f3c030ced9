"""Whatever comes, and is closed, reopened, finalized or voided when: in the end all is billed."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from fakes.billing_world import BillingWorld, Clock, memory_world
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.billing_account import BillingAccount
from ledger.domain.billing_calendar import months
from ledger.domain.billing_voids import unbilled_voids
from ledger.domain.errors import Refused
from ledger.domain.invoices import InvoiceStatus
from ledger.domain.plan_periods import rate_plan

FIRST = date(2026, 9, 1)
LAST = date(2027, 1, 1)
DAYS = st.integers(0, (LAST - FIRST).days - 1)
USE = st.tuples(st.just("use"), DAYS, st.sampled_from(["tokens_input", "tool_calls"]))
CLOSE = st.tuples(st.just("close"), DAYS, st.just(""))
OTHERS = st.one_of(
    st.tuples(st.just("void"), st.integers(0, 20), st.just("")),
    st.tuples(st.just("finalize"), st.just(0), st.just("")),
    st.tuples(st.just("void invoice"), st.integers(0, 5), st.just("")),
    st.tuples(st.just("reopen"), st.just(0), st.just("")),
    st.tuples(st.just("subscribe"), DAYS, st.sampled_from(["one", "two"])),
)
# Rounds, or short lists of anything would hardly ever have usage after a close.
ROUNDS = st.lists(st.tuples(USE, OTHERS, USE, CLOSE, OTHERS), min_size=2, max_size=5)


class Story:
    """What was done to one tenant, and what follows from it by hand.

    Attributes:
        usage: day, meter and quantity of each event that stands.
        held: plan by the day from which it holds; "" is list prices.
    """

    def __init__(self, world: BillingWorld, clock: Clock) -> None:
        self.world = world
        self.clock = clock
        self.usage: dict[str, tuple[date, str, int]] = {}
        self.held: dict[date, str] = {date.min: ""}
        self._used = 0
        world.open("acme")
        world.publish(name="one")
        world.publish(name="two", fees=[{"name": "base", "amount": "61"}])

    def act(self, what: str, number: int, name: str) -> None:
        """Do one thing; what the rules refuse is left undone."""
        day = FIRST + timedelta(days=number)
        if what == "use":
            self._used += 1
            quantity = 700 * self._used
            at = datetime.combine(day, datetime.min.time(), UTC).isoformat()
            id = self.world.use("acme", at, **{name: quantity})
            self.usage[id] = (day, name, quantity)
        elif what == "void" and self.usage:
            id = sorted(self.usage)[number % len(self.usage)]
            self.world.void("acme", id)
            del self.usage[id]
        elif what == "close":
            self.close(day)
        elif what == "finalize":
            self.world.invoicing.finalize_all(by="ann")
        elif what == "subscribe":
            try:
                self.world.subscriptions.subscribe("acme", name, from_day=day, by="ann")
            except Refused:
                return
            last = self.held[max(one for one in self.held if one <= day)]
            if last != name:
                self.held[day] = name
        elif what == "reopen":
            self.reopen()
        elif what == "void invoice":
            rows = self.world.invoicing.list(status=InvoiceStatus.FINALIZED)
            if rows:
                id = rows[number % len(rows)].id
                with suppress(Refused):
                    self.world.invoicing.move("acme", id, status=InvoiceStatus.VOID, by="ann")

    def close(self, day: date) -> None:
        """Close what is over on a day, without grace."""
        self.clock.set(max(day, self.clock.at.date()).isoformat())
        self.world.periods.close(by="ann", grace_hours=0)

    def reopen(self) -> None:
        """Let two people reopen the latest closed period."""
        closed = [one for one in self.world.periods.status("acme") if one.state == "closed"]
        for by in ("ann", "bob") if closed else ():
            try:
                self.world.periods.reopen(
                    "acme", first_day=closed[-1].first_day, by=by, reason="test"
                )
            except Refused:
                return

    def account(self) -> BillingAccount:
        """Return the tenant's billing account."""
        place = self.world.store.place("acme")
        return self.world.store.accounts([place.tenant_id])[place.tenant_id]

    def heed(self) -> None:
        """Do what the warnings say: reopen from the latest closed period back."""
        while self.world.periods.warnings("acme"):
            last = self.account().last
            assert last is not None
            for by in ("ann", "bob"):
                # One of them may have asked before.
                with suppress(Refused):
                    self.world.periods.reopen(
                        "acme", first_day=last.first_day, by=by, reason="test"
                    )

    def owed(self) -> Decimal:
        """Return what is owed for all days from the first that is billed, by hand."""
        started = [day for day in self.held if day > date.min]
        days = [day for day, _, _ in self.usage.values()]
        total = Decimal(0)
        if not started and not days:
            return total
        cycle = months("UTC")
        period = cycle.period_on(FIRST)
        while period.first_day < LAST:
            edges = [one for one in sorted(self.held) if one < period.after_day]
            inside = [one for one in edges if one > period.first_day]
            starts = [period.first_day, *inside]
            for start, after in zip(starts, [*inside, period.after_day], strict=True):
                plan = self.held[max(one for one in edges if one <= start)]
                sums: dict[str, Decimal] = defaultdict(Decimal)
                for day, meter, quantity in self.usage.values():
                    if start <= day < after:
                        sums[meter] += quantity
                total += sums["tool_calls"] * Decimal("0.003")
                if not plan:
                    total += sums["tokens_input"] * Decimal("0.001")
                    continue
                tokens = {"tokens": [sums["tokens_input"]]}
                version = self.world.plans.plan(plan).plan
                rated = rate_plan(version, period, tokens, first_day=start, after_day=after)
                total += rated.total
            period = cycle.period_on(period.after_day)
        return total

    def billed(self) -> Decimal:
        """Return what invoices that count have billed of the days before the last."""
        return sum(
            (
                line.unrounded
                for id in self.account().counted
                for line in self.world.invoicing.invoice("acme", id).invoice.lines
                if line.service.first_day < LAST
            ),
            Decimal(0),
        )


@settings(max_examples=60, deadline=None)
@given(rounds=ROUNDS)
def test_everything_is_billed_once_in_the_end(
    rounds: list[tuple[tuple[str, int, str], ...]],
) -> None:
    """Nothing is lost or billed twice, whatever the order was, by invoices that are not void."""
    clock = Clock()
    clock.set(FIRST.isoformat())
    with memory_world(clock) as world:
        story = Story(world, clock)
        for operation in (one for part in rounds for one in part):
            story.act(*operation)
            assert all(not one.standing for one in unbilled_voids(story.account()))
            assert world.unsettled("acme") is None
        story.heed()
        # The first close bills up to the year's end, the second what came too late for it.
        story.close(LAST)
        story.close(LAST + timedelta(days=31))
        account = story.account()
        assert not any(account.invoices[id].status == "void" for id in account.counted)
        assert story.billed() == story.owed()
        world.invoicing.finalize_all(by="ann")
        assert all(not one.missing for one in world.invoicing.series())
