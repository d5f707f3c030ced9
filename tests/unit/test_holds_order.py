"""What a hold's call was, when, for whom and at what price: the same in whatever order it is told.

100 input tokens cost 1, of the model ``mini`` a quarter of that, of ``nano`` a tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from fakes.building import adjust, both, catalog, us, usage, void
from fakes.guarding import PRICES, SECOND, START, Guarded

from ledger.domain.entries import Posting, UsageRecorded
from ledger.domain.holds import EXPIRY_SOURCE, HOLD_SOURCE, ExpireHolds
from ledger.domain.ledger import standing_posting
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy

Act = Callable[[Guarded], Any]
CHEAP = catalog(*PRICES, *both("tokens.input", "0.1", "0.05", per=100, model="nano"))


def _expire(house: Guarded) -> None:
    house.wait(400)
    house.run(ExpireHolds("acme"))


def _ask(house: Guarded) -> None:
    house.ask(user="ann")


def _capture(id: str, tokens: int, *, final: bool = False, **said: object) -> Act:
    return lambda house: house.capture(tokens=tokens, id=id, final=final, **said)


def _event(id: str, tokens: int, **members: Any) -> Act:
    command = usage(id, hold="h", quantities={"tokens.input": tokens}, **members)
    return lambda house: house.run(command)


def _after(*acts: Act, asked: bool = True, progress: int = 0) -> Guarded:
    """Return a ledger with a cap in all and one of the user ann, after an ask and these acts."""
    house = Guarded(prices=CHEAP)
    house.budget("all", cap="5")
    house.budget("ann", cap="5", scope="user=ann")
    if asked:
        _ask(house)
    if progress:
        house.progress(1, progress)
    for act in acts:
        act(house)
    return house


def _totals(house: Guarded) -> tuple[Decimal, Decimal, Decimal]:
    """Return the charge, and what either cap counts as spent."""
    return house.charge(), house.counter(0)[0], house.counter(1)[0]


def _standing(house: Guarded) -> Posting:
    """Return the last posting of the ledger."""
    for entry in reversed(house.store.entries("acme")):
        if isinstance(entry, UsageRecorded) or hasattr(entry, "posted"):
            posting = standing_posting(entry)
            if posting is not None:
                return posting
    raise LookupError("nothing is posted")


def _all(amount: str) -> tuple[Decimal, Decimal, Decimal]:
    return (Decimal(amount),) * 3


MINI = {"provider": "openai", "model": "mini"}
SAYS_MINI = _capture("c-1", 60, **MINI)
SAYS_NOTHING = _capture("c-2", 80)


# -- what the call was ----------------------------------------------------------------


def test_a_late_capture_says_what_the_expired_call_was() -> None:
    """A checkpoint of 80 tokens was recorded as of the model asked for; it was a cheaper one."""
    house = _after(_expire, SAYS_MINI, progress=80)
    assert _totals(house) == _all("0.2")


@pytest.mark.parametrize("order", list(permutations([_expire, SAYS_MINI, SAYS_NOTHING])))
def test_what_one_capture_says_of_the_model_counts_in_any_order(order: tuple[Act, ...]) -> None:
    """A capture that says nothing takes nothing back, and one without new quantities still says."""
    assert _totals(_after(*order, progress=50)) == _all("0.2")


@pytest.mark.parametrize("order", list(permutations(["gpt", "mini", "nano"])))
def test_of_captures_that_contradict_each_other_the_greater_name_counts(
    order: tuple[str, ...],
) -> None:
    """Which came last does not; one that repeats what was asked for contradicts nothing."""
    acts = [_capture(f"c-{name}", 100, provider="openai", model=name) for name in order]
    assert _totals(_after(*acts)) == _all("0.1")


def test_a_final_capture_alone_says_what_the_call_was() -> None:
    """What was said before it does not count, as it would not if it came after."""
    final = _capture("c-3", 100, final=True)
    assert _totals(_after(SAYS_MINI, final)) == _totals(_after(final, SAYS_MINI)) == _all("1")


def test_another_final_capture_that_says_another_model_is_a_conflict() -> None:
    """It would be charged differently, so it is no repetition."""
    house = _after(_capture("c-3", 100, final=True))
    assert house.capture(tokens=100, id="c-4").status == "exists"
    assert house.capture(tokens=100, id="c-5", **MINI).status == "capture_conflict"
    event = usage("e-1", hold="h", model="mini", user="ann", quantities={"tokens.input": 100})
    assert house.run(event).status == "conflict"
    assert house.charge() == 1


# -- corrections ----------------------------------------------------------------------


@pytest.mark.parametrize("place", range(3))
def test_an_adjustment_of_a_hold_s_usage_stands_whatever_captures_follow(place: int) -> None:
    """It may come before the usage, between two captures, or after both."""
    command = adjust("c-1", target_source=HOLD_SOURCE, quantities={"tokens.input": 40})
    acts = [_capture("c-1", 30, **MINI), _capture("c-2", 90, final=True)]
    acts.insert(place, lambda house: house.run(command))
    house = _after(*acts)
    assert _totals(house) == _all("0.4")
    assert house.hold().captured == (90 * 10**6,)


def test_captures_after_a_void_of_the_usage_charge_nothing() -> None:
    """As if the void had come last."""
    taken_back = void("c-1", target_source=HOLD_SOURCE)
    first, second = _capture("c-1", 30), _capture("c-2", 90, final=True)
    house = _after(first, lambda one: one.run(taken_back), second)
    assert _totals(house) == _all("0")
    assert _totals(_after(first, second, lambda one: one.run(taken_back))) == _all("0")


def test_an_open_hold_keeps_what_it_reserves_when_its_usage_is_corrected() -> None:
    """Corrections change what is spent; captures alone draw a hold down."""
    house = _after(_capture("c-1", 30))
    assert house.counter() == (Decimal("0.3"), Decimal("0.7"))
    house.run(adjust("c-1", target_source=HOLD_SOURCE, quantities={"tokens.input": 5}))
    assert house.counter() == (Decimal("0.05"), Decimal("0.7"))
    house.capture(tokens=60, id="c-2", final=False)
    assert house.counter() == (Decimal("0.05"), Decimal("0.7"))


def test_what_a_hold_reserved_of_credit_pays_the_charge_that_was_corrected_in_advance() -> None:
    """Nothing is owed while the hold's own credit is there."""
    house = Guarded()
    house.run(SetCreditPolicy("acme", True))
    house.run(GrantCredit("acme", "g", 10**18))
    house.ask()
    house.run(adjust("c-1", target_source=HOLD_SOURCE, quantities={"tokens.input": 80}))
    house.capture(tokens=100, id="c-1")
    credit = house.store.protection("acme").credit
    assert (credit.owed, credit.grants[0].burned) == (0, 8 * 10**17)


