"""Progress, capture, void, expiry, reversal: every outcome, and that order changes no total."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from fakes.building import adjust, usage, void
from fakes.guarding import Guarded

from adapters.memory import store
from ledger.application import asks, prefetch_holds
from ledger.domain.commands import OpenLedger
from ledger.domain.entries import decode_commit
from ledger.domain.holds import EXPIRY_SOURCE, ExpireHolds, hold_body
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy

ONE = 10**18


def _check_fold(house: Guarded) -> None:
    """Fold the log from its first commit and compare with what the store keeps."""
    state = LedgerState(1, "acme")
    commits: dict[int, list[Any]] = {}
    for stored in house.store.commits():
        commits[stored.version] = list(decode_commit(stored.state).entries)
    for version, entries in commits.items():
        for index, entry in enumerate(entries):
            evolve(state, entry, (version, index))
    kept = house.store.protection("acme")
    folded = state.guard
    if folded is None:
        assert not kept.holds
        return
    assert {key: hold_body(one) for key, one in folded.holds.items()} == {
        key: hold_body(one) for key, one in kept.holds.items()
    }
    zero = (0, 0, 0, 0, 0, 0)
    counters = {key: one.as_tuple() for key, one in folded.counters.items()}
    there = {key: one.as_tuple() for key, one in kept.counters.items()}
    for key in counters.keys() | there.keys():
        assert counters.get(key, zero) == there.get(key, zero)
    assert folded.credit.owed == kept.credit.owed
    assert [one.counters() for one in folded.credit.grants.values()] == [
        one.counters() for one in kept.credit.grants.values()
    ]
    held: dict[tuple[int, int], int] = {}
    for hold in kept.holds.values():
        for number, start, bound in hold.bindings:
            held[number, start] = held.get((number, start), 0) + bound
    for key, one in kept.counters.items():
        assert one.held == held.get(key, 0)
    balances = {balance.period: balance.as_tuple() for balance in state.balances.values()}
    assert balances == {one.period: one.as_tuple() for one in house.store.balances("acme")}


def test_a_capture_posts_usage_and_releases_the_rest() -> None:
    """Spent is what it took; nothing stays held."""
    house = Guarded()
    house.budget(cap="5")
    house.ask()
    answer = house.capture(tokens=40)
    assert answer.status == "captured"
    assert house.charge() == Decimal("0.4")
    assert house.counter() == (Decimal("0.4"), 0)
    _check_fold(house)


def test_a_capture_above_the_hold_is_posted_and_blocks_new_holds() -> None:
    """Recording never refuses; the overrun is told and kept."""
    house = Guarded()
    house.budget(cap="2")
    house.ask()
    answer = house.capture(tokens=350)
    assert answer.status == "captured_over_hold"
    assert answer.detail is not None
    assert answer.detail.overrun == 5 * ONE // 2
    assert house.hold().overrun == 5 * ONE // 2
    assert house.ask("next", amount="0").status == "denied_exceeds_budget"
    _check_fold(house)


def test_a_repeated_capture_changes_nothing_and_another_payload_is_kept() -> None:
    """The second is evidence, not charged."""
    house = Guarded()
    house.ask()
    house.capture()
    assert house.capture().status == "exists"
    assert house.capture(tokens=50).status == "capture_conflict"
    assert house.capture(tokens=50).status == "capture_conflict"
    assert house.kinds().count("ConflictKept") == 1
    assert house.charge() == 1


def test_another_final_capture_of_a_hold_is_a_conflict_unless_it_says_the_same() -> None:
    """One hold is for one call."""
    house = Guarded()
    house.ask()
    house.capture()
    assert house.capture(id="c-2").status == "exists"
    assert house.capture(tokens=60, id="c-3").status == "capture_conflict"
    assert house.charge() == 1


def test_checkpoints_draw_the_hold_down_and_stale_ones_post_nothing() -> None:
    """Cumulative: the larger quantity counts."""
    house = Guarded()
    house.budget(cap="5")
    house.ask(quantities={"tokens.input": 300})
    assert house.capture(tokens=100, id="c-1", final=False).status == "captured"
    assert house.counter() == (1, 2)
    assert house.capture(tokens=90, id="c-0", final=False).status == "stale_capture"
    assert house.capture(tokens=250, id="c-2", final=False).status == "captured"
    assert house.counter() == (Decimal("2.5"), Decimal("0.5"))
    assert house.capture(tokens=260, id="c-3").status == "captured"
    assert house.counter() == (Decimal("2.6"), 0)
    assert house.capture(tokens=270, id="c-4", final=False).status == "stale_capture"
    assert house.charge() == Decimal("2.6")
    _check_fold(house)


def test_a_final_capture_may_be_lower_than_a_checkpoint() -> None:
    """The final one says what it was."""
    house = Guarded()
    house.ask()
    house.capture(tokens=100, id="c-1", final=False)
    house.capture(tokens=70, id="c-2")
    assert house.charge() == Decimal("0.7")
    _check_fold(house)


def test_a_usage_event_that_names_a_hold_is_its_final_capture() -> None:
    """Posted once, whether the event or the capture comes first."""
    house = Guarded()
    house.budget(cap="5")
    house.ask()
    event = usage("e-1", hold="h", quantities={"tokens.input": 80})
    assert house.run(event).status == "accepted"
    assert house.run(event).status == "duplicate"
    assert house.capture(tokens=80).status == "exists"
    assert house.capture(tokens=81, id="x").status == "capture_conflict"
    assert house.counter() == (Decimal("0.8"), 0)
    other = usage("e-2", hold="h", quantities={"tokens.input": 80})
    assert house.run(other).flags == ("capture_exists",)
    assert house.charge() == Decimal("0.8")
    _check_fold(house)


def test_a_usage_event_after_checkpoints_restates_them() -> None:
    """The hold's usage event is the first capture's; the last word is the event's."""
    house = Guarded()
    house.ask()
    house.capture(tokens=30, id="c-1", final=False)
    house.run(usage("e-1", hold="h", quantities={"tokens.input": 80}))
    assert house.charge() == Decimal("0.8")
    assert house.kinds().count("UsageRecorded") == 1
    _check_fold(house)


