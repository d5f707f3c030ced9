"""Calls in flight: what a plan gives once is promised once, and comes free when they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import pytest
from fakes.hold_values import SECOND
from fakes.hold_world import World
from fakes.promise_world import MONEY, Charge, PlanWorld, assert_sound

from ledger.application.asks import authorize_hold
from ledger.domain.holds import ExpireHolds, HoldAnswer, HoldState, hold_body, hold_of
from ledger.domain.plan_rates import PlanRate, Track
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy
from ledger.domain.protection_entries import HoldPromised

INCLUDED: Charge = {"included": "1000", "model": {"tiers": [{"rate": "0.01"}]}}
"""1,000 units are included, then 0.01 each."""
PACKAGES: Charge = {"model": {"tiers": [{"rate": "7", "unit_size": "1000", "blocks": "up"}]}}
FALLING: Charge = {"model": {"tiers": [{"up_to": "1000", "rate": "0.03"}, {"rate": "0.01"}]}}
VOLUME: Charge = {
    "model": {"mode": "volume", "tiers": [{"up_to": "900", "rate": "0.02"}, {"rate": "0.01"}]}
}


@contextmanager
def world(*charges: Charge) -> Iterator[PlanWorld]:
    """Give a tenant on a plan, whose rows are sound in the end."""
    made = PlanWorld(*(charges or (INCLUDED,)))
    try:
        yield made
        assert_sound(made)
    finally:
        made.close()


def kept(acme: PlanWorld) -> list[int]:
    """Return what open holds promise of the one charge x 10^6, and reserve x 10^18."""
    return [number for _, number in sorted(acme.of_holds().items())]


def test_included_units_are_promised_once() -> None:
    """Of ten calls of 500 units in flight two are free, and a cap of 1.00 refuses the others."""
    with world() as acme:
        acme.cap(MONEY)
        answers = [acme.ask(f"h{number}", 500) for number in range(10)]
        assert [one.decision for one in answers] == ["allow"] * 2 + ["deny"] * 8
        for one in answers[:2]:
            assert acme.capture(one.hold, 500).overrun == 0
        assert acme.charged() == 0


def test_a_cap_stands_though_the_last_to_ask_is_the_first_to_end() -> None:
    """What its early end frees is what the others will be charged, so nobody else gets it."""
    with world() as acme:
        acme.cap(5 * MONEY)
        assert [acme.ask(f"h{number}", 500).amount for number in range(3)] == [0, 0, 5 * MONEY]
        acme.capture("h2", 500)
        denied = acme.ask("h3", 500)
        assert denied.decision == "deny"
        [reason] = denied.reasons
        assert (reason.spent, reason.held, reason.asked) == (0, 5 * MONEY, 5 * MONEY)
        # It counts in all decisions, whatever they ask for.
        assert acme.ask("h4", 0, 0, amount="1").decision == "deny"
        told = acme.run(authorize_hold(_document("h5", 1), tenant="acme", dry=True)).detail
        assert isinstance(told, HoldAnswer)
        assert [(one.code, one.held) for one in told.reasons] == [("budget", 5 * MONEY)]
        for id in ("h0", "h1"):
            acme.capture(id, 500)
        assert acme.charged() == 5 * MONEY


def _document(id: str, tokens: int) -> dict[str, object]:
    quantities = {"tokens.input": str(tokens)}
    return {"hold": id, "provider": "openai", "model": "big", "quantities": quantities}


def test_credit_is_not_spent_twice_either() -> None:
    """What open holds may come to is no free credit, though none of them has reserved it."""
    with world() as acme:
        acme.run(SetCreditPolicy("acme", required=True))
        acme.run(GrantCredit("acme", "g", 5 * MONEY))
        acme.cap(10**30)
        for number in range(3):
            acme.ask(f"h{number}", 500)
        acme.capture("h2", 500)
        assert acme.ask("h3", 1).decision == "deny"
        assert acme.ask("h4", 0, amount="available").decision == "deny"
        for id in ("h0", "h1"):
            acme.capture(id, 500)
        assert acme.guard.credit.owed == 0


def test_another_s_cap_does_not_count_what_the_others_have_not_reserved() -> None:
    """A cap of one user is of that user's calls: others' early ends do not refuse them."""
    with world() as acme:
        acme.cap(100 * MONEY)
        acme.cap(5 * MONEY, name="ann", scope="user", value="ann")
        for number in range(3):
            acme.ask(f"h{number}", 500)
        acme.capture("h2", 500)
        assert acme.ask("h3", 500, user="ann").decision == "allow"


@pytest.mark.parametrize("end", ["void", "expire", "capture less"])
def test_what_a_call_did_not_use_is_free_for_the_next(end: str) -> None:
    """Given up, expired, or used in part: the included units are promised to somebody else."""
    with world() as acme:
        acme.cap(MONEY)
        acme.ask("h0", 500)
        acme.ask("h1", 500, ttl=60)
        assert acme.ask("h2", 500).decision == "deny"
        if end == "void":
            acme.void("h1")
        elif end == "expire":
            acme.now += 61 * SECOND
            acme.run(ExpireHolds("acme"))
        else:
            acme.capture("h1", 0)
        assert acme.ask("h3", 500).amount == 0
        assert kept(acme) == [1000 * 10**6]


def test_captures_on_the_way_lower_what_is_promised_by_what_they_post() -> None:
    """Quantity by quantity, amount by amount; a later one that says no more changes nothing."""
    with world() as acme:
        acme.cap(100 * MONEY)
        assert acme.ask("h0", 1500).amount == 5 * MONEY
        assert kept(acme) == [1500 * 10**6, 5 * MONEY]
        acme.capture("h0", 800, final=False)
        assert kept(acme) == [700 * 10**6, 5 * MONEY]
        acme.capture("h0", 1200, final=False)
        assert kept(acme) == [300 * 10**6, 3 * MONEY]
        acme.capture("h0", 1000, final=False)
        assert kept(acme) == [300 * 10**6, 3 * MONEY]
        acme.capture("h0", 1900, final=False)
        assert kept(acme) == [-4 * MONEY]
        acme.capture("h0", 1700)
        assert kept(acme) == []


def test_an_extension_is_estimated_beside_the_other_calls_too() -> None:
    """Its own promise does not count against it; what it reserves and promises grows."""
    with world() as acme:
        acme.cap(10 * MONEY)
        acme.ask("h0", 600)
        assert acme.ask("h1", 600).amount == 2 * MONEY
        assert acme.extend("h1", 1, 900).amount == 5 * MONEY
        assert kept(acme) == [1500 * 10**6, 5 * MONEY]
        acme.capture("h1", 700, final=False)
        # The call is charged nothing for 700 as long as the other one has not ended.
        assert acme.extend("h1", 2, 1000).amount == 6 * MONEY
        assert kept(acme) == [900 * 10**6, 6 * MONEY]
        # Were it the first to end, it would be charged 7.00; with 9.99 that is too much now.
        assert [one.code for one in acme.extend("h0", 1, 1000).reasons] == ["budget"]
        assert acme.extend("h0", 2, 700).amount == 4 * MONEY
        assert kept(acme) == [1000 * 10**6, 10 * MONEY]
        acme.capture("h0", 700)
        acme.capture("h1", 1000)
        assert acme.charged() == 7 * MONEY


def test_the_dearer_of_first_and_last_is_reserved() -> None:
    """Where later units cost less, each call may still be the first to be charged."""
    with world(FALLING) as acme:
        acme.cap(100 * MONEY)
        assert [acme.ask(f"h{number}", 1000).amount for number in range(2)] == [30 * MONEY] * 2
        assert acme.capture("h1", 1000).overrun == 0
    with world(PACKAGES) as acme:
        acme.cap(14 * MONEY)
        decisions = [acme.ask(f"h{number}", 100).decision for number in range(3)]
        assert decisions == ["allow", "allow", "deny"]


def test_a_volume_price_is_held_at_its_peak() -> None:
    """A call past the cheaper step costs less than one that stops before it."""
    with world(VOLUME) as acme:
        acme.cap(18 * MONEY)
        assert acme.ask("h0", 1000).amount == 18 * MONEY
        assert acme.capture("h0", 900).charge == 18 * MONEY


def test_a_hold_of_a_part_promises_that_part() -> None:
    """Of 1,500 units half of the 5.00 is to be had: so half of them are promised."""
    with world() as acme:
        acme.cap(5 * MONEY // 2)
        answer = acme.ask("h0", 1500, min_amount="1")
        assert (answer.decision, answer.amount) == ("allow_partial", 5 * MONEY // 2)
        assert kept(acme) == [750 * 10**6, 5 * MONEY // 2]


def test_two_charges_are_promised_apart() -> None:
    """Of each what the call may use, from the first hold of a ledger on, under the default cap."""
    with world(INCLUDED, FALLING) as acme:
        assert acme.ask("h0", 1100, 10).amount == MONEY + 3 * MONEY // 10
        promised, reserved = kept(acme)[:2], kept(acme)[2:]
        assert promised == [1100 * 10**6, 10 * 10**6]
        assert reserved == [MONEY, 3 * MONEY // 10]


def test_what_is_promised_of_a_plan_that_ended_is_not_lost() -> None:
    """Calls under way end as ever; those that come are at list prices."""
    with world() as acme:
        acme.cap(10**6 * MONEY)
        acme.ask("h0", 900)
        acme.subscriptions.end("acme", from_day=date(2026, 11, 20), by="ann")
        assert acme.ask("h1", 900).amount == 1800 * MONEY
        assert kept(acme) == [900 * 10**6]
        acme.capture("h0", 900)
        assert kept(acme) == []


def test_without_a_plan_nothing_is_kept() -> None:
    """Neither entries nor rows, nor a byte more in a hold's row."""
    acme = World()
    try:
        acme.run(authorize_hold(_document("h", 5), tenant="acme"))
        assert not any(isinstance(one, HoldPromised) for one in acme.log)
        assert acme.store.accumulators("acme") == {}
    finally:
        acme.close()
    with world({"model": {"tiers": [{"rate": "0.01"}]}}) as linear:
        linear.ask("h", 5)
        assert linear.store.accumulators("acme") == {}


