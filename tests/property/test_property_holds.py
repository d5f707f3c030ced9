"""The ledger and a plain-Python model of cost protection, driven together, never disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fakes import hold_model as hm
from fakes.building import adjust, usage, void
from fakes.hold_model import Ask, Model, Quantities, Rung, Terms, Who
from fakes.hold_world import START, World, assert_rows_are_the_fold
from hypothesis import assume, given, settings
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
from ledger.domain.budgets import BudgetTerms, Filter, Step
from ledger.domain.commands import Command, Outcome
from ledger.domain.entries import decode_commit
from ledger.domain.holds import AuthorizeHold, ExpireHolds, ProgressHold
from ledger.domain.protection_commands import ConfirmBudget, WaiveCap
from ledger.domain.protection_entries import (
    BudgetSet,
    BudgetStepReached,
    HoldAuthorized,
    HoldCaptured,
    HoldExpired,
    HoldVoided,
)

MONEY = 10**18
QUANTITY = 10**6
SECOND = 1_000_000
INPUT, OUTPUT = "tokens.input", "tokens.output"
HOLD_IDS = tuple(f"h{n}" for n in range(12))
amounts = st.integers(0, 14).map(Decimal)
who = st.builds(Who, st.sampled_from(["", "ann", "bob"]), st.sampled_from(["", "blue"]))
quantities = st.fixed_dictionaries(
    {INPUT: st.integers(1, 3).map(Decimal)}, optional={OUTPUT: st.integers(0, 3).map(Decimal)}
)
LADDERS = (
    (("stop", 100),),
    (("inform", 50), ("warn", 80), ("stop", 100)),
    (("confirm", 50), ("stop", 100)),
    (("downgrade", 60), ("stop", 100)),
    (("inform", 50), ("projected", 100)),
    (("confirm", 100),),
)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """Draw the terms of a budget: small limits, so that they are reached exactly and often."""
    limit = Decimal(draw(st.sampled_from([15, 30, 60])))
    scope, value = draw(
        st.sampled_from([("tenant", ""), ("tenant", ""), ("user", "ann"), ("label", "team=blue")])
    )
    steps = draw(st.sampled_from(LADDERS))
    return Terms(
        name=draw(st.sampled_from(["one", "two", "three"])),
        limit=limit,
        steps=tuple(
            Rung(kind, limit * percent / 100, "small" if kind == "downgrade" else "")
            for kind, percent in steps
        ),
        scope=scope,
        value=value,
        models=draw(st.sampled_from([(), (), (), ("big",), ("big", "new")])),
        meters=draw(st.sampled_from([(), (), (), (OUTPUT,)])),
        measure=draw(st.sampled_from(["charge", "charge", "charge", "cost", INPUT])),
        window=draw(st.sampled_from(["day", "day", "hour", "month", "lifetime", "rolling:2h"])),
        on_unpriced=draw(st.sampled_from(["deny", "deny", "allow"])),
        state=draw(st.sampled_from(["open"] * 9 + ["closed"])),
    )


backs = st.sampled_from([None, None, 0, 600, 4000])
"""How long ago, in seconds, a capture says that its call was; None where it says nothing."""
asks = st.one_of(
    st.builds(
        Ask,
        st.sampled_from(["big", "big", "small", "new"]),
        who,
        quantities=quantities.map(lambda q: tuple(sorted(q.items()))),
        ttl=st.sampled_from([60, 300, 5400]),
        on_expiry=st.sampled_from(["capture_progress", "capture_progress", "void", "capture_full"]),
    ),
    st.builds(
        Ask,
        st.sampled_from(["big", "small"]),
        who,
        st.one_of(amounts, amounts, st.just("available")),
        ttl=st.sampled_from([60, 300, 5400]),
        on_expiry=st.sampled_from(["capture_progress", "void"]),
    ),
    st.builds(
        Ask,
        st.sampled_from(["big", "small"]),
        who,
        st.integers(5, 25).map(Decimal),
        min_amount=st.integers(1, 5).map(Decimal),
    ),
)


def scaled(value: Decimal, terms: Terms) -> int:
    """Return a number of a budget in the ledger's form."""
    return int(value * (MONEY if terms.measure in ("charge", "cost") else QUANTITY))


