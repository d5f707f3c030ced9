"""Looking prices up: dates, regions, tiers, context cliffs, who pays, and what is missing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from fakes.building import both, catalog, cost, sell, usage

from ledger.domain.catalog import Catalog, Rated
from ledger.domain.money import from_scaled
from ledger.domain.prices import ModelMatch, PriceKey, PriceKind
from ledger.domain.usage import RecordUsage

ONE = {"tokens.input": 1}


def _rate(
    prices: Catalog, command: RecordUsage, *, book: str = "default", currency: str = "USD"
) -> Rated:
    return prices.rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=command.event.occurred_at or 0,
        book=book,
        currency=currency,
    )


def _charge(prices: Catalog, command: RecordUsage, **how: Any) -> Decimal | None:
    """Return the charge, or None where the event is unpriced."""
    rated = _rate(prices, command, **how)
    if rated.shape.unpriced:
        return None
    return from_scaled(rated.charge, rated.shape.charge_decimals)


def _cost(prices: Catalog, command: RecordUsage) -> Decimal | None:
    rated = _rate(prices, command)
    if rated.shape.unpriced:
        return None
    return from_scaled(rated.cost, rated.shape.cost_decimals)


def _one(**members: Any) -> RecordUsage:
    return usage(quantities=ONE, **members)


@pytest.mark.parametrize(
    ("time", "price"),
    [
        ("2026-05-31T23:59:59.999999Z", 1),
        ("2026-06-01T00:00:00Z", 2),
        ("2026-06-30T23:59:59.999999Z", 2),
        ("2026-07-01T00:00:00Z", 3),
        ("2026-12-01T00:00:00Z", 3),
    ],
)
def test_the_row_in_force_is_the_latest_that_has_begun(time: str, price: int) -> None:
    """A row holds from its first microsecond to the next row's."""
    prices = Catalog(
        [
            cost("tokens.input", 1),
            sell("tokens.input", 3, since="2026-07-01T00:00:00Z"),
            sell("tokens.input", 1),
            sell("tokens.input", 2, since="2026-06-01T00:00:00Z"),
        ]
    )
    assert _charge(prices, _one(time=time)) == price


def test_before_its_first_row_a_meter_has_no_price() -> None:
    """A price does not hold backwards."""
    assert _charge(catalog(), _one(time="2025-12-31T23:59:59.999999Z")) is None


def test_of_two_rows_with_one_date_the_later_in_order_counts() -> None:
    """The catalog's order is the order of approval."""
    rows = [cost("tokens.input", 1), sell("tokens.input", 1), sell("tokens.input", 2)]
    assert _charge(Catalog(rows), _one()) == 2


@pytest.mark.parametrize(("region", "price"), [("", 1), ("eu", 2), ("us", 1)])
def test_a_region_without_a_row_uses_the_row_of_every_region(region: str, price: int) -> None:
    """Its own row comes first."""
    prices = Catalog([*both("tokens.input", 1, 1), *both("tokens.input", 2, 2, region="eu")])
    assert _charge(prices, _one(region=region)) == price
    assert _cost(prices, _one(region=region)) == price


def test_a_region_whose_row_has_not_begun_uses_the_row_of_every_region() -> None:
    """A future row is no row yet."""
    prices = Catalog(
        [
            *both("tokens.input", 1, 1),
            *both("tokens.input", 2, 2, region="eu", since="2027-01-01T00:00:00Z"),
        ]
    )
    assert _charge(prices, _one(region="eu")) == 1


def test_a_row_of_one_region_prices_no_other() -> None:
    """Without a row of every region, other regions are unpriced."""
    prices = Catalog(both("tokens.input", 2, 2, region="eu"))
    assert _charge(prices, _one(region="us")) is None
    assert _charge(prices, _one()) is None


@pytest.mark.parametrize("members", [{"tier": "priority"}, {"batch": True}])
def test_tier_and_batch_must_be_equal(members: dict[str, Any]) -> None:
    """There is no falling back to the standard tier: that price would be a guess."""
    plain = Catalog(both("tokens.input", 1, 1))
    assert _charge(plain, _one(**members)) is None
    both_ways = Catalog([*both("tokens.input", 1, 1), *both("tokens.input", 5, 5, **members)])
    assert _charge(both_ways, _one(**members)) == 5
    assert _charge(both_ways, _one()) == 1