def test_an_expired_hold_comes_to_its_last_checkpoint() -> None:
    """And a late capture posts only the difference."""
    house = Guarded()
    house.budget(cap="5")
    house.ask(ttl=10)
    house.progress(1, 20)
    house.progress(2, 30)
    house.wait(10)
    house.run(ExpireHolds("acme"))
    assert house.hold().status == "expired"
    assert house.charge() == Decimal("0.3")
    assert house.counter() == (Decimal("0.3"), 0)
    assert house.progress(3, 40).status == "hold_expired"
    late = house.capture(tokens=75)
    assert late.status == "captured_late"
    assert house.charge() == Decimal("0.75")
    assert house.kinds().count("UsageRecorded") == 1
    assert house.hold().usage == (EXPIRY_SOURCE, "h")
    _check_fold(house)


def test_a_hold_is_open_until_the_instant_of_its_expiry() -> None:
    """One microsecond before it can be captured; at it, it is over."""
    house = Guarded()
    house.ask("a", ttl=10)
    house.ask("b", ttl=10)
    house.now += 10_000_000 - 1
    assert house.capture("a").status == "captured"
    house.now += 1
    assert house.capture("b").status == "captured_late"


@pytest.mark.parametrize(
    ("on_expiry", "charge"),
    [("void", 0), ("capture_full", 1), ("capture_progress", Decimal("0.2"))],
)
def test_what_an_expiry_records_is_asked_for_at_the_start(on_expiry: str, charge: Decimal) -> None:
    """Nothing, the estimate, or the last checkpoint."""
    house = Guarded()
    house.ask(ttl=10, on_expiry=on_expiry)
    house.progress(1, 20)
    house.wait(11)
    house.run(ExpireHolds("acme"))
    house.run(ExpireHolds("acme"))
    assert house.charge() == charge
    assert house.kinds().count("HoldExpired") == 1
    _check_fold(house)


def test_checkpoints_rise_step_by_step() -> None:
    """A repeated one is known; an older one, or the same step with other figures, is stale."""
    house = Guarded()
    assert house.progress(1, 10).status == "hold_not_found"
    house.ask()
    assert house.progress(2, 10).status == "progressed"
    assert house.progress(2, 10).status == "exists"
    assert house.progress(2, 11).status == "stale_step"
    assert house.progress(1, 5).status == "stale_step"
    house.capture()
    assert house.progress(3, 20).status == "hold_resolved"


def test_a_void_releases_everything() -> None:
    """Each further state has its own answer."""
    house = Guarded()
    house.budget(cap="5")
    house.ask()
    assert house.void().status == "voided"
    assert house.counter() == (0, 0)
    assert house.void().status == "exists"
    assert house.void(reason="other").status == "exists_with_different_reason"
    assert house.void(id="v-2").status == "hold_already_voided"
    house.ask("c")
    house.capture("c")
    assert house.void("c", id="v-3").status == "hold_already_captured"
    house.ask("e", ttl=1)
    house.wait(2)
    assert house.void("e", id="v-4").status == "hold_already_expired"
    house.ask("r", quantities={"tokens.input": 1_000_000})
    assert house.void("r", id="v-5").status == "hold_already_refused"
    assert house.capture("h").status == "captured_late"
    _check_fold(house)


