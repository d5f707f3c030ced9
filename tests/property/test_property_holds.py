"""The ledger and a plain-Python model of cost protection, driven together, never disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fakes import hold_values as hv
from fakes.building import adjust, usage, void
from fakes.hold_model import Model
from fakes.hold_strategies import (
    HOLD_IDS,
    INPUT,
    MONEY,
    OUTPUT,
    SECOND,
    amounts,
    asks,
    backs,
    capture_document,
    document,
    quantities,
    scaled,
    stored,
    terms,
    time_text,
    who,
)
from fakes.hold_values import Ask, Quantities, Rung, Terms, Who
from fakes.hold_world import START, World, assert_rows_are_the_fold
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ledger.application.asks import (
    authorize_hold,
    capture_hold,
    extend_hold,
    progress_hold,
    reverse_charge,
    void_hold,
)
from ledger.domain.commands import Command, Outcome
from ledger.domain.entries import decode_commit
from ledger.domain.holds import ExpireHolds
from ledger.domain.protection_commands import ConfirmBudget, WaiveCap
from ledger.domain.protection_entries import (
    BudgetSet,
    BudgetStepReached,
    HoldAuthorized,
    HoldCaptured,
    HoldExpired,
    HoldVoided,
)


class HoldMachine(RuleBasedStateMachine):
    """Drives the ledger and the model with the same commands."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.model = Model(START, waived=True)
        self.captured = 0

    def teardown(self) -> None:
        """Close the world, after its rows were found to be what the log implies."""
        try:
            assert_rows_are_the_fold(self.world)
        finally:
            self.world.close()

    def run(self, command: Command) -> Outcome:
        """Let the model's clock come to what the command's batch will see, then run it."""
        self.model.now = self.world.now
        self.model.expire()
        return self.world.run(command)

    def pick(self, data: st.DataObject) -> str:
        """Draw a hold to do something with: mostly an open one, now and then an unknown one."""
        kind = data.draw(st.sampled_from(["open"] * 7 + ["known", "any"]))
        holds = self.model.holds
        ids = [one.id for one in holds.values() if kind == "known" or one.status == "open"]
        unused = [id for id in HOLD_IDS if id not in holds]
        if kind == "open" and not ids and unused:
            self.authorize(unused[0], data.draw(asks), False)
            return unused[0]
        return data.draw(st.sampled_from(ids if ids and kind != "any" else HOLD_IDS))

    def fresh(self, data: st.DataObject, prefix: str) -> str:
        """Draw an id: mostly one that was not used."""
        self.captured += 1
        old = f"{prefix}{data.draw(st.integers(1, self.captured))}"
        return data.draw(st.sampled_from([f"{prefix}{self.captured}"] * 5 + [old]))

    # -- rules ----------------------------------------------------------------------------

    @initialize(waived=st.booleans(), first=terms(), second=terms())
    def begin(self, waived: bool, first: Terms, second: Terms) -> None:
        """Start with two budgets, with or without having waived the default cap."""
        self.model = Model(START, waived=waived)
        if waived:
            self.run(WaiveCap("acme", "test"))
        self.set_budget(first)
        self.set_budget(second)

    @rule(terms=terms())
    def set_budget(self, terms: Terms) -> None:
        """Set a budget, change one, or replace one by another of its name."""
        self.model.now = self.world.now
        self.model.expire()
        self.world.run(ExpireHolds("acme"))
        outcome = self.world.set_budget(stored(terms))
        assert outcome.status in ("accepted", "unchanged"), outcome
        self.model.set_budget(terms)

    @precondition(lambda self: self.model.live())
    @rule(data=st.data(), change=st.sampled_from(["limit", "close", "open", "end"]))
    def change_budget(self, data: st.DataObject, change: str) -> None:
        """Raise or lower a limit, close, open again, or end a budget."""
        terms = data.draw(st.sampled_from([one.terms for one in self.model.live()]))
        members = dict(vars(terms))
        if change == "limit":
            members["limit"] = Decimal(data.draw(st.sampled_from([5, 10, 20, 40])))
            members["steps"] = (Rung("stop", members["limit"]),)
        else:
            members["state"] = {"close": "closed", "open": "open", "end": "ended"}[change]
        self.set_budget(Terms(**members))

    @rule(id=st.sampled_from(HOLD_IDS), ask=asks, dry=st.booleans())
    def authorize(self, id: str, ask: Ask, dry: bool) -> None:
        """Ask whether a call may be made; now and then only what the answer would be."""
        command = authorize_hold(document(id, ask), tenant="acme")
        self.model.now = self.world.now
        self.model.expire()
        if dry and self.model.capped:
            before = self.world.state.version
            told = self.run(authorize_hold(document(id, ask), tenant="acme", dry=True))
            self.check_authorized(id, told, self.model.authorize(id, ask, dry=True))
            assert not any(isinstance(one, HoldAuthorized) for one in self.since(before))
        outcome = self.run(command)
        self.check_authorized(id, outcome, self.model.authorize(id, ask))

    @rule(id=st.sampled_from(HOLD_IDS))
    def authorize_again(self, id: str) -> None:
        """Ask with the same id and the same ask."""
        hold = self.model.holds.get(id)
        assume(hold is not None and hold.ask is not None)
        assert hold is not None
        assert hold.ask is not None
        self.authorize(id, hold.ask, False)

    def check_authorized(self, id: str, outcome: Outcome, expected: hv.Answer) -> None:
        """Compare an answer to an authorization."""
        if expected.code.startswith("exists_with_different_ttl"):
            assert outcome.status.startswith("exists_with_different_ttl"), outcome
        else:
            assert outcome.status == expected.code, (expected, outcome)
        answer = outcome.detail
        if expected.code.startswith("invalid_"):
            return
        assert answer is not None
        assert answer.decision == expected.decision, (expected, outcome)
        if not expected.code.startswith("exists_with"):
            assert answer.amount == expected.amount * MONEY, (expected, outcome)
        if expected.decision.startswith("allow"):
            assert answer.model == expected.model, (expected, outcome)

    @rule(
        data=st.data(),
        step=st.integers(1, 3),
        amount=amounts,
        drawn=quantities,
        ttl=st.sampled_from([0, 60, 600]),
    )
    def extend(
        self, data: st.DataObject, step: int, amount: Decimal, drawn: Quantities, ttl: int
    ) -> None:
        """Reserve up to a target; of a hold by amount by amount, of others by quantities."""
        id = self.pick(data)
        hold = self.model.holds.get(id)
        by_amount = hold is None or hold.ask is None or hold.ask.amount is not None
        members: dict[str, Any] = {"amount": amount} if by_amount else {"quantities": drawn}
        if ttl:
            members["ttl"] = ttl
        command = extend_hold({"step": step, **members}, tenant="acme", hold=id)
        outcome = self.run(command)
        expected = self.model.extend(id, step, amount if by_amount else drawn, ttl)
        assert outcome.status == expected.code, (expected, outcome)
        if expected.code == "extended":
            assert outcome.detail is not None
            assert outcome.detail.amount == expected.amount * MONEY, (expected, outcome)

    @rule(data=st.data(), step=st.integers(1, 3), drawn=quantities)
    def progress(self, data: st.DataObject, step: int, drawn: Quantities) -> None:
        """Keep a checkpoint."""
        id = self.pick(data)
        outcome = self.run(
            progress_hold({"step": step, "quantities": drawn}, tenant="acme", hold=id)
        )
        assert outcome.status == self.model.progress(id, step, drawn).code, outcome

    @rule(
        data=st.data(),
        drawn=quantities,
        final=st.booleans(),
        model=st.sampled_from(["", "", "small", "big"]),
        back=backs,
    )
    def capture(
        self, data: st.DataObject, drawn: Quantities, final: bool, model: str, back: int | None
    ) -> None:
        """Capture; ids collide now and then, so mutated duplicates come by themselves."""
        id, capture = self.pick(data), self.fresh(data, "c")
        at = None if back is None else self.world.now - back * SECOND
        members = capture_document(capture, drawn, final=final, model=model, at=at)
        outcome = self.run(capture_hold(members, tenant="acme", hold=id))
        expected = self.model.capture(id, capture, drawn, final=final, model=model, at=at)
        assert outcome.status == expected.code, (expected, outcome)

    @rule(data=st.data())
    def capture_again(self, data: st.DataObject) -> None:
        """Send a capture that was taken once more."""
        taken = [key for key in self.model.captures if key[0] == hv.SOURCE]
        assume(taken)
        key = data.draw(st.sampled_from(taken))
        (id, drawn, final, model, at, _), _ = self.model.captures[key]  # type: ignore[misc] # a tuple
        members = capture_document(key[1], dict(drawn), final=final, model=model, at=at)
        outcome = self.run(capture_hold(members, tenant="acme", hold=id))
        assert outcome.status == "exists", outcome

    @rule(
        data=st.data(),
        force=st.booleans(),
    )
    def void_hold(self, data: st.DataObject, force: bool) -> None:
        """Give a hold up."""
        id, name = self.pick(data), self.fresh(data, "v")
        outcome = self.run(void_hold({"void": name, "force": force}, tenant="acme", hold=id))
        expected = self.model.void(id, name, force=force)
        assert outcome.status.startswith(expected.code), (expected, outcome)

    @rule(
        data=st.data(),
        amount=st.integers(1, 8).map(Decimal),
    )
    def reverse(self, data: st.DataObject, amount: Decimal) -> None:
        """Take charge back, of a capture or of any usage event."""
        name = self.fresh(data, "r")
        keys = [*self.model.usages, *self.model.captures, (hv.SOURCE, "c9")]
        source, id = data.draw(st.sampled_from(keys))
        outcome = self.run(
            reverse_charge(
                {"reversal": name, "source": source, "capture": id, "amount": amount},
                tenant="acme",
            )
        )
        expected = self.model.reverse(name, (source, id), amount)
        assert outcome.status.startswith(expected.code), (expected, outcome)

    @rule(
        data=st.data(),
        model=st.sampled_from(["big", "small", "new"]),
        who=who,
        drawn=quantities,
        back=st.sampled_from([0, 600, 4000, 90_000]),
    )
    def record(
        self, data: st.DataObject, model: str, who: Who, drawn: Quantities, back: int
    ) -> None:
        """Record usage that names no hold, now or of an hour or a day ago."""
        id = self.fresh(data, "e")
        at = self.world.now - back * SECOND
        event = usage(
            id,
            time=time_text(at),
            model=model,
            quantities=drawn,
            user=who.user,
            labels={"team": who.label} if who.label else {},
        )
        outcome = self.run(event)
        assert outcome.status == self.model.record(id, model, who, at, drawn), outcome

    @rule(
        data=st.data(),
        drawn=quantities,
        model=st.sampled_from(["big", "big", "small", "new"]),
        who=who,
        back=backs,
    )
    def record_for_a_hold(
        self, data: st.DataObject, drawn: Quantities, model: str, who: Who, back: int | None
    ) -> None:
        """Record a usage event that names a hold: its final capture."""
        id, event_id = self.pick(data), self.fresh(data, "u")
        at = None if back is None else self.world.now - back * SECOND
        event = usage(
            event_id,
            time=None if at is None else time_text(at),
            hold=id,
            model=model,
            quantities=drawn,
            user=who.user,
            labels={"team": who.label} if who.label else {},
        )
        outcome = self.run(event)
        expected = self.model.capture(
            id, event_id, drawn, final=True, model=model, at=at, event=who
        ).code
        words = {"exists": "duplicate", "capture_conflict": "conflict"}
        assert outcome.status == words.get(expected, "accepted"), (expected, outcome)
        if outcome.status == "accepted" and expected != "captured":
            assert expected in outcome.flags, (expected, outcome)

    @rule(data=st.data(), drawn=quantities, kind=st.sampled_from(["void", "adjust"]))
    def correct(self, data: st.DataObject, drawn: Quantities, kind: str) -> None:
        """Take a usage event back or replace its quantities, before it comes or after."""
        early = [("gateway", f"e{self.captured + 1}"), ("gateway", f"u{self.captured + 1}")]
        early += [(hv.SOURCE, f"c{self.captured + 1}"), (hv.EXPIRY, HOLD_IDS[0])]
        unused = [key for key in early if key not in self.model.usages]
        source, id = data.draw(st.sampled_from([*self.model.usages, *unused]))
        if kind == "void":
            done = self.run(void(id, id=f"void {source} {id}", target_source=source))
            self.model.correct((source, id), None)
        else:
            command = adjust(id, id=f"adjust {source} {id}", target_source=source, quantities=drawn)
            done = self.run(command)
            if done.status == "accepted":
                self.model.correct((source, id), drawn)
        assert done.status in ("accepted", "duplicate", "conflict"), done

    @precondition(lambda self: any(one.terms.lowest("confirm") for one in self.model.live()))
    @rule(
        data=st.data(),
        id=st.sampled_from(["k0", "k1", "k2"]),
        ceiling=st.integers(5, 40).map(Decimal),
        soon=st.booleans(),
    )
    def confirm(self, data: st.DataObject, id: str, ceiling: Decimal, soon: bool) -> None:
        """Let a person raise the confirm ceiling of a window."""
        budgets = [one for one in self.model.live() if one.terms.lowest("confirm")]
        budget = data.draw(st.sampled_from(budgets))
        terms = budget.terms
        assume(id not in self.model.confirmations)
        assume(terms.window in ("hour", "day"))
        end = hv.window_end(terms.window, self.world.now)
        until = min(end, self.world.now + 900 * SECOND) if soon else end
        command = ConfirmBudget(
            "acme", id, terms.name, scaled(ceiling, terms), "ann", until if soon else 0
        )
        outcome = self.run(command)
        assume(outcome.status == "accepted")
        self.model.confirm(id, terms.name, ceiling, until)

    @rule(seconds=st.sampled_from([1, 1, 59, 60, 60, 300, 3000, 3600, 7200, 86_400]))
    def wait(self, seconds: int) -> None:
        """Let time pass: over expiries, and over ends of windows."""
        self.world.now += seconds * SECOND
        self.model.now = self.world.now

    @rule(data=st.data())
    def wait_for_expiry(self, data: st.DataObject) -> None:
        """Let time pass to the very microsecond of an expiry, or the one before."""
        due = [one.expires_at for one in self.model.holds.values() if one.status == "open"]
        due = [one for one in due if one > self.world.now + 1]
        assume(due)
        self.world.now = min(due) - data.draw(st.integers(0, 1))
        self.model.now = self.world.now

    @rule()
    def expire(self) -> None:
        """Let a sweeper run."""
        self.run(ExpireHolds("acme"))

    # -- what must always hold --------------------------------------------------------------

    def since(self, version: int) -> list[Any]:
        """Return entries after a commit."""
        return [
            entry
            for commit in self.world.store.commits()[version:]
            for entry in decode_commit(commit.state).entries
        ]

    @invariant()
    def budgets_agree(self) -> None:
        """Spent and held of every budget are what the model sums up."""
        guard = self.world.guard
        assert [one.number for one in guard.live] == [one.number for one in self.model.live()]
        for expected in self.model.live():
            budget = guard.budgets[expected.number]
            terms = expected.terms
            spent, held = guard.used(budget, self.world.now)
            sums = (self.model.spent(expected), self.model.held(expected))
            assert (spent, held) == tuple(scaled(one, terms) for one in sums), (terms, sums)

    @invariant()
    def holds_agree(self) -> None:
        """Every hold is in the same state, and has reserved the same."""
        for id, expected in self.model.holds.items():
            hold = self.world.guard.hold(id)
            assert hold is not None, id
            assert (hold.status, hold.final) == (expected.status, expected.final), (id, expected)
            if hold.status == "open":
                assert hold.expires_at == expected.expires_at
                assert (hold.amount, hold.reserved) == (
                    expected.amount * MONEY,
                    expected.reserved * MONEY,
                )

    @invariant()
    def charges_agree(self) -> None:
        """All that is charged is the price of the quantities that stand."""
        charged = sum(one.charge for one in self.world.state.balances.values())
        assert charged == self.model.total() * MONEY

    @invariant()
    def log_is_sound(self) -> None:
        """A hold ends once, and a step fires once a window."""
        ends: Counter[str] = Counter()
        finals: Counter[str] = Counter()
        fired: Counter[tuple[int, ...]] = Counter()
        ladders: Counter[int] = Counter()
        for entry in self.world.log:
            if isinstance(entry, HoldVoided | HoldExpired):
                ends[entry.id] += 1
            elif isinstance(entry, HoldCaptured) and entry.final:
                finals[entry.id] += 1
                ends[entry.id] += not entry.flags
            elif isinstance(entry, BudgetStepReached):
                assert entry.used >= entry.threshold or entry.kind == "projected"
                fired[entry.budget, ladders[entry.budget], entry.window, entry.step] += 1
            elif isinstance(entry, BudgetSet):
                ladders[entry.number] += 1
        assert all(count <= 1 for count in (*ends.values(), *finals.values())), (ends, finals)
        assert all(count <= 1 for count in fired.values()), fired