@pytest.mark.parametrize(
    ("tokens", "price"),
    [(1, 1), (200_000, 1), (200_001, 2), (1_000_000, 2), (1_000_001, 3), (9_000_000, 3)],
)
def test_context_tiers_are_cliffs_above_their_threshold(tokens: int, price: int) -> None:
    """At the threshold the lower price holds; one token over, the whole request is re-priced."""
    prices = Catalog(
        row
        for over, rate in ((200_000, 2), (0, 1), (1_000_000, 3))
        for row in both("tokens.input", rate, rate, context_over=over)
    )
    assert _charge(prices, usage(quantities={"tokens.input": tokens})) == tokens * price


def test_all_input_leaves_count_towards_the_context_and_output_does_not() -> None:
    """Cached and audio input are context too; the output is re-priced with it."""
    meters = ("tokens.input", "tokens.input.cache_read", "tokens.output")
    prices = Catalog(
        row
        for over, rate in ((0, 1), (100, 2))
        for meter in meters
        for row in both(meter, rate, rate, context_over=over)
    )
    at = {"tokens.input": 40, "tokens.input.cache_read": 60, "tokens.output": 500}
    assert _charge(prices, usage(quantities=at)) == 600
    over: dict[str, Any] = {**at, "tokens.input.cache_read": "60.5"}
    assert _charge(prices, usage(quantities=over)) == Decimal("1201.0")


def test_a_meter_without_a_row_of_the_context_tier_keeps_its_lower_one() -> None:
    """Only what has a row above the threshold is re-priced."""
    prices = Catalog(
        [
            *both("tokens.input", 1, 1),
            *both("tokens.input", 2, 2, context_over=100),
            *both("tokens.output", 1, 1),
        ]
    )
    command = usage(quantities={"tokens.input": 101, "tokens.output": 10})
    assert _charge(prices, command) == 212


def test_one_leaf_without_a_price_makes_the_whole_event_unpriced() -> None:
    """What is missing is named, sell and cost apart."""
    prices = Catalog([*both("tokens.input", 1, 1), sell("tokens.output", 1)])
    rated = _rate(prices, usage(quantities={"tokens.input": 1, "tokens.output": 1, "images": 1}))
    assert rated.shape.unpriced
    assert (rated.charge, rated.cost) == (0, 0)
    assert set(rated.shape.shape.missing) == {"sell:images", "cost:images", "cost:tokens.output"}


def test_a_leaf_with_quantity_zero_needs_no_price() -> None:
    """An explicit zero is a fact that costs nothing; the same leaf with a quantity is unpriced."""
    prices = Catalog(both("tokens.input", 1, 1))
    assert _charge(prices, usage(quantities={"tokens.input": 5, "images": 0})) == 5
    assert _charge(prices, usage(quantities={"tokens.input": 5, "images": 1})) is None
    assert _charge(prices, usage(quantities={"tokens.input": 5, "images": 0})) == 5


def test_a_call_with_the_tenant_s_own_key_has_no_cost_and_pays_platform_fees() -> None:
    """Without a fee row it is free, and it is never unpriced."""
    fees = Catalog([*both("tokens.input", 5, 4), sell("tokens.input", 1, tier="byok")])
    assert _charge(fees, _one(byok=True)) == 1
    assert _cost(fees, _one(byok=True)) == 0
    assert _charge(fees, _one()) == 5
    assert _charge(Catalog(), _one(byok=True)) == 0


def test_usage_that_the_platform_pays_is_not_charged_and_costs_us() -> None:
    """It needs a cost row and no sell row."""
    prices = Catalog([cost("tokens.input", 4)])
    assert _charge(prices, _one(billable="platform")) == 0
    assert _cost(prices, _one(billable="platform")) == 4
    assert _charge(prices, _one()) is None
    assert _charge(Catalog(), _one(billable="platform")) is None


def test_a_sell_row_in_another_currency_does_not_apply() -> None:
    """A ledger in EUR is unpriced until there is a price in EUR; cost keeps its own currency."""
    prices = Catalog(both("tokens.input", 1, 1))
    assert _charge(prices, _one(), currency="EUR") is None
    euros = Catalog([sell("tokens.input", 1, currency="EUR"), cost("tokens.input", 1)])
    rated = _rate(euros, _one(), currency="EUR")
    assert not rated.shape.unpriced
    assert rated.shape.cost_currency == "USD"


def test_costs_in_two_currencies_make_an_event_unpriced() -> None:
    """One entry has one cost."""
    prices = Catalog(
        [
            *both("tokens.input", 1, 1),
            sell("tokens.output", 1),
            cost("tokens.output", 1, currency="EUR"),
        ]
    )
    assert _charge(prices, usage()) is None
    assert _rate(prices, usage()).shape.shape.missing == ("cost:one currency",)