# -- when -----------------------------------------------------------------------------


def _at(seconds: int) -> str:
    return f"2026-11-03T12:00:{seconds:02}Z"


TIMED = [
    _capture("c-1", 30, occurred_at=_at(20)),
    _capture("c-2", 40, occurred_at=_at(10)),
    _capture("c-3", 40),
]


@pytest.mark.parametrize("order", list(permutations(TIMED)))
def test_the_earliest_time_that_a_capture_names_counts(order: tuple[Act, ...]) -> None:
    """Until the final one, which says its own."""
    house = _after(*order)
    assert _standing(house).occurred_at == us(_at(10))
    house.capture(tokens=50, id="c-4", occurred_at=_at(30))
    assert _standing(house).occurred_at == us(_at(30))


def test_a_late_capture_that_names_no_time_has_that_of_the_expiry() -> None:
    """It counts in the windows in which the call ran, not in those in which a spool was read."""
    house = _after(lambda one: one.wait(40 * 24 * 3600), _capture("c-1", 50, final=True))
    assert house.hold().status == "expired"
    assert _standing(house).occurred_at == START + 300 * SECOND
    early = _after(_expire, _capture("c-1", 50, final=True), progress=20)
    assert _standing(early).occurred_at == START + 300 * SECOND


# -- for whom -------------------------------------------------------------------------


def test_a_usage_event_says_for_whom_the_call_was_and_leaves_the_rest_to_its_hold() -> None:
    """Whether it records the usage or restates it."""
    for before in ([], [_capture("c-1", 30)]):
        assert _totals(_after(*before, _event("e-1", 80))) == _all("0.8")
        other = _after(*before, _event("e-1", 80, user="bob"))
        assert _totals(other) == (Decimal("0.8"), Decimal("0.8"), 0)