def test_a_void_after_progress_must_be_forced() -> None:
    """The provider was called: somebody must say that this is meant."""
    house = Guarded()
    house.ask()
    house.progress(1, 10)
    assert house.void().status == "hold_has_progress"
    assert house.void(force=True).status == "voided"


def test_reversals_never_pass_what_stands_of_the_capture() -> None:
    """Their sum counts."""
    house = Guarded()
    house.budget(cap="5")
    house.ask()
    assert house.reverse("0.1").status == "capture_not_found"
    house.capture()
    assert house.reverse("0.4", id="r-1").status == "reversed"
    assert house.reverse("0.4", id="r-1").status == "exists"
    assert house.reverse("0.5", id="r-1").status == "exists_with_different_amount"
    assert house.reverse("0.7", id="r-2").status == "exceeds_capture"
    assert house.reverse("0.6", id="r-3").status == "reversed"
    assert house.charge() == 0
    assert house.counter() == (0, 0)
    _check_fold(house)


def test_a_correction_after_a_reversal_gives_nothing_back_twice() -> None:
    """The reversal is undone, and as much as fits is taken back again."""
    house = Guarded()
    house.ask()
    house.capture()
    house.reverse("0.8")
    house.run(adjust("h-capture", target_source="tallybook:hold", quantities={"tokens.input": 50}))
    assert house.charge() == 0
    house.run(void("h-capture", target_source="tallybook:hold"))
    assert house.charge() == 0
    _check_fold(house)


def test_a_restating_capture_can_be_reversed_too() -> None:
    """It stands for the hold's usage event."""
    house = Guarded()
    house.ask()
    house.capture(tokens=30, id="c-1", final=False)
    house.capture(tokens=100, id="c-2")
    assert house.reverse("0.9", capture="c-2").status == "reversed"
    assert house.charge() == Decimal("0.1")
    _check_fold(house)