def stored(terms: Terms) -> BudgetTerms:
    """Return terms as the ledger has them."""
    return BudgetTerms(
        name=terms.name,
        limit=scaled(terms.limit, terms),
        scope=terms.scope,
        value=terms.value,
        filter=Filter(models=terms.models, meters=terms.meters),
        measure=terms.measure,
        currency="USD" if terms.measure in ("charge", "cost") else "",
        window=terms.window,
        steps=tuple(
            Step(step.kind, 0, scaled(step.at, terms), step.model)  # type: ignore[arg-type] # drawn
            for step in terms.steps
        ),
        on_unpriced=terms.on_unpriced,  # type: ignore[arg-type] # drawn from its words
        state=terms.state,  # type: ignore[arg-type] # drawn from its words
    )


def document(id: str, ask: Ask) -> dict[str, Any]:
    """Return an ask as a caller writes it."""
    members = {
        "hold": id,
        "provider": "openai",
        "model": ask.model,
        "user": ask.who.user,
        "labels": {"team": ask.who.label} if ask.who.label else {},
        "amount": ask.amount,
        "quantities": dict(ask.quantities) if ask.amount is None else None,
        "min_amount": ask.min_amount,
        "ttl": ask.ttl,
        "on_expiry": ask.on_expiry,
    }
    return {name: value for name, value in members.items() if value is not None}


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

    def check_authorized(self, id: str, outcome: Outcome, expected: hm.Answer) -> None:
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
        members = _capture(capture, drawn, final=final, model=model, at=at)
        outcome = self.run(capture_hold(members, tenant="acme", hold=id))
        expected = self.model.capture(id, capture, drawn, final=final, model=model, at=at)
        assert outcome.status == expected.code, (expected, outcome)

    @rule(data=st.data())
    def capture_again(self, data: st.DataObject) -> None:
        """Send a capture that was taken once more."""
        taken = [key for key in self.model.captures if key[0] == hm.SOURCE]
        assume(taken)
        key = data.draw(st.sampled_from(taken))
        (id, drawn, final, model, at, _), _ = self.model.captures[key]  # type: ignore[misc] # a tuple
        members = _capture(key[1], dict(drawn), final=final, model=model, at=at)
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
        keys = [*self.model.usages, *self.model.captures, (hm.SOURCE, "c9")]
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
            time=_text(at),
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
            time=None if at is None else _text(at),
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
        early += [(hm.SOURCE, f"c{self.captured + 1}"), (hm.EXPIRY, HOLD_IDS[0])]
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
        end = hm.window_end(terms.window, self.world.now)
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


def _capture(
    id: str, quantities: Quantities, *, final: bool, model: str, at: int | None
) -> dict[str, Any]:
    """Return a capture as a caller writes it."""
    members: dict[str, Any] = {"capture": id, "quantities": quantities, "final": final}
    if model:
        members |= {"provider": "openai", "model": model}
    return members if at is None else members | {"occurred_at": _text(at)}


def _text(at: int) -> str:
    moment = hm.EPOCH + hm.timedelta(microseconds=at)
    return moment.isoformat()


SCENE_AT = ("2026-11-23T10:12:00Z", "2026-11-23T10:13:00Z", "2026-11-22T23:59:00Z")
SCENE_ASK = Ask("big", Who("ann"), quantities=((INPUT, Decimal(1)), (OUTPUT, Decimal(2))))


def _said(
    draw: st.DrawFn, id: str, *, final: bool, times: tuple[str | None, ...]
) -> dict[str, Any]:
    """Draw a capture that may name model and time."""
    model, at = draw(st.sampled_from(["", "small", "big"])), draw(st.sampled_from(times))
    members = _capture(id, draw(quantities), final=final, model=model, at=None)
    return members if at is None else members | {"occurred_at": at}