@pytest.mark.parametrize("final", [True, False])
def test_usage_that_came_before_its_authorization_learns_what_the_ask_says(final: bool) -> None:
    """A capture that names nothing has no price until then; in the other order it has one."""
    act = _capture("c-1", 80, final=final)
    house = _after(act, asked=False)
    assert house.charge() == 0
    _ask(house)
    assert house.hold().code == "created_resolved"
    assert _totals(house) == _totals(_after(act)) == _all("0.8")
    assert house.capture(tokens=90, id="c-2", final=False).status == (
        "stale_capture" if final else "captured_unmatched"
    )


def test_usage_of_a_hold_that_was_voided_first_learns_it_too() -> None:
    """The void came first, then the capture, the ask last."""
    house = _after(lambda one: one.void(), _capture("c-1", 80, final=True), _ask, asked=False)
    assert house.hold().code == "denied_voided"
    assert _totals(house) == _all("0.8")


def test_a_usage_event_before_its_authorization_keeps_its_model_and_learns_its_user() -> None:
    """It said what the call was, all of it."""
    house = _after(_event("e-1", 80, model="mini"), _ask, asked=False)
    assert _totals(house) == _all("0.2")
    tiered = _after(_event("e-1", 80), lambda one: one.ask(tier="priority"), asked=False)
    assert tiered.charge() == Decimal("0.8")


def test_an_expiry_takes_a_correction_that_came_before_its_usage() -> None:
    """Its usage event has the hold's id, so somebody may have corrected it in advance."""
    early = adjust("h", target_source=EXPIRY_SOURCE, quantities={"tokens.input": 10})
    house = _after(lambda one: one.run(early), _expire, progress=50)
    assert _totals(house) == _all("0.1")


# -- extensions -----------------------------------------------------------------------


def test_what_captures_posted_counts_towards_the_target_of_an_extension() -> None:
    """The target is of the hold in all: 2, of which 0.6 is spent."""
    house = _after(_capture("c-1", 60))
    assert house.counter() == (Decimal("0.6"), Decimal("0.4"))
    house.extend(1, amount="2")
    assert house.counter() == (Decimal("0.6"), Decimal("1.4"))
    house.extend(2, quantities={"tokens.input": 300})
    assert house.counter() == (Decimal("0.6"), Decimal("2.4"))
    answer = house.capture(tokens=310, id="c-2")
    assert answer.detail is not None
    assert answer.detail.overrun == 10**17


def test_an_expiry_in_full_records_what_extensions_added() -> None:
    """Other meters too, in quantities that are not whole, and never less than was asked for."""
    house = Guarded()
    house.ask(on_expiry="capture_full", quantities={"tokens.input": 100})
    house.extend(1, quantities={"tokens.input": 50, "tokens.output": "10.5"})
    _expire(house)
    assert house.charge() == Decimal("1.42")


def test_an_extension_of_what_has_no_price_passes_where_no_cap_counts_money() -> None:
    """As an authorization of it does: a cap on tokens knows its tokens."""
    house = Guarded()
    house.budget("tokens", cap="500", measure="tokens.input")
    assert house.ask(model="new").status == "created"
    more = {"tokens.input": 300}
    assert house.extend(1, quantities=more).status == "extended"
    assert house.counter() == (0, Decimal(0) + Decimal(300) * 10**6 / 10**18)
    assert house.extend(2, quantities={"tokens.input": 600}).status == "denied_exceeds_budget"


def test_an_extension_binds_a_new_budget_in_the_window_of_the_authorization() -> None:
    """A hold counts in the windows of the instant when it was authorized, wherever it grows."""
    house = Guarded()
    house.wait(12 * 3600 - 60)
    house.ask()
    house.budget("late", cap="5", window="day")
    house.wait(120)
    house.extend(1, quantities={"tokens.input": 200})
    assert house.counter(0, us("2026-11-03T00:00:00Z")) == (0, 2)
    assert house.counter(0, us("2026-11-04T00:00:00Z")) == (0, 0)


def test_a_cap_that_is_passed_already_refuses_what_has_no_price_too() -> None:
    """``on_unpriced: allow`` counts nothing for it; nothing is too much above the limit."""
    house = Guarded()
    house.budget(cap="1", on_unpriced="allow")
    assert house.ask("a", model="new").status == "created"
    house.run(usage("e-1", time="2026-11-03T11:00:00Z", quantities={"tokens.input": 101}))
    assert house.ask("b", model="new").status == "denied_exceeds_budget"