def test_books_have_sell_prices_of_their_own() -> None:
    """Costs are shared by all books."""
    prices = Catalog([*both("tokens.input", 1, 1), sell("tokens.input", 3, book="gold")])
    assert _charge(prices, _one(), book="gold") == 3
    assert _charge(prices, _one()) == 1
    assert _charge(prices, _one(), book="nobody's") is None


@pytest.mark.parametrize(
    ("provider", "model", "price"),
    [("openai", "gpt", 3), ("openai", "other", 2), ("google", "gpt", 1)],
)
def test_the_nearest_sell_rows_apply(provider: str, model: str, price: int) -> None:
    """A model's own rows, else its provider's, else those for any."""
    everywhere = [
        cost("tokens.input", 1, provider=p, model=m)
        for p, m in (("openai", "gpt"), ("openai", "other"), ("google", "gpt"))
    ]
    prices = Catalog(
        [
            *everywhere,
            sell("tokens.input", 1, provider="*", model="*"),
            sell("tokens.input", 2, model="*"),
            sell("tokens.input", 3),
        ]
    )
    assert _charge(prices, _one(provider=provider, model=model)) == price


def test_a_wildcard_is_for_sell_rows_only() -> None:
    """A provider's cost of an unknown model is unknown."""
    prices = Catalog(both("tokens.input", 1, 1, provider="*", model="*"))
    assert _charge(prices, _one()) is None


def test_platform_fees_for_any_model_are_not_hidden_by_a_model_s_own_rows() -> None:
    """Fees have a chain of their own."""
    prices = Catalog(
        [*both("tokens.input", 5, 4), sell("tokens.input", 1, provider="*", model="*", tier="byok")]
    )
    assert _charge(prices, _one(byok=True)) == 1
    assert _charge(prices, _one()) == 5


def test_a_response_s_model_name_finds_the_model_that_it_means() -> None:
    """Match clauses lead dated names to the priced model, for cost and sell alike."""
    match = ModelMatch(provider="openai", model="gpt", clause={"starts_with": "gpt-2026"})
    prices = Catalog(both("tokens.input", 2, 1), [match])
    assert _charge(prices, _one(model="gpt-2026-08")) == 2
    assert _charge(prices, _one(model="gpt-2025")) is None
    assert prices.model_name("openai", "gpt-2026-08") == "gpt"


def test_equal_circumstances_share_a_shape_and_every_difference_makes_another() -> None:
    """A shape stands for all that its entries have in common."""
    prices = catalog()
    plain = _rate(prices, usage()).shape
    assert _rate(prices, usage("other", user="u", session="s")).shape is plain
    for members in (
        {"source": "x"},
        {"tier": "x"},
        {"region": "x"},
        {"batch": True},
        {"provider_account": "x"},
        {"outcome": "error"},
        {"attempt": 2},
        {"billable": "platform"},
        {"byok": True},
        {"provider": "x"},
        {"model": "x"},
        {"quantities": {"tokens.input": 1}},
        {"quantities": {"tokens.input": "1.5", "tokens.output": 1}},
    ):
        assert _rate(prices, usage(**members)).shape.body != plain.body


def test_a_shape_changes_when_its_price_s_version_does() -> None:
    """An entry says by which row it was rated, even where the rates are equal."""
    first = Catalog([cost("tokens.input", 1), sell("tokens.input", 1, version="book@1")])
    second = Catalog([cost("tokens.input", 1), sell("tokens.input", 1, version="book@2")])
    assert _rate(first, _one()).shape.body != _rate(second, _one()).shape.body


def test_find_applies_the_same_rules_to_one_key() -> None:
    """What explains a price finds what rated with it."""
    prices = Catalog([*both("tokens.input", 1, 2), sell("tokens.input", 3, region="eu")])
    key = PriceKey("openai", "gpt", "tokens.input", region="eu")
    at = usage().event.occurred_at or 0
    found = prices.find(key, kind=PriceKind.SELL, book="default", at=at)
    assert found is not None
    assert found.row.rate == 3
    general = prices.find(key, kind=PriceKind.COST, book="", at=at)
    assert general is not None
    assert general.row.rate == 2
    assert prices.find(key, kind=PriceKind.SELL, book="default", at=0) is None


def test_a_catalog_lists_its_rows_by_kind_and_book() -> None:
    """Nothing is lost or mixed."""
    rows = [*both("tokens.input", 1, 2), sell("tokens.input", 3, book="gold")]
    prices = Catalog(rows)
    assert [one.row.rate for one in prices.rows(kind=PriceKind.SELL, book="default")] == [1]
    assert [one.row.rate for one in prices.rows(kind=PriceKind.SELL, book="gold")] == [3]
    assert [one.row.rate for one in prices.rows(kind=PriceKind.COST)] == [2]