def test_a_hold_that_is_drawn_down_keeps_the_credit_that_burns_last() -> None:
    """Its captures burn in the order of the grants, and nothing is free that is not there."""
    house = Guarded()
    for name, priority in (("late", 200), ("early", 100)):
        house.run(GrantCredit("acme", name, ONE, priority=priority))
    house.ask(quantities={"tokens.input": 200})

    def standing() -> list[tuple[int, int, int]]:
        kept = house.store.protection("acme").credit.grants
        return [(one.burned, one.held, one.free) for one in kept.values()]

    assert standing() == [(0, ONE, 0), (0, ONE, 0)]
    house.capture(tokens=50, id="c-1", final=False)
    assert standing() == [(0, ONE, 0), (ONE // 2, ONE // 2, 0)]
    house.capture(tokens=150, id="c-2", final=False)
    assert standing() == [(ONE // 2, ONE // 2, 0), (ONE, 0, 0)]
    house.capture(tokens=120, id="c-3")
    assert standing() == [(ONE // 5, 0, 4 * ONE // 5), (ONE, 0, 0)]
    _check_fold(house)


def test_a_reversal_refills_the_credit_that_paid() -> None:
    """What no credit paid comes first."""
    house = Guarded()
    house.run(GrantCredit("acme", "g", 6 * ONE // 10))
    house.ask()
    house.capture()
    house.reverse("0.5")
    grant = house.store.protection("acme").credit.grants[0]
    assert grant.burned == ONE // 2
    _check_fold(house)


@pytest.mark.parametrize("by", ["capture", "event", "adjust", "cheaper"])
def test_what_a_reversal_gave_back_is_not_given_back_again(by: str) -> None:
    """Others may have burned it meanwhile; no grant pays more than it is."""
    house = Guarded()
    house.run(GrantCredit("acme", "g", ONE))
    house.ask()
    house.capture(tokens=100, id="c-1", final=False)
    house.reverse("0.5", capture="c-1")
    house.run(usage("o", time="2026-11-03T11:00:00Z", quantities={"tokens.input": 50}))
    if by == "capture":
        house.capture(tokens=200, id="c-2")
    elif by == "event":
        house.run(usage("e", hold="h", quantities={"tokens.input": 200}))
    else:
        tokens = {"tokens.input": 200 if by == "adjust" else 60}
        house.run(adjust("c-1", target_source="tallybook:hold", quantities=tokens))
    grant = house.store.protection("acme").credit.grants[0]
    assert (grant.burned, grant.free) == (
        (ONE, 0) if by != "cheaper" else (6 * ONE // 10, 4 * ONE // 10)
    )
    _check_fold(house)


def test_a_voided_event_gives_its_credit_back() -> None:
    """Exactly what it had burned, and what it owed."""
    house = Guarded()
    house.run(SetCreditPolicy("acme", True))
    house.run(GrantCredit("acme", "g", ONE // 2))
    house.run(usage("e-1", quantities={"tokens.input": 100}))
    assert house.store.protection("acme").credit.owed == ONE // 2
    house.run(void("e-1"))
    credit = house.store.protection("acme").credit
    assert (credit.owed, credit.grants[0].burned) == (0, 0)
    _check_fold(house)


def test_a_void_of_usage_frees_the_budget() -> None:
    """Spent is what stands."""
    house = Guarded()
    house.budget(cap="1")
    house.run(usage("e-1", time="2026-11-03T11:00:00Z", quantities={"tokens.input": 100}))
    assert house.ask("a").status == "denied_exceeds_budget"
    house.run(void("e-1"))
    assert house.ask("b").status == "created"


def _steps(house: Guarded) -> dict[str, Any]:
    return {
        "first": lambda: house.capture(tokens=40, id="c-1", final=False),
        "second": lambda: house.capture(tokens=70, id="c-2", final=False),
        "final": lambda: house.capture(tokens=60, id="c-3"),
        "other": lambda: house.run(
            usage("e-9", time="2026-11-03T11:00:00Z", quantities={"tokens.input": 10})
        ),
        "again": lambda: house.capture(tokens=70, id="c-2", final=False),
        "expire": lambda: (house.wait(400), house.run(ExpireHolds("acme"))),
    }


@pytest.mark.parametrize("order", list(permutations(["first", "second", "final", "other"])))
def test_the_order_of_captures_changes_no_total(order: tuple[str, ...]) -> None:
    """The final capture says what it was, whenever it comes."""
    house = Guarded()
    house.budget(cap="5")
    house.ask()
    for name in order:
        _steps(house)[name]()
    assert house.charge() == Decimal("0.7")
    assert house.counter() == (Decimal("0.7"), 0)
    _check_fold(house)


@pytest.mark.parametrize("order", list(permutations(["first", "second", "again", "expire"])))
def test_expiry_and_captures_come_to_the_same_in_any_order(order: tuple[str, ...]) -> None:
    """Not final ones merge by the larger quantity, before the expiry and after it."""
    house = Guarded()
    house.budget(cap="5")
    house.ask()
    house.progress(1, 50)
    for name in order:
        _steps(house)[name]()
    assert house.charge() == Decimal("0.7")
    assert house.counter() == (Decimal("0.7"), 0)
    _check_fold(house)


def test_captures_of_one_batch_see_each_other() -> None:
    """Two checkpoints and the final one in one commit record one event."""
    house = Guarded()
    made = [
        asks.authorize_hold(
            {
                "hold": "h",
                "provider": "openai",
                "model": "gpt",
                "quantities": {"tokens.input": 100},
            },
            tenant="acme",
        ),
        *(
            asks.capture_hold(
                {
                    "capture": f"c-{number}",
                    "quantities": {"tokens.input": tokens},
                    "final": number == 2,
                },
                tenant="acme",
                hold="h",
            )
            for number, tokens in enumerate((10, 30, 20))
        ),
    ]
    answers = house.together(*made)
    assert [one.status for one in answers] == ["created", "captured", "captured", "captured"]
    assert house.charge() == Decimal("0.2")
    _check_fold(house)


def test_holds_beyond_what_one_batch_expires_go_with_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ledger whose holds were all beyond the limit is looked at again."""
    monkeypatch.setattr(store, "DUE_AT_ONCE", 3)
    monkeypatch.setattr(prefetch_holds, "DUE_AT_ONCE", 3)
    house = Guarded()
    house.run(OpenLedger("zeta", "USD", "UTC", "default"))
    for number in range(4):
        house.ask(f"h{number}", amount="1", ttl=10)
    house.wait(1)
    house.holds.authorize({"hold": "z", "amount": "1", "ttl": 10}, tenant="zeta")
    house.sequencer._cache.clear()
    house.wait(60)
    for _ in range(3):
        house.together(ExpireHolds("acme"), ExpireHolds("zeta"))
    kept = [*house.store.protection("acme").holds.values()]
    kept += house.store.protection("zeta").holds.values()
    assert {one.status for one in kept} == {"expired"}
