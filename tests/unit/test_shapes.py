"""Shapes: one body for equal shapes, and decimals in which every amount is exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from fakes.building import both, catalog, rule, usage

from ledger.domain.catalog import Catalog
from ledger.domain.money import AMOUNT_DECIMALS, RoundingMode
from ledger.domain.prices import RoundingScope
from ledger.domain.shapes import (
    CompiledShape,
    LeafRate,
    compile_shape,
    rate_decimal,
    shape_from_body,
)
from ledger.domain.usage import RecordUsage


def _shape(prices: Catalog, command: RecordUsage) -> CompiledShape:
    return prices.rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=command.event.occurred_at or 0,
        book="default",
        currency="USD",
    ).shape


def test_a_shape_is_found_again_from_its_body() -> None:
    """Encoding and decoding give the same compiled shape."""
    shape = _shape(catalog(), usage())
    assert shape_from_body(shape.body).shape == shape.shape
    assert compile_shape(shape.shape) is shape_from_body(shape.body)


def test_an_unpriced_shape_has_no_card_and_names_what_is_missing() -> None:
    """Its entries carry no amounts."""
    shape = _shape(catalog(), usage(model="new"))
    assert shape.unpriced
    assert shape.shape.card is None
    assert set(shape.shape.missing) == {
        "sell:tokens.input",
        "sell:tokens.output",
        "cost:tokens.input",
        "cost:tokens.output",
    }


@pytest.mark.parametrize(
    ("quantity", "rate", "decimals"),
    [(1, "3", 0), (1, "0.000003", 6), ("1.5", "0.000003", 12), ("1.5", "0.000000000001", 18)],
)
def test_amounts_have_the_decimals_of_quantity_and_rate(
    quantity: int | str, rate: str, decimals: int
) -> None:
    """Entries stay small; 18 decimals are the most."""
    shape = _shape(
        Catalog(both("tokens.input", rate, 1)), usage(quantities={"tokens.input": quantity})
    )
    assert shape.charge_decimals == decimals
    assert shape.charge_factor == 10 ** (AMOUNT_DECIMALS - decimals)


def test_amounts_of_rounded_quantities_have_the_decimals_of_billed_ones() -> None:
    """A step may be finer than the quantity."""
    prices = Catalog(both("tokens.input", "0.01", 1, rule=rule("0.5")))
    shape = _shape(prices, usage(quantities={"tokens.input": 1}))
    assert not shape.plain
    assert shape.charge_decimals == 8
    assert shape.quantity_factor == 1_000_000


@pytest.mark.parametrize(
    ("scope", "plain", "stateful"),
    [
        (RoundingScope.NONE, True, False),
        (RoundingScope.LINE, True, False),
        (RoundingScope.REQUEST, False, False),
        (RoundingScope.SESSION, False, True),
    ],
)
def test_a_shape_knows_what_its_amounts_depend_on(
    scope: RoundingScope, plain: bool, stateful: bool
) -> None:
    """Only sessions have a history."""
    prices = Catalog(both("tokens.input", 1, 1, rule=rule(15, 15, scope=scope)))
    shape = _shape(prices, usage(quantities={"tokens.input": 1}))
    assert (shape.plain, shape.stateful) == (plain, stateful)


def test_a_session_rule_that_rounds_nothing_has_no_history() -> None:
    """Without step and minimum there is nothing to sum up for."""
    prices = Catalog(both("tokens.input", 1, 1, rule=rule(scope=RoundingScope.SESSION)))
    shape = _shape(prices, usage(quantities={"tokens.input": 1}))
    assert (shape.plain, shape.stateful) == (True, False)


@pytest.mark.parametrize(
    ("mode", "quantity", "billed"),
    [
        (RoundingMode.UP, 1, 10),
        (RoundingMode.UP, 10, 10),
        (RoundingMode.DOWN, 19, 10),
        (RoundingMode.DOWN, 9, 0),
        (RoundingMode.HALF_UP, 5, 10),
        (RoundingMode.HALF_UP, 4, 0),
        (RoundingMode.HALF_EVEN, 5, 0),
        (RoundingMode.HALF_EVEN, 15, 20),
        (RoundingMode.HALF_EVEN, 25, 20),
        (RoundingMode.HALF_EVEN, 26, 30),
    ],
)
def test_steps_are_rounded_by_their_mode(mode: RoundingMode, quantity: int, billed: int) -> None:
    """Ties go where the mode says."""
    assert LeafRate("", 1, increment=10, mode=mode).billed(quantity) == billed


def test_nothing_is_billed_for_nothing() -> None:
    """A minimum needs some use."""
    rate = LeafRate("", 1, minimum=10)
    assert [rate.billed(quantity) for quantity in (-1, 0, 1, 10, 11)] == [0, 0, 10, 10, 11]


def test_a_compiled_rate_is_shown_as_the_price_of_one_unit() -> None:
    """For people, in decimals."""
    assert rate_decimal(3, 6) == Decimal("0.000003")
