"""Prepaid credit against a plain model: what is reserved, burned, owed, given back and gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from fakes.building import adjust, usage, void
from fakes.hold_world import START, World, assert_rows_are_the_fold
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ledger.application.asks import (
    authorize_hold,
    capture_hold,
    grant_credit,
    reverse_charge,
    void_hold,
    withdraw_credit,
)
from ledger.domain.commands import Command, Outcome
from ledger.domain.entries import decode_commit
from ledger.domain.holds import ExpireHolds
from ledger.domain.journal import DEFERRED_CREDIT, PROMOTIONAL_CREDIT, trial_balance
from ledger.domain.journal_rules import journal
from ledger.domain.periods import from_us
from ledger.domain.protection_commands import SetCreditPolicy, WaiveCap
from ledger.projections.credit_moves import credit_moves

MONEY = 10**18
SECOND = 1_000_000
PRICE = Decimal(2)
"""Of one input token of the model ``big``."""
HELD_FOR = 600
ZERO = Decimal(0)
amounts = st.integers(1, 12).map(Decimal)
tokens = st.integers(0, 6)


@dataclass
class Grant:
    """A grant; what holds have reserved of it stands with the holds."""

    id: str
    paid: bool
    amount: Decimal
    priority: int
    expires_at: int
    gone: Decimal = ZERO
    """Withdrawn or lapsed."""
    burned: Decimal = ZERO
    expired: bool = False


@dataclass
class Paid:
    """A charge: what grants paid of it, what was owed, and what reversals took back."""

    charge: Decimal
    credit: Decimal
    owed: Decimal
    reversed: Decimal = ZERO
    returned: Decimal = ZERO
    forgiven: Decimal = ZERO


@dataclass
class Credit:
    """All grants, the open holds' shares of them, and what is owed."""

    now: int = START
    required: bool = False
    owed: Decimal = ZERO
    grants: list[Grant] = field(default_factory=list)
    holds: dict[str, tuple[int, dict[str, Decimal]]] = field(default_factory=dict)
    """Open holds: when they expire, and what they reserve by grant."""
    paid: dict[str, Paid] = field(default_factory=dict)
    """Usage that stands."""
    usage: dict[str, str] = field(default_factory=dict)
    """Ids of the usage of holds that were captured in part."""

    def closed(self) -> list[str]:
        """Return the usage of which no hold is open."""
        running = {f"tallybook:hold {self.usage.get(id)}" for id in self.holds}
        return sorted(set(self.paid) - running)

    def held(self, grant: Grant) -> Decimal:
        """Return what open holds reserve of a grant."""
        return sum((parts.get(grant.id, ZERO) for _, parts in self.holds.values()), ZERO)

    def free(self, grant: Grant) -> Decimal:
        """Return what is neither used nor reserved."""
        if grant.expired:
            return ZERO
        return grant.amount - grant.gone - grant.burned - self.held(grant)

    def in_order(self) -> list[Grant]:
        """Return the grants in the order in which they burn."""
        never = 2**62
        numbered = enumerate(self.grants)
        ordered = sorted(
            numbered, key=lambda one: (one[1].priority, one[1].expires_at or never, one[0])
        )
        return [grant for _, grant in ordered]

    def all_free(self) -> Decimal:
        """Return all free credit."""
        return sum((self.free(grant) for grant in self.grants), ZERO) - self.owed

    def take(self, amount: Decimal, own: dict[str, Decimal]) -> dict[str, Decimal]:
        """Return what grants give of an amount, out of what is free and what a hold reserved."""
        parts: dict[str, Decimal] = {}
        for grant in self.in_order():
            part = min(amount, self.free(grant) + own.get(grant.id, ZERO))
            if part > 0:
                parts[grant.id] = part
                amount -= part
        return parts

    def settle(self) -> None:
        """Pay what is owed from free credit."""
        for grant in self.in_order():
            part = min(self.free(grant), self.owed)
            grant.burned += part
            self.owed -= part

    def lapse(self) -> None:
        """Let what is neither burned nor reserved of expired grants go."""
        for grant in self.grants:
            if grant.expired:
                grant.gone = grant.amount - grant.burned - self.held(grant)

    def expire(self) -> None:
        """Expire holds and grants that are due."""
        moments = sorted(
            {at for at, _ in self.holds.values()} | {one.expires_at for one in self.grants}
        )
        for at in moments:
            if 0 < at <= self.now:
                for id in [id for id, (end, _) in self.holds.items() if end == at]:
                    self.release(id)
                for grant in self.grants:
                    grant.expired = grant.expired or grant.expires_at == at
                self.lapse()

    def release(self, id: str) -> None:
        """Release a hold."""
        del self.holds[id]
        self.lapse()
        self.settle()

    def authorize(self, id: str, amount: Decimal, least: Decimal | None) -> tuple[str, Decimal]:
        """Return decision and amount."""
        reserve = amount
        decision = "allow"
        if self.required and amount > self.all_free():
            if least is None or self.all_free() < least:
                return "deny", ZERO
            reserve, decision = self.all_free(), "allow_partial"
        self.holds[id] = (self.now + HELD_FOR * SECOND, self.take(reserve, {}))
        return decision, reserve

    def burn(self, key: str, amount: Decimal, hold: str = "") -> None:
        """Let usage burn, from its own hold and from what no other has reserved.

        What its hold releases first pays what is owed; of expired grants it may burn that still.
        """
        _, reserved = self.holds.pop(hold, (0, {}))
        self.settle()
        expired = {one.id for one in self.grants if one.expired}
        own = {id: part for id, part in reserved.items() if id in expired}
        parts = self.take(amount, own)
        for grant in self.grants:
            grant.burned += parts.get(grant.id, ZERO)
        rest = amount - sum(parts.values(), ZERO)
        if self.required:
            self.owed += rest
        self.paid[key] = Paid(amount, amount - rest, rest if self.required else ZERO)
        self.lapse()
        self.settle()

    # -- corrections; without expiring grants, of which only the sums are compared

    def reverse(self, usage: Paid, amount: Decimal) -> bool:
        """Take charge back: what nobody paid, then what is owed, then what credit paid."""
        if amount > usage.charge - usage.reversed:
            return False
        plain = usage.charge - usage.credit - usage.owed
        plain -= usage.reversed - usage.returned - usage.forgiven
        rest = amount - min(amount, plain)
        owed = min(rest, usage.owed - usage.forgiven)
        usage.reversed += amount
        usage.forgiven += owed
        usage.returned += rest - owed
        self.give_back(rest - owed, owed)
        return True

    def give_back(self, credit: Decimal, owed: Decimal) -> None:
        """Give back what grants paid and what was owed; what was owed may have been paid since."""
        since = max(ZERO, owed - self.owed)
        self.owed -= owed - since
        rest = credit + since
        for grant in reversed(self.in_order()):
            given = min(grant.burned, rest)
            grant.burned -= given
            rest -= given
        self.settle()

    def draw(self, hold: str, amount: Decimal, *, final: bool) -> None:
        """Let a hold's usage come to an amount in all; what is still reserved burns last."""
        key = f"tallybook:hold {self.usage[hold]}"
        was = self.paid.get(key)
        end, parts = self.holds[hold]
        left = ZERO
        if not final:
            more = amount - (was.charge if was is not None else ZERO)
            left = max(ZERO, sum(parts.values(), ZERO) - max(more, ZERO))
        kept: dict[str, Decimal] = {}
        for grant in reversed(self.in_order()):
            part = min(left, parts.get(grant.id, ZERO))
            if part:
                kept[grant.id] = part
                left -= part
        self.holds[hold] = (end, kept)
        self.settle()
        if final:
            del self.holds[hold]
        if was is None:
            self.burn(key, amount)
        else:
            self.charge_instead(key, amount)

    def take_back(self, usage: Paid) -> None:
        """Take a charge back, but for what reversals have taken back."""
        self.give_back(usage.credit - usage.returned, usage.owed - usage.forgiven)

    def charge_instead(self, key: str, amount: Decimal) -> None:
        """Let usage have another charge; what was reversed of it stays so as far as it fits."""
        was = self.paid[key]
        self.take_back(was)
        self.burn(key, amount)
        if was.reversed:
            self.reverse(self.paid[key], min(was.reversed, amount))