@pytest.fixture
def world() -> Iterator[World]:
    """A ledger in memory."""
    opened = World()
    yield opened
    opened.close()


def test_an_extension_of_a_hold_of_nothing_does_not_pass_the_stop(world: World) -> None:
    """Zero is an amount: a hold of it is bound to the cap as any other, and so is what it grows to.

    The extension asks for 100 where the cap is 10.
    """
    world.set_budget(stored(Terms("cap", Decimal(10), (Rung("stop", Decimal(10)),))))
    ask = Ask("big", amount=Decimal(0))
    assert world.run(authorize_hold(document("h0", ask), tenant="acme")).status == "created"
    command = extend_hold({"step": 1, "amount": Decimal(100)}, tenant="acme", hold="h0")
    assert world.run(command).status == "denied_exceeds_budget"


def test_an_extension_with_another_meter_does_not_pass_that_meter_s_stop(world: World) -> None:
    """A cap on output tokens also bounds a hold that was asked for without them."""
    terms = Terms("cap", Decimal(10), (Rung("stop", Decimal(10)),), meters=(OUTPUT,))
    world.set_budget(stored(terms))
    ask = Ask("big", quantities=((INPUT, Decimal(1)),))
    assert world.run(authorize_hold(document("h0", ask), tenant="acme")).status == "created"
    more = {"step": 1, "quantities": {INPUT: Decimal(1), OUTPUT: Decimal(100)}}
    command = extend_hold(more, tenant="acme", hold="h0")
    assert world.run(command).status == "denied_exceeds_budget"


