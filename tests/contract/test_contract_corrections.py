"""Corrections: once each, before or after their event, and never below zero."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from fakes.building import Amount, adjust, both, catalog, usage, void, wire, wire_adjust, wire_void
from fakes.worlds import House

from ledger.domain.commands import Command, RerateUsage
from ledger.domain.usage import key_digest

MONTH = "2026-11"
NEW = (
    *both("tokens.input", "3", "2.5", per=1_000_000, model="new"),
    *both("tokens.output", "12", "10", per=1_000_000, model="new"),
)
HALF = {"tokens.input": 500, "tokens.output": 100}


def _run(house: House, *batches: list[Command]) -> list[str]:
    """Run batches, each in a process of its own, and return what was answered."""
    return [one.status for batch in batches for one in house.ledger().run(batch)]


@pytest.mark.parametrize("split", [True, False])
def test_a_void_takes_an_event_back(house: House, split: bool) -> None:
    """Quantities, charge and cost return to zero; the event stays counted as voided."""
    answers = _run(house, [usage()], [void()]) if split else _run(house, [usage(), void()])
    assert answers == ["accepted", "accepted"]
    balance = house.balances()[MONTH]
    assert (balance.charge, set(balance.costs.values())) == (0, {0})
    assert set(balance.quantities.values()) == {0}
    assert (balance.events, balance.voided) == (1, 1)


@pytest.mark.parametrize("split", [True, False])
def test_an_adjustment_replaces_the_quantities(house: House, split: bool) -> None:
    """What stands is rated anew; what stood is taken back."""
    event, correction = usage(), adjust(quantities=HALF)
    answers = _run(house, [event], [correction]) if split else _run(house, [event, correction])
    assert answers == ["accepted", "accepted"]
    balance = house.balances()[MONTH]
    assert balance.decimal_charge() == Decimal("0.0027")
    assert balance.decimal_quantities()["tokens.input"] == 500
    assert (balance.events, balance.voided) == (1, 0)


def test_an_adjustment_may_name_other_meters(house: House) -> None:
    """The replacement has its own shape, rated with the event's prices."""
    assert _run(house, [usage()], [adjust(quantities={"tokens.output": "10.5"})]) == [
        "accepted",
        "accepted",
    ]
    balance = house.balances()[MONTH]
    assert balance.decimal_charge() == Decimal("0.000126")
    assert balance.as_tuple()[3] == {"tokens.output": 10_500_000}


@pytest.mark.parametrize("split", [True, False])
def test_a_void_before_its_event_takes_effect_when_the_event_comes(
    house: House, split: bool
) -> None:
    """It answers ``unmatched``, waits, and then leaves nothing standing."""
    ledger = house.ledger()
    if split:
        [early] = ledger.run([void()])
        assert house.world.rows()["acme"].tenant.pending == 1
        [late] = house.ledger().run([usage()])
    else:
        early, late = ledger.run([void(), usage()])
    assert (early.flags, late.status) == (("unmatched",), "accepted")
    assert house.world.rows()["acme"].tenant.pending == 0
    balance = house.balances()[MONTH]
    assert (balance.charge, balance.events, balance.voided) == (0, 1, 1)


@pytest.mark.parametrize("split", [True, False])
def test_an_adjustment_before_its_event_takes_effect_when_the_event_comes(
    house: House, split: bool
) -> None:
    """The replacement quantities are what is charged."""
    early = adjust(quantities=HALF)
    _run(house, *([[early], [usage()]] if split else [[early, usage()]]))
    balance = house.balances()[MONTH]
    assert balance.decimal_charge() == Decimal("0.0027")
    assert (balance.events, balance.voided) == (1, 0)


@pytest.mark.parametrize("order", ["vae", "ave", "vea", "aev", "eav", "eva"])
@pytest.mark.parametrize("split", [True, False])
def test_a_void_outweighs_an_adjustment_in_any_order(house: House, order: str, split: bool) -> None:
    """Whichever of event, void and adjustment comes when: nothing is charged."""
    made: dict[str, Command] = {"e": usage(), "v": void(), "a": adjust(quantities=HALF)}
    commands = [made[letter] for letter in order]
    statuses = _run(house, *([[one] for one in commands] if split else [commands]))
    assert statuses == ["accepted"] * 3
    balance = house.balances()[MONTH]
    assert (balance.charge, balance.events, balance.voided) == (0, 1, 1)
    assert house.world.rows()["acme"].tenant.pending == 0


def test_an_adjustment_of_a_voided_event_says_that_it_is_superseded(house: House) -> None:
    """It is kept, flagged, and without effect."""
    ledger = house.ledger()
    ledger.run([usage(), void()])
    [outcome] = ledger.run([adjust()])
    assert (outcome.status, outcome.flags) == ("accepted", ("superseded_by_void",))