@st.composite
def scenes(draw: st.DrawFn) -> list[Command]:
    """Draw recording commands of one hold and of its neighbors.

    Where nothing is checkpointed the authorization may come at any place, too. A final capture
    names its time: what the clock says of it is not the same in every order.
    """
    commands: list[Command] = []
    for number in range(draw(st.integers(0, 3))):
        members = _said(draw, f"c{number}", final=False, times=(*SCENE_AT, None))
        commands.append(capture_hold(members, tenant="acme", hold="h0"))
    checkpoints = draw(st.integers(0, 2))
    for step in range(checkpoints):
        members = {"step": step + 1, "quantities": draw(quantities)}
        commands.append(progress_hold(members, tenant="acme", hold="h0"))
    final = draw(st.sampled_from(["capture", "event", "none"]))
    if final == "capture":
        members = _said(draw, "final", final=True, times=SCENE_AT)
        commands.append(capture_hold(members, tenant="acme", hold="h0"))
    elif final == "event":
        members = {"time": draw(st.sampled_from(SCENE_AT)), "user": draw(st.sampled_from(USERS))}
        model, numbers = draw(st.sampled_from(["big", "small"])), draw(quantities)
        commands.append(usage("final", model=model, hold="h0", quantities=numbers, **members))
    for number in range(draw(st.integers(0, 2))):
        id = f"e{number}"
        commands.append(usage(id, time=SCENE_AT[0], model="small", quantities=draw(quantities)))
        kind = draw(st.sampled_from(["void", "adjust", "none"]))
        if kind == "void":
            commands.append(void(id, id=f"void {id}"))
        elif kind == "adjust":
            commands.append(adjust(id, id=f"adjust {id}", quantities=draw(quantities)))
    ask = authorize_hold(document("h0", SCENE_ASK), tenant="acme")
    at = 0 if checkpoints else draw(st.integers(0, len(commands)))
    return [*commands[:at], ask, *commands[at:]]


USERS = ("", "ann", "bob")


def outcome_of(commands: list[Command], repeated: list[Command]) -> tuple[object, ...]:
    """Return charge, the hold's quantities and the budgets' numbers after commands and expiry."""
    world = World()
    try:
        for name, measure in (("charge", "charge"), ("cost", "cost"), ("tokens", INPUT)):
            steps = (Rung("stop", Decimal(1000)),)
            world.set_budget(stored(Terms(name, Decimal(1000), steps, measure=measure)))
        for user in USERS[1:]:
            world.set_budget(stored(Terms(user, Decimal(9), (), scope="user", value=user)))
        for command in [*commands, *repeated]:
            world.run(command)
        world.now += 300 * SECOND
        world.run(ExpireHolds("acme"))
        guard = world.guard
        hold = guard.hold("h0")
        assert hold is not None
        assert_rows_are_the_fold(world)
        counted = {m: n for m, n in zip(hold.captured_meters, hold.captured, strict=True) if n}
        return (
            sum(one.charge for one in world.state.balances.values()),
            counted,
            [guard.used(one, world.now) for one in guard.live],
        )
    finally:
        world.close()


@given(scenes(), st.data())
@settings(max_examples=60)
def test_no_order_and_no_repetition_of_recordings_changes_what_is_charged(
    scene: list[Command], data: st.DataObject
) -> None:
    """Captures, checkpoints, usage, corrections and a late ask in any order: the same numbers."""
    first = [one for one in scene if isinstance(one, AuthorizeHold)]
    checkpoints = any(isinstance(one, ProgressHold) for one in scene)
    rest = [one for one in scene if one not in first] if checkpoints else scene
    shuffled = data.draw(st.permutations(rest))
    repeated = data.draw(st.lists(st.sampled_from(scene), max_size=3))
    before = first if checkpoints else []
    assert outcome_of([*before, *shuffled], repeated) == outcome_of(scene, [])


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
    said = _capture("c", {INPUT: Decimal(1)}, final=False, model="small", at=None)
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
TestHolds.settings = settings(max_examples=200, stateful_step_count=30, report_multiple_bugs=False)