class CreditMachine(RuleBasedStateMachine):
    """Drives the ledger and the model with the same commands."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.credit = Credit()
        self.ids = 0
        self.corrected = False
        self.adjusted: set[str] = set()

    def teardown(self) -> None:
        """Close the world, after its rows were found to be what the log implies."""
        try:
            assert_rows_are_the_fold(self.world)
            self.assert_books_hold_what_grants_have_left()
        finally:
            self.world.close()

    def assert_books_hold_what_grants_have_left(self) -> None:
        """The journal's credit accounts are what grants have left, paid (less debts) and free."""
        grants = list(self.world.guard.credit.grants.values())
        commits = [decode_commit(one.state) for one in self.world.store.commits()]
        facts = credit_moves(commits, grants, tenant="acme", currency="USD", timezone="UTC")
        books = {one.account: -one.balance for one in trial_balance(journal(facts))}
        for kind, account in (("paid", DEFERRED_CREDIT), ("promotional", PROMOTIONAL_CREDIT)):
            left = sum(one.remaining for one in grants if one.kind == kind)
            if kind == "paid":
                left -= self.world.guard.credit.owed
            assert books.get(account, ZERO) * MONEY == left

    def run(self, command: Command) -> Outcome:
        """Run a command; the model expires first what is due, as every command does."""
        self.credit.now = self.world.now
        self.credit.expire()
        return self.world.run(command)

    def fresh(self, prefix: str) -> str:
        """Return an id that was not used."""
        self.ids += 1
        return f"{prefix}{self.ids}"

    def pick(self, data: st.DataObject) -> str:
        """Draw an open hold; where there is none, ask for one first."""
        self.credit.now = self.world.now
        self.credit.expire()
        if not self.credit.holds:
            self.authorize(data.draw(amounts), None)
        assume(self.credit.holds)
        return data.draw(st.sampled_from(sorted(self.credit.holds)))

    @initialize(required=st.booleans(), first=amounts)
    def begin(self, required: bool, first: Decimal) -> None:
        """Start without a cap, with one grant."""
        self.run(WaiveCap("acme", "test"))
        self.grant(first, 100, 0, True)
        self.set_policy(required)

    @rule(required=st.booleans())
    def set_policy(self, required: bool) -> None:
        """Say whether holds need credit."""
        self.run(SetCreditPolicy("acme", required, "test"))
        self.credit.required = required

    @rule(
        amount=amounts,
        priority=st.sampled_from([1, 100, 100, 200]),
        lasts=st.sampled_from([0, 0, 60, 300]),
        paid=st.booleans(),
    )
    def grant(self, amount: Decimal, priority: int, lasts: int, paid: bool) -> None:
        """Give credit; what is owed is paid from it first."""
        assume(not (self.corrected and lasts))
        id = self.fresh("g")
        expires_at = self.world.now + lasts * SECOND if lasts else 0
        document: dict[str, Any] = {"id": id, "amount": amount, "priority": priority}
        document["kind"] = "paid" if paid else "promotional"
        if expires_at:
            document["expires_at"] = from_us(expires_at).isoformat()
        outcome = self.run(grant_credit(document, tenant="acme"))
        assert outcome.status == "accepted", outcome
        self.credit.grants.append(Grant(id, paid, amount, priority, expires_at))
        self.credit.settle()

    @rule(amount=amounts, least=st.none() | st.integers(1, 4).map(Decimal))
    def authorize(self, amount: Decimal, least: Decimal | None) -> None:
        """Reserve credit for a call."""
        assume(least is None or least <= amount)
        id = self.fresh("h")
        document: dict[str, Any] = {"hold": id, "provider": "openai", "model": "big"}
        document |= {"amount": amount, "ttl": HELD_FOR, "on_expiry": "void"}
        if least is not None:
            document["min_amount"] = least
        outcome = self.run(authorize_hold(document, tenant="acme"))
        decision, reserved = self.credit.authorize(id, amount, least)
        assert outcome.status == ("denied_exceeds_budget" if decision == "deny" else "created")
        assert outcome.detail is not None
        assert outcome.detail.decision == decision
        assert outcome.detail.amount == reserved * MONEY

    @rule(data=st.data(), count=tokens)
    def capture(self, data: st.DataObject, count: int) -> None:
        """Capture a hold: less than it reserved, all of it, or more."""
        id = self.pick(data)
        document = {"capture": f"c-{id}", "quantities": {"tokens.input": count}}
        outcome = self.run(capture_hold(document, tenant="acme", hold=id))
        assert outcome.status in ("captured", "captured_over_hold"), outcome
        if id in self.credit.usage:
            self.credit.draw(id, PRICE * count, final=True)
        else:
            self.credit.burn(f"tallybook:hold c-{id}", PRICE * count, id)

    @rule(data=st.data(), count=st.integers(1, 6))
    def capture_in_part(self, data: st.DataObject, count: int) -> None:
        """Capture what a hold took so far; of what is restated only the sums are compared."""
        assume(not any(one.expires_at for one in self.credit.grants))
        id, capture = self.pick(data), self.fresh("p")
        key = f"tallybook:hold {self.credit.usage.setdefault(id, capture)}"
        was = self.credit.paid.get(key)
        document = {"capture": capture, "quantities": {"tokens.input": count}, "final": False}
        outcome = self.run(capture_hold(document, tenant="acme", hold=id))
        if was is not None and PRICE * count <= was.charge:
            assert outcome.status == "stale_capture", outcome
            return
        assert outcome.status in ("captured", "captured_over_hold"), outcome
        self.credit.draw(id, PRICE * count, final=False)
        self.corrected = True

    @rule(data=st.data())
    def void_hold(self, data: st.DataObject) -> None:
        """Release a hold."""
        id = self.pick(data)
        outcome = self.run(void_hold({"void": f"v-{id}", "force": True}, tenant="acme", hold=id))
        assert outcome.status == "voided", outcome
        self.credit.release(id)

    @rule(count=tokens)
    def record(self, count: int) -> None:
        """Record usage without a hold."""
        id = self.fresh("e")
        event = usage(id, time=None, model="big", quantities={"tokens.input": count})
        assert self.run(event).status == "accepted"
        self.credit.burn(f"gateway {id}", PRICE * count)

    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        """Void usage: what is owed is paid first; of the rest only the sum is compared."""
        kept = self.credit.closed()
        assume(kept and not any(one.expires_at for one in self.credit.grants))
        key = data.draw(st.sampled_from(kept))
        source, id = key.split(" ")
        outcome = self.run(void(id, id=f"void {id}", target_source=source))
        assert outcome.status == "accepted", outcome
        self.corrected = True
        self.credit.take_back(self.credit.paid.pop(key))

    @rule(data=st.data(), count=tokens)
    def adjust(self, data: st.DataObject, count: int) -> None:
        """Let usage have another quantity, once an event."""
        kept = [key for key in self.credit.closed() if key not in self.adjusted]
        assume(kept and not any(one.expires_at for one in self.credit.grants))
        key = data.draw(st.sampled_from(kept))
        source, id = key.split(" ")
        command = adjust(
            id, id=f"adjust {id}", target_source=source, quantities={"tokens.input": count}
        )
        assert self.run(command).status == "accepted"
        self.corrected = True
        self.adjusted.add(key)
        self.credit.charge_instead(key, PRICE * count)

    @rule(data=st.data(), amount=amounts)
    def reverse(self, data: st.DataObject, amount: Decimal) -> None:
        """Take part of a charge back."""
        assume(self.credit.paid and not any(one.expires_at for one in self.credit.grants))
        key = data.draw(st.sampled_from(sorted(self.credit.paid)))
        source, id = key.split(" ")
        members = {"reversal": self.fresh("r"), "source": source, "capture": id, "amount": amount}
        outcome = self.run(reverse_charge(members, tenant="acme"))
        done = self.credit.reverse(self.credit.paid[key], amount)
        assert outcome.status == ("reversed" if done else "exceeds_capture"), outcome
        self.corrected = self.corrected or done

    @rule(data=st.data(), amount=amounts | st.just("available"))
    def refund(self, data: st.DataObject, amount: Decimal | str) -> None:
        """Refund free credit of a paid grant."""
        self.credit.now = self.world.now
        self.credit.expire()
        # Which grants a correction refilled is not compared, so neither is what each has free.
        assume(not self.corrected)
        grant = data.draw(st.sampled_from(self.credit.grants))
        document = {"id": self.fresh("w"), "grant": grant.id, "amount": amount}
        outcome = self.run(withdraw_credit(document, tenant="acme"))
        free = self.credit.free(grant)
        wanted = free if isinstance(amount, str) else amount
        fits = grant.paid and ZERO < wanted <= free
        assert outcome.status == ("accepted" if fits else "rejected"), (outcome, wanted, free)
        if fits:
            grant.gone += wanted

    @rule(seconds=st.sampled_from([1, 60, 60, 299, 300, 600]))
    def wait(self, seconds: int) -> None:
        """Let time pass, over expiries of holds and grants."""
        self.world.now += seconds * SECOND
        self.run(ExpireHolds("acme"))

    @invariant()
    def credit_agrees(self) -> None:
        """Every grant, and what is owed, are what the model says; corrected, their sums are."""
        book = self.world.guard.credit
        assert book.owed == self.credit.owed * MONEY
        found = [(one.held, one.burned, one.free) for one in book.grants.values()]
        expected = [
            tuple(
                int(number * MONEY)
                for number in (self.credit.held(one), one.burned, self.credit.free(one))
            )
            for one in self.credit.grants
        ]
        if self.corrected:
            assert [sum(part) for part in zip(*found, strict=True)] == [
                sum(part) for part in zip(*expected, strict=True)
            ]
        else:
            assert found == expected

    @invariant()
    def nothing_is_reserved_twice(self) -> None:
        """No grant is below nothing, and what is held is what open holds reserve."""
        guard = self.world.guard
        for number, grant in guard.credit.grants.items():
            counted = (grant.free, grant.held, grant.burned, grant.withdrawn, grant.lapsed)
            assert min(counted) >= 0, (number, counted)
            holds = guard.holds.values()
            assert grant.held == sum(dict(one.allocations).get(number, 0) for one in holds)