@pytest.mark.parametrize("kind", ["void", "adjust"])
def test_an_event_is_corrected_once_of_each_kind(house: House, kind: str) -> None:
    """A second correction under another key is rejected, in any process."""
    make = void if kind == "void" else adjust
    ledger = house.ledger()
    ledger.run([usage(), make(id="first")])
    outcomes = [*ledger.run([make(id="second")]), *house.ledger().run([make(id="third")])]
    assert [one.status for one in outcomes] == ["rejected", "rejected"]
    code = "already_voided" if kind == "void" else "already_adjusted"
    assert {one.problem.code for one in outcomes if one.problem} == {code}


def test_a_repeated_correction_is_a_duplicate_and_another_payload_a_conflict(house: House) -> None:
    """Corrections have keys like events; their conflicts are kept once."""
    ledger = house.ledger()
    ledger.record([wire()])
    [first] = ledger.record([wire_void()])
    again, other, other_again = house.ledger().record(
        [wire_void(), wire_void("e-2"), wire_void("e-2")]
    )
    assert (again.status, again.version, again.index) == ("duplicate", first.version, first.index)
    assert (other.status, other_again.status) == ("conflict", "conflict")
    assert len(house.world.rows()["acme"].conflicts) == 1


def test_a_correction_of_a_source_may_name_another_source_s_event(house: House) -> None:
    """The target's source defaults to the correction's own."""
    ledger = house.ledger()
    ledger.run([usage(source="a"), usage(source="b")])
    ledger.run([void(source="b", target_source="a")])
    target = house.world.rows()["acme"].corrections
    assert set(target) == {key_digest("a", "e-1")}
    assert house.balances()[MONTH].voided == 1


def test_a_correction_moves_the_period_of_its_event(house: House) -> None:
    """October's usage is taken back from October, by whoever and whenever."""
    house.ledger().record([wire(time="2026-10-05T00:00:00Z"), wire("b")])
    house.ledger().record([wire_void(), wire_adjust({"tokens.input": 1}, "b")])
    balances = house.balances()
    assert (balances["2026-10"].voided, balances["2026-11"].voided) == (1, 0)
    assert balances["2026-10"].charge == 0
    assert balances["2026-11"].decimal_charge() == Decimal("0.000003")


def test_a_voided_unpriced_event_is_no_longer_waiting(house: House) -> None:
    """It is neither counted as unpriced nor listed."""
    house.ledger().run([usage(model="new")])
    house.ledger().run([void()])
    assert house.balances()[MONTH].unpriced == 0
    assert house.world.rows()["acme"].unpriced == {}


def test_a_voided_event_leaves_the_same_key_of_another_tenant_waiting(house: House) -> None:
    """Unpriced usage is listed by tenant and key."""
    house.ledger().run([usage(model="new"), usage(model="new", tenant="other")])
    house.ledger().run([void()])
    assert len(house.world.rows()["other"].unpriced) == 1
    assert house.world.rows()["acme"].unpriced == {}


def test_an_adjusted_unpriced_event_waits_on_and_is_rated_with_its_new_quantities(
    house: House,
) -> None:
    """Approving the price later rates what stands, not what was sent first."""
    [*_, adjusted] = house.ledger().run([usage(model="new"), adjust(quantities=HALF)])
    assert adjusted.flags == ("unpriced",)
    assert len(house.world.rows()["acme"].unpriced) == 1
    house.prices.change(catalog(*NEW))
    house.ledger().run([RerateUsage("acme", "gateway", "e-1", "price_approved")])
    balance = house.balances()[MONTH]
    assert (balance.unpriced, balance.decimal_charge()) == (0, Decimal("0.0027"))


def test_a_voided_event_is_not_rated_again(house: House) -> None:
    """Re-rating answers ``unchanged`` once nothing stands."""
    house.ledger().run([usage(model="new"), void()])
    house.prices.change(catalog(*NEW))
    [outcome] = house.ledger().run([RerateUsage("acme", "gateway", "e-1", "price_approved")])
    assert outcome.status == "unchanged"
    assert house.balances()[MONTH].charge == 0


def test_a_rerating_of_an_unknown_event_is_rejected(house: House) -> None:
    """There is nothing to rate."""
    house.ledger().run([usage()])
    [outcome] = house.ledger().run([RerateUsage("acme", "gateway", "nobody", "price_changed")])
    assert outcome.status == "rejected"
    assert outcome.problem is not None
    assert outcome.problem.code == "unknown_event"


def _live(id: str, seconds: Amount, *, session: str = "s-1") -> Command:
    return usage(id, model="live", session=session, quantities={"audio.session.seconds": seconds})


