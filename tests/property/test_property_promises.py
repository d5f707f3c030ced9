"""No cap is passed by calls in flight, whatever a plan charges and in whatever order they end."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from fakes.hold_values import SECOND
from fakes.promise_world import MONEY, Charge, PlanWorld, assert_sound
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.charge_models import ChargeModel
from ledger.domain.holds import ExpireHolds
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy

SHAPES: list[Charge] = [
    {"model": {"tiers": [{"rate": "0.01"}]}},
    {"included": "1000", "model": {"tiers": [{"rate": "0.01"}]}},
    {"model": {"tiers": [{"up_to": "700", "rate": "0.01"}, {"rate": "0.03", "flat": "2"}]}},
    {"model": {"tiers": [{"up_to": "700", "rate": "0.03", "flat": "3"}, {"rate": "0.01"}]}},
    {"model": {"tiers": [{"rate": "7", "unit_size": "1000", "blocks": "up"}]}},
    {"included": "300", "model": {"tiers": [{"rate": "0.02"}], "max_amount": "12"}},
    {"model": {"mode": "volume", "tiers": [{"up_to": "900", "rate": "0.02"}, {"rate": "0.01"}]}},
    {
        "model": {
            "mode": "volume",
            "conversion": {"operation": "divide", "factor": "100", "rounding": {"decimals": 0}},
            "tiers": [{"up_to": "4", "rate": "2", "flat": "1"}, {"rate": "1"}],
        }
    },
]
"""One price, included units, rising and falling tiers, packages, a maximum, volume prices."""
IDS = st.integers(0, 7)
TOKENS = st.sampled_from([500, 500, 500, 500, 900, 1])
OUTPUT = st.sampled_from([0, 0, 0, 0, 500, 250])
PARTS = st.integers(0, 4)
ASK = st.tuples(st.just("ask"), IDS, TOKENS, OUTPUT, st.just(""))
CAPTURE = st.tuples(st.just("capture"), IDS, st.just(4), st.just(4), st.just(True))
OTHER = st.one_of(
    st.tuples(st.just("ask"), IDS, TOKENS, OUTPUT, st.sampled_from(["void", "capture_full"])),
    st.tuples(st.just("capture"), IDS, PARTS, PARTS, st.booleans()),
    st.tuples(st.just("extend"), IDS, TOKENS, OUTPUT, st.just("")),
    st.tuples(st.just("progress"), IDS, PARTS, PARTS, st.just("")),
    st.tuples(st.just("void"), IDS, st.just(0), st.just(0), st.just("")),
    st.tuples(st.just("wait"), st.integers(1, 90), st.just(0), st.just(0), st.just("")),
)
OPERATIONS = st.one_of(ASK, CAPTURE, OTHER)


class Calls:
    """Calls of one tenant, and what each of them asked for in all."""

    def __init__(self, world: PlanWorld) -> None:
        self.world = world
        self.asked: dict[str, tuple[int, int]] = {}
        self.used: dict[str, tuple[int, int]] = {}
        self.authorized = 0
        self.asks = self.steps = 0

    def act(self, what: str, number: int, first: int, second: int, more: Any) -> None:
        """Do one thing."""
        world = self.world
        if what == "wait":
            world.now += number * SECOND
            world.run(ExpireHolds("acme"))
            return
        if what == "ask":
            self.asks += 1
            members = {"ttl": 60 + 10 * number} | ({"on_expiry": more} if more else {})
            answer = world.ask(f"h{self.asks:02d}", first, second, **members)
            if answer.decision == "allow":
                self.authorized += answer.amount
                self.asked[f"h{self.asks:02d}"] = (first, second)
            return
        known = [id for id in self.asked if world.guard.hold(id) is not None]
        open_ = [id for id in known if world.guard.hold(id).status == "open"]  # type: ignore[union-attr] # known
        if not open_:
            return
        id = open_[number % len(open_)]
        self.steps += 1
        asked = self.asked[id]
        part = (asked[0] * first // 4, asked[1] * second // 4)
        if what == "capture":
            world.capture(id, *part, final=more)
        elif what == "progress":
            world.progress(id, self.steps, *part)
        elif what == "void":
            world.void(id)
        else:
            before = world.guard.hold(id).reserved  # type: ignore[union-attr] # known
            target = (max(asked[0], first), max(asked[1], second))
            world.extend(id, self.steps, *target)
            hold = world.guard.hold(id)
            assert hold is not None
            if hold.step == self.steps:
                self.authorized += hold.reserved - before
                self.asked[id] = target


def of_first(charges: list[Charge], quantity: int) -> int:
    """Return what a quantity of the first charge comes to x 10^18."""
    model = msgspec.convert(charges[0]["model"], ChargeModel, strict=False)
    units = max(quantity - int(charges[0].get("included", 0)), 0)
    return int(model.charge(Decimal(units)) * MONEY)


@settings(max_examples=120, deadline=None)
@given(
    charges=st.lists(st.sampled_from([*SHAPES, *SHAPES[1:3]]), min_size=1, max_size=2),
    room=st.integers(2, 6),
    flight=st.integers(0, 5),
    credit=st.booleans(),
    operations=st.lists(OPERATIONS, min_size=2, max_size=16),
    backwards=st.booleans(),
)
def test_captures_within_what_was_asked_pass_no_cap(
    charges: list[Charge],
    room: int,
    flight: int,
    operations: list[tuple[str, int, int, int, Any]],
    *,
    credit: bool,
    backwards: bool,
) -> None:
    """After each step charges are at most what was authorized, below the cap, and paid for."""
    world = PlanWorld(*charges)
    limit = of_first(charges, 500 * room)
    try:
        if credit:
            world.run(SetCreditPolicy("acme", required=True))
            world.run(GrantCredit("acme", "g", limit))
        world.cap(10**30 if credit else limit)
        calls = Calls(world)
        for operation in [("ask", 0, 500, 0, "")] * flight + operations:
            calls.act(*operation)
            charged = world.charged()
            assert charged <= limit
            assert charged <= calls.authorized
        for number in range(3):
            calls.act("ask", number, 500, 0, "")
        for id in sorted(calls.asked, reverse=backwards):
            hold = world.guard.hold(id)
            if hold is not None and hold.status == "open":
                world.capture(id, *calls.asked[id])
                assert world.charged() <= min(limit, calls.authorized)
        assert world.of_holds() == {}
        if credit:
            assert world.guard.credit.owed == 0
        assert_sound(world)
    finally:
        world.close()