@pytest.mark.parametrize("required", [True, False])
def test_a_hold_burns_what_it_reserved_of_a_grant_that_expired_meanwhile(required: bool) -> None:
    """What was reserved is there for its call; debt comes of overruns alone."""
    world = World()
    try:
        world.run(WaiveCap("acme", "test"))
        world.run(SetCreditPolicy("acme", required, "test"))
        expires_at = from_us(START + 60 * SECOND).isoformat()
        world.run(grant_credit({"id": "g", "amount": 10, "expires_at": expires_at}, tenant="acme"))
        ask = {"hold": "h", "provider": "openai", "model": "big", "amount": 6, "ttl": 600}
        world.run(authorize_hold(ask, tenant="acme"))
        world.now += 120 * SECOND
        world.run(ExpireHolds("acme"))
        capture = {"capture": "c", "quantities": {"tokens.input": 2}}
        world.run(capture_hold(capture, tenant="acme", hold="h"))
        [grant] = world.guard.credit.grants.values()
        burned, lapsed = (one / MONEY for one in (grant.burned, grant.lapsed))
        assert (burned, lapsed, grant.held, world.guard.credit.owed) == (4, 6, 0, 0)
    finally:
        world.close()


def _after_capture(*grants: dict[str, Any], before: list[Command], price: int) -> list[int]:
    """Return what each grant burned, and last what is owed, after a hold of 3 was captured."""
    world = World()
    try:
        world.run(WaiveCap("acme", "test"))
        for number, document in enumerate(grants):
            world.run(grant_credit({"id": f"g{number}", **document}, tenant="acme"))
        ask = {"hold": "h", "provider": "openai", "model": "big", "amount": 3, "ttl": 600}
        world.run(authorize_hold(ask, tenant="acme"))
        world.now += 120 * SECOND
        for command in before:
            world.run(command)
        document = {"capture": "c", "quantities": {"tokens.input": price // 2}}
        world.run(capture_hold(document, tenant="acme", hold="h"))
        book = world.guard.credit
        return [one.burned // MONEY for one in book.grants.values()] + [book.owed // MONEY]
    finally:
        world.close()


def test_a_grant_that_expired_meanwhile_burns_in_its_turn() -> None:
    """By priority, as if it had not; what is not needed of it is gone."""
    expires_at = from_us(START + 60 * SECOND).isoformat()
    first, late = {"amount": 1, "priority": 1}, {"amount": 2, "expires_at": expires_at}
    assert _after_capture(first, late, before=[], price=2) == [1, 1, 0]
    assert _after_capture(late | {"priority": 1}, {"amount": 1}, before=[], price=2) == [2, 0, 0]


def test_what_a_hold_releases_pays_what_is_owed_before_its_own_usage_burns() -> None:
    """It is free from then on, and debt comes first; the sums are the same either way."""
    before: list[Command] = [
        SetCreditPolicy("acme", True, "test"),
        usage("e", time=None, model="big", quantities={"tokens.input": 1}),
        SetCreditPolicy("acme", False, "test"),
    ]
    assert _after_capture({"amount": 3}, before=before, price=2) == [3, 0]
    assert _after_capture({"amount": 3}, before=before[:2], price=4) == [3, 3]


TestCredit = CreditMachine.TestCase
TestCredit.settings = settings(max_examples=120, stateful_step_count=30, report_multiple_bugs=False)