def test_segments_of_one_session_are_rounded_together_over_many_commits(house: House) -> None:
    """4 + 4 + 8 seconds in steps of 15 are 30 billed seconds, not 45, in any process."""
    for number, seconds in enumerate((4, 4, 8)):
        house.ledger().run([_live(f"part-{number}", seconds)])
    balance = house.balances()[MONTH]
    assert balance.decimal_charge() == Decimal("0.030")
    assert balance.decimal_costs() == {"USD": Decimal("0.012")}


def test_a_session_over_a_month_end_is_rounded_in_each_month_whatever_comes_first(
    house: House,
) -> None:
    """20 seconds in one month are 30 billed, 5 in the next 15: in either order of arrival."""

    def segment(tenant: str, id: str, time: str, seconds: Amount) -> Command:
        quantities = {"audio.session.seconds": seconds}
        return usage(id, tenant=tenant, model="live", session="s", time=time, quantities=quantities)

    first = ("a", "2026-03-31T23:59:00Z", 20)
    second = ("b", "2026-04-01T00:00:10Z", 5)
    for tenant, order in (("acme", (first, second)), ("birch", (second, first))):
        for id, time, seconds in order:
            house.ledger().run([segment(tenant, id, time, seconds)])
    for tenant in ("acme", "birch"):
        rows = house.world.rows()[tenant].balances
        charges = {one.period: one.decimal_charge() for one in rows}
        assert charges == {"2026-03": Decimal("0.030"), "2026-04": Decimal("0.015")}


def test_a_segment_that_is_taken_back_gives_back_what_rounding_no_longer_needs(
    house: House,
) -> None:
    """Of 4 + 4 + 8 seconds, without 8 there are 8: 15 billed."""
    house.ledger().run([_live("a", 4), _live("b", 4)])
    house.ledger().run([_live("c", 8)])
    house.ledger().run([void("c")])
    assert house.balances()[MONTH].decimal_charge() == Decimal("0.015")
    house.ledger().run([void("a", id="v-2"), void("b", id="v-3")])
    assert house.balances()[MONTH].charge == 0
    assert set(house.world.rows()["acme"].accumulators.values()) == {0}


def test_what_a_segment_gives_back_is_not_what_it_was_billed(house: House) -> None:
    """The first of 4 + 4 seconds was billed 15, and without it 15 are billed still."""
    house.ledger().run([_live("a", 4), _live("b", 4)])
    house.ledger().run([void("a")])
    assert house.balances()[MONTH].decimal_charge() == Decimal("0.015")


def test_a_segment_may_be_adjusted_and_corrected_before_it_comes(house: House) -> None:
    """The session's total is of what stands: 2 + 20 seconds are 30."""
    house.ledger().run([adjust("a", quantities={"audio.session.seconds": 20}), _live("b", 2)])
    house.ledger().run([_live("a", 100)])
    assert house.balances()[MONTH].decimal_charge() == Decimal("0.030")
    house.ledger().run([adjust("b", id="a-2", quantities={"audio.session.seconds": "12.5"})])
    assert house.balances()[MONTH].decimal_charge() == Decimal("0.045")


def test_sessions_of_different_name_are_rounded_apart(house: House) -> None:
    """Two sessions of 4 seconds are 15 billed seconds each."""
    house.ledger().run([_live("a", 4), _live("b", 4, session="s-2")])
    assert house.balances()[MONTH].decimal_charge() == Decimal("0.030")


@pytest.mark.parametrize("correct", [void, adjust])
@pytest.mark.parametrize("first", ["void", "adjustment", "early void", "early adjustment"])
def test_a_correction_cannot_be_corrected(
    house: House, correct: Callable[..., Command], first: str
) -> None:
    """Only usage events can be taken back or adjusted; a correction's key names none."""
    made: Command = void(id="c-1") if first.endswith("void") else adjust(id="c-1", quantities=HALF)
    commands = [made] if first.startswith("early") else [usage(), made]
    commands.append(correct("c-1", id="c-2"))
    answers = [house.ledger().run([command])[0] for command in commands]
    assert answers[-1].status == "rejected"
    assert answers[-1].problem is not None
    assert answers[-1].problem.code == "not_usage"


def test_corrections_never_take_a_balance_below_zero(house: House) -> None:
    """An event that was adjusted and voided is worth nothing, whatever else is voided."""
    house.ledger().run([usage()])
    house.ledger().run([adjust(quantities=HALF)])
    house.ledger().run([void("a-1", id="v-1"), void(id="v-2")])
    balance = house.balances()[MONTH]
    assert (balance.charge, balance.voided) == (0, 1)