def test_a_hold_s_row_is_as_it_was_before_there_were_promises() -> None:
    """So rows of older versions are what the log folds to; with promises they are read back."""
    members = len(HoldState.__struct_fields__)
    for promises in ((), (("\tk", 5, 6),), (("\tk", 5, -(2**70)),)):
        hold = HoldState("h", reserved=7, promises=promises)
        assert hold_of(hold_body(hold)) == hold
        header = b"\xdc" + (members if promises else members - 1).to_bytes(2, "big")
        assert hold_body(hold).startswith(header)


def test_the_peak_of_a_volume_price_is_found_behind_a_conversion() -> None:
    """Of started hundreds: 400 units are four of them, 401 are five and cost less."""
    model = (
        b'{"tiers":[{"up_to":"4","rate":"2"},{"rate":"1"}],"mode":"volume",'
        b'"conversion":{"operation":"divide","factor":"100","rounding":{"mode":"up"}}}'
    )
    track = Track(PlanRate("plan/p@1#c:2026-11-01/2026-12-01", "", model))
    unit = 10**track.decimals
    assert track.charge(400 * 10**6) == 8 * unit
    assert track.charge(400 * 10**6 + 1) == 5 * unit
    assert track.most(0, 700 * 10**6) == 8 * unit
    assert track.most(0, 400 * 10**6 - 1) == 8 * unit
    assert track.most(401 * 10**6, 700 * 10**6) == 7 * unit
    assert track.most(0, 10**30) > 10**15 * unit
