"""Rounding of quantities as providers do it: the examples that must be expressible."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes.building import Amount, both, catalog, rule, usage, void
from fakes.desk import Desk

from ledger.domain.amounts import leaf_amounts, session_amounts
from ledger.domain.catalog import Catalog
from ledger.domain.money import RoundingMode
from ledger.domain.prices import QuantityRule, RoundingScope

METER = "audio.stt.seconds"
WHISPER = rule(1, 0, RoundingMode.HALF_UP)
AWS = rule(1, 15)
GOOGLE = rule(15)
GROQ = rule(0, 10)
EXACT = QuantityRule()


def _billed(steps: QuantityRule, seconds: Amount, *, session: str = "") -> Decimal:
    """Return the billed seconds of one event, at a rate of 1."""
    desk = Desk(Catalog(both(METER, 1, 1, model="audio", rule=steps)))
    desk.do(usage(model="audio", session=session, quantities={METER: seconds}))
    assert sum(desk.balance().decimal_costs().values()) == desk.balance().decimal_charge()
    return desk.balance().decimal_charge()


@pytest.mark.parametrize(
    ("steps", "seconds", "billed"),
    [
        (WHISPER, "12.4", "12"),
        (WHISPER, "12.5", "13"),
        (WHISPER, "0.4", "0"),
        (AWS, "0.1", "15"),
        (AWS, "15", "15"),
        (AWS, "15.000001", "16"),
        (AWS, 61, "61"),
        (GOOGLE, "0.000001", "15"),
        (GOOGLE, 15, "15"),
        (GOOGLE, "15.1", "30"),
        (GROQ, "0.5", "10"),
        (GROQ, "10", "10"),
        (GROQ, "10.25", "10.25"),
        (EXACT, "12.345678", "12.345678"),
        (rule(6, mode=RoundingMode.HALF_EVEN), 9, "12"),
        (rule(6, mode=RoundingMode.HALF_EVEN), 15, "12"),
        (rule(6, mode=RoundingMode.HALF_EVEN), "15.000001", "18"),
        (rule(6, mode=RoundingMode.DOWN), "11.999999", "6"),
        (rule(6, minimum=7, mode=RoundingMode.DOWN), "5", "7"),
        (AWS, 0, "0"),
    ],
)
def test_providers_rounding_is_expressible(
    steps: QuantityRule, seconds: Amount, billed: str
) -> None:
    """Nearest second; steps of one with a minimum of 15; steps of 15; a minimum of 10; exact."""
    assert _billed(steps, seconds) == Decimal(billed)


@pytest.mark.parametrize("scope", [RoundingScope.NONE, RoundingScope.LINE])
def test_a_rule_that_does_not_concern_the_event_leaves_its_quantity(scope: RoundingScope) -> None:
    """Nothing is rounded, or only the invoice line is."""
    assert _billed(rule(15, 15, scope=scope), "0.1") == Decimal("0.1")


def test_requests_are_rounded_one_by_one() -> None:
    """Two requests of half a second in one session are two steps."""
    desk = Desk(Catalog(both(METER, 1, 1, model="audio", rule=AWS)))
    for id in ("a", "b"):
        desk.do(usage(id, model="audio", session="s", quantities={METER: "0.5"}))
    assert desk.balance().decimal_charge() == 30


def test_partial_segments_of_a_session_are_summed_before_rounding() -> None:
    """Each is billed what it adds to the rounded total, which may be nothing."""
    session = rule(15, 15, scope=RoundingScope.SESSION)
    desk = Desk(Catalog(both(METER, 1, 1, model="audio", rule=session)))
    billed = []
    for number, seconds in enumerate(("4", "4", "8", "14", "0.000001")):
        before = desk.balance().decimal_charge()
        desk.do(usage(f"e-{number}", model="audio", session="s", quantities={METER: seconds}))
        billed.append(desk.balance().decimal_charge() - before)
    assert billed == [15, 0, 15, 0, 15]


def test_a_segment_taken_back_gives_back_what_rounding_no_longer_needs() -> None:
    """Not what it was billed: of 4 + 4 seconds the first was billed 15, the second nothing."""
    session = rule(15, 15, scope=RoundingScope.SESSION)
    desk = Desk(Catalog(both(METER, 1, 1, model="audio", rule=session)))
    for id in ("a", "b"):
        desk.do(usage(id, model="audio", session="s", quantities={METER: 4}))
    desk.do(void("a"))
    assert desk.balance().decimal_charge() == 15
    desk.do(void("b", id="v-2"))
    assert desk.balance().decimal_charge() == 0


def test_an_event_without_a_session_is_a_session_of_its_own() -> None:
    """It is rounded alone."""
    session = rule(15, 0, scope=RoundingScope.SESSION)
    assert _billed(session, "0.1") == 15
    assert _billed(session, "0.1", session="s") == 15


def test_a_session_is_summed_apart_for_every_price() -> None:
    """A price that changes in the middle rounds its own part."""
    session = rule(15, 0, scope=RoundingScope.SESSION)
    rows = [
        *both(METER, 1, 1, model="audio", rule=session),
        *both(METER, 2, 2, model="audio", rule=session, since="2026-11-03T12:00:00Z"),
    ]
    desk = Desk(Catalog(rows))
    desk.do(
        usage("a", model="audio", session="s", quantities={METER: 5}, time="2026-11-03T11:59:59Z"),
        usage("b", model="audio", session="s", quantities={METER: 5}),
    )
    assert desk.balance().decimal_charge() == 15 + 30


def test_leaf_amounts_are_the_parts_of_an_event_s_amounts() -> None:
    """Charges and costs leaf by leaf sum to the entry's, whether rounded or not."""
    prices = Catalog(
        [
            *both("tokens.input", "0.000003", "0.000001", model="audio"),
            *both(METER, "0.01", "0.02", model="audio", rule=AWS),
        ]
    )
    command = usage(model="audio", quantities={"tokens.input": 7, METER: "0.5"})
    rated = prices.rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=command.event.occurred_at or 0,
        book="default",
        currency="USD",
    )
    charges, costs = leaf_amounts(rated.shape, command.numbers)
    assert (sum(charges), sum(costs)) == (rated.charge, rated.cost)
    scale = Decimal(10) ** rated.shape.charge_decimals
    assert [charge / scale for charge in charges] == [Decimal("0.15"), Decimal("0.000021")]


def test_an_unpriced_shape_has_no_leaf_amounts() -> None:
    """There is nothing to show leaf by leaf."""
    command = usage(model="new")
    rated = catalog().rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=0,
        book="default",
        currency="USD",
    )
    assert leaf_amounts(rated.shape, command.numbers) == ((), ())
    assert session_amounts(
        rated.shape, command.numbers, "s", lambda key: 0, timezone="UTC", at=0
    ) == (
        (),
        (),
        {},
    )