def test_an_expiry_keeps_the_model_that_a_capture_named(world: World) -> None:
    """What a capture says of the model counts before what was asked for, after the expiry too.

    Two tokens cost 4 of the model asked for, and 2 of the one that the response named.
    """
    ask = Ask("big", quantities=((INPUT, Decimal(5)),), ttl=60)
    world.run(authorize_hold(document("h0", ask), tenant="acme"))
    step = {"step": 1, "quantities": {INPUT: Decimal(2)}}
    world.run(progress_hold(step, tenant="acme", hold="h0"))
    said = capture_document("c", {INPUT: Decimal(1)}, final=False, model="small", at=None)
    world.run(capture_hold(said, tenant="acme", hold="h0"))
    world.now += 60 * SECOND
    world.run(ExpireHolds("acme"))
    assert sum(one.charge for one in world.state.balances.values()) == 2 * MONEY


def test_a_step_fires_once_though_two_buckets_change_at_once(world: World) -> None:
    """A rolling budget that starts from usage in two buckets is one window, with one step."""
    for id, time in (("e1", "2026-11-23T09:30:00Z"), ("e2", "2026-11-23T10:05:00Z")):
        world.run(usage(id, time=time, model="big", quantities={INPUT: Decimal(4)}))
    terms = Terms("cap", Decimal(10), (Rung("stop", Decimal(10)),), window="rolling:2h")
    world.set_budget(stored(terms))
    assert len([one for one in world.log if isinstance(one, BudgetStepReached)]) == 1


TestHolds = HoldMachine.TestCase
TestHolds.settings = settings(max_examples=120, stateful_step_count=30, report_multiple_bugs=False)
