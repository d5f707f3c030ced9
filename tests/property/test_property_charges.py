"""Charge models say what counting unit by unit says, in any order and over any number of lines."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal, localcontext
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ledger.domain.capacity import CapacityModel, CapacityTier
from ledger.domain.charge_lines import rate_line, split_period
from ledger.domain.charge_models import (
    ChargeModel,
    Commitment,
    Conversion,
    Operation,
    Rounding,
    amount_decimals,
    dynamic,
    package,
    per_unit,
    volume,
)
from ledger.domain.errors import InvalidInput
from ledger.domain.money import EXACT, RoundingMode, decimals_of
from ledger.domain.proration import LevelMove, level_move, rate_levels, share_of
from ledger.domain.tiers import Boundary, Tier, TierMode
from ledger.domain.transactions import TransactionModel
from ledger.domain.whole_charges import whole_charge

STEP = Decimal("0.5")
"""The unit in which the slow rating counts; every quantity and every end is a multiple of it."""
COUNTS = st.integers(0, 80)
MONEY = st.decimals(min_value=0, max_value=50, places=3)
MAYBE = st.none() | MONEY


@st.composite
def tables(draw: st.DrawFn, *, blocks: bool = True, rates: Any = MAYBE) -> dict[str, Any]:
    """Draw members of a table of up to five tiers whose ends lie on steps."""
    ends = sorted(draw(st.sets(st.integers(1, 60), max_size=4)))
    tiers = []
    for end in [*ends, None]:
        sizes = st.sampled_from([None, "1", "2.5", "10"]) if blocks else st.none()
        size = draw(sizes)
        tiers.append(
            Tier(
                up_to=None if end is None else end * STEP,
                rate=draw(rates),
                unit_size=Decimal(size or 1),
                blocks=RoundingMode.UP if size else None,
                flat=draw(MAYBE),
                cap=draw(st.none() | st.none() | MONEY),
            )
        )
    return {
        "tiers": tuple(tiers),
        "boundary": draw(st.sampled_from(Boundary)),
        "flat_at_zero": draw(st.booleans()),
    }


@st.composite
def models(draw: st.DrawFn, *, mode: TierMode | None = None) -> ChargeModel:
    """Draw a model with any of the things that may come before and after its tiers."""
    members = draw(tables())
    most = draw(MAYBE)
    limits = st.decimals(min_value=0, max_value=50 if most is None else most, places=3)
    conversions = [
        None,
        Conversion(operation=Operation.DIVIDE, factor=Decimal(4)),
        Conversion(operation=Operation.MULTIPLY, factor=Decimal("1.5")),
        Conversion(
            operation=Operation.DIVIDE,
            factor=Decimal(3),
            rounding=Rounding(mode=RoundingMode.UP),
        ),
    ]
    commitment = None
    if draw(st.booleans()):
        commitment = Commitment(
            amount=draw(limits),
            overage_factor=draw(st.decimals(min_value=0, max_value=3, places=2)),
            true_up=draw(st.booleans()),
        )
    return ChargeModel(
        mode=draw(st.sampled_from(TierMode)) if mode is None else mode,
        conversion=draw(st.sampled_from(conversions)),
        free_quantity=draw(st.integers(0, 20)) * STEP,
        discount_percent=draw(st.sampled_from([0, 10, 50, 100])) * Decimal(1),
        rounding=draw(st.none() | st.builds(Rounding, decimals=st.just(2))),
        commitment=commitment,
        max_amount=most,
        min_amount=draw(st.none() | limits),
        **members,
    )


def _tier_of_step(tiers: tuple[Tier, ...], number: int) -> int:
    """Return the tier of the step that starts at ``number - 1`` steps and ends at ``number``."""
    for index, tier in enumerate(tiers):
        if tier.up_to is None or number * STEP <= tier.up_to:
            return index
    raise AssertionError


def _entered(model: ChargeModel, count: int) -> int:
    """Return the tier that a whole quantity of so many steps has reached."""
    quantity = count * STEP
    for index, tier in enumerate(model.tiers):
        at = tier.up_to is not None and quantity == tier.up_to
        below = tier.up_to is None or quantity < tier.up_to
        if below or (at and model.boundary is Boundary.INCLUSIVE):
            return index
    raise AssertionError


def _slow_price(tier: Tier, steps: int) -> Fraction:
    """Return the price of so many steps in a tier: one by one, or one by one of its blocks."""
    rate = Fraction(tier.rate or 0)
    if tier.blocks is None:
        return sum((rate * Fraction(STEP) for _ in range(steps)), Fraction(0))
    price = room = Fraction(0)
    for _ in range(steps):
        if room < Fraction(STEP):
            price, room = price + rate, room + Fraction(tier.unit_size)
        room -= Fraction(STEP)
    return price


def slow_gross(model: ChargeModel, count: int) -> Fraction:
    """Rate so many steps the obvious way: each on its own, then fees and caps tier by tier."""
    reached = _entered(model, count)
    steps = [0] * len(model.tiers)
    for number in range(1, count + 1):
        steps[_tier_of_step(model.tiers, number)] += 1
    if model.mode is TierMode.VOLUME:
        steps = [count if index == reached else 0 for index in range(len(steps))]
    total = Fraction(0)
    for index, tier in enumerate(model.tiers):
        price = _slow_price(tier, steps[index])
        in_use = index == reached if model.mode is TierMode.VOLUME else index <= reached
        has_use = bool(count) or (index == 0 and model.flat_at_zero) or index > 0
        if in_use and has_use:
            price += Fraction(tier.flat or 0)
        if in_use and tier.cap is not None:
            price = min(price, Fraction(tier.cap))
        total += price
    return total


@given(tables(), st.sampled_from(TierMode), COUNTS)
def test_tiers_charge_what_counting_every_unit_charges(
    members: dict[str, Any], mode: TierMode, count: int
) -> None:
    """Fees, blocks, caps and both kinds of boundary, against a rating that knows no formula."""
    model = ChargeModel(mode=mode, **members)
    assert Fraction(model.charge(count * STEP)) == slow_gross(model, count)


@given(models(), COUNTS)
def test_parts_sum_to_the_gross_amount(model: ChargeModel, count: int) -> None:
    """What an invoice shows of a charge is all of it."""
    units = model.billed_quantity(count * STEP)
    exact = msgspec.structs.replace(model, rounding=None)
    with localcontext(EXACT):
        assert sum(part.amount for part in model.charge_parts(count * STEP)) == exact.gross(units)


@given(models(mode=TierMode.GRADUATED), COUNTS, COUNTS)
def test_graduated_charges_never_fall(model: ChargeModel, count: int, more: int) -> None:
    """More use never costs less, before close and after it."""
    quantity = count * STEP
    assert model.charge(quantity + more * STEP) >= model.charge(quantity)
    assert model.total(quantity + more * STEP) >= model.total(quantity)


@given(tables(blocks=False, rates=MONEY), COUNTS, COUNTS)
def test_volume_charges_never_fall_where_no_tier_is_cheaper(
    members: dict[str, Any], count: int, more: int
) -> None:
    """With rates and fees that rise from tier to tier a volume price is monotonic."""
    rates = sorted(tier.rate or Decimal(0) for tier in members["tiers"])
    fees = sorted(tier.flat or Decimal(0) for tier in members["tiers"])
    tiers = tuple(
        Tier(up_to=tier.up_to, rate=rate, flat=fee)
        for tier, rate, fee in zip(members["tiers"], rates, fees, strict=True)
    )
    model = ChargeModel(mode=TierMode.VOLUME, **{**members, "tiers": tiers})
    assert model.charge((count + more) * STEP) >= model.charge(count * STEP)


@given(MONEY, MONEY, st.integers(1, 60))
def test_volume_charges_fall_where_a_cheaper_tier_begins(
    dear: Decimal, cheap: Decimal, end: int
) -> None:
    """One step past the end all units get the cheaper rate: such an event is charged below zero."""
    assume(dear * end > cheap * (end + 1))
    model = volume([Tier(up_to=end * STEP, rate=dear), Tier(rate=cheap)])
    assert model.charge((end + 1) * STEP) < model.charge(end * STEP)
    assert model.difference(end * STEP, STEP) < 0


@given(models(), st.lists(st.integers(0, 20), max_size=8), st.data())
def test_charges_of_events_sum_to_the_period_in_any_order(
    model: ChargeModel, counts: list[int], data: st.DataObject
) -> None:
    """F(Q + q) - F(Q) telescopes: only what the period holds counts, not how it came."""
    charged, quantity = model.charge(Decimal(0)), Decimal(0)
    for count in data.draw(st.permutations(counts)):
        charged += model.difference(quantity, count * STEP)
        quantity += count * STEP
    assert charged == model.charge(sum(counts) * STEP)


@given(models(), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_void_restores_what_was(model: ChargeModel, start: int, first: int, second: int) -> None:
    """Taking an event back undoes its charge, also when others came in between."""
    charged = model.charge(start * STEP)
    charged += model.difference(start * STEP, first * STEP)
    charged += model.difference((start + first) * STEP, second * STEP)
    charged += model.difference((start + first + second) * STEP, -first * STEP)
    assert charged == model.charge((start + second) * STEP)


@given(models(), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_a_period_in_many_lines_costs_what_it_costs_in_one(
    model: ChargeModel, counts: list[int]
) -> None:
    """Gross, discount, close, billed units and parts: all of them sum to those of one line."""
    lines = split_period(model, [count * STEP for count in counts])
    whole = rate_line(model, sum(counts) * STEP, last=True)
    assert sum(line.amount for line in lines) == whole.amount == model.total(sum(counts) * STEP)
    assert sum(line.gross for line in lines) == whole.gross == model.gross(whole.billed)
    assert sum(line.billed for line in lines) == whole.billed
    assert all(line.amount == line.gross - line.discount + line.close.total for line in lines)
    assert all(not line.close.total for line in lines[:-1])
    parts: dict[tuple[int, str], Decimal] = {}
    for part in (part for line in lines for part in line.parts):
        key = (part.tier, part.kind)
        parts[key] = parts.get(key, Decimal(0)) + part.amount
    expected = {(part.tier, part.kind): part.amount for part in whole.parts}
    assert {key: amount for key, amount in parts.items() if amount} == {
        key: amount for key, amount in expected.items() if amount
    }


@given(models(), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_lines_that_know_what_was_billed_agree_with_those_that_compute_it(
    model: ChargeModel, counts: list[int]
) -> None:
    """Where earlier lines did bill F, saying so changes nothing, unless a price fell meanwhile."""
    before, billed = Decimal(0), Decimal(0)
    for number, count in enumerate(counts):
        plainly = rate_line(model, count * STEP, before=before, first=number == 0)
        assume(plainly.gross >= 0)
        told = rate_line(
            model, count * STEP, before=before, first=number == 0, billed_before=billed
        )
        assert told.amount == plainly.amount
        before, billed = before + count * STEP, billed + plainly.amount


@given(models(), COUNTS)
def test_a_closed_period_lies_within_its_limits(model: ChargeModel, count: int) -> None:
    """At most the maximum; at least the minimum and, with a true-up, the commitment."""
    total = model.total(count * STEP)
    assert total == model.charge(count * STEP) + model.at_close(count * STEP).total
    if model.max_amount is not None:
        assert total <= model.max_amount
    if model.min_amount is not None:
        assert total >= model.min_amount
    if model.commitment is not None and model.commitment.true_up:
        assert total >= (model.committed() or 0)


@given(st.integers(0, 10**9), st.integers(1, 10**6), MONEY)
def test_packages_count_what_was_begun(millionths: int, size: int, rate: Decimal) -> None:
    """The number of packages is the ceiling of quantity by size, however small the rest."""
    quantity = Decimal(millionths).scaleb(-6)
    with localcontext(EXACT):
        expected = (quantity / size).to_integral_value(ROUND_CEILING) * rate
    assert package(rate, unit_size=Decimal(size)).charge(quantity) == expected


@given(
    st.integers(0, 10**12), st.integers(1, 10**6), st.integers(-2, 6), st.sampled_from(RoundingMode)
)
@example(1_500_000, 1, 0, RoundingMode.HALF_UP)
def test_divided_quantities_are_rounded_from_the_exact_quotient(
    millionths: int, factor: int, decimals: int, mode: RoundingMode
) -> None:
    """Rounding sees the quotient itself, not one that was cut off before."""
    quantity = Decimal(millionths).scaleb(-6)
    conversion = Conversion(
        operation=Operation.DIVIDE,
        factor=Decimal(factor),
        rounding=Rounding(decimals=decimals, mode=mode),
    )
    exact = Fraction(quantity) / factor
    step = Fraction(10) ** -decimals
    moved = Fraction(conversion.converted(quantity)) - exact
    assert Fraction(conversion.converted(quantity)) % step == 0
    if mode is RoundingMode.UP:
        assert 0 <= moved < step
    elif mode is RoundingMode.DOWN:
        assert -step < moved <= 0
    else:
        assert abs(moved) * 2 <= step


AMOUNTS = st.lists(st.decimals(min_value=0, max_value=300, places=2), max_size=8)
ALLOWANCES = st.builds(
    TransactionModel,
    percent=MONEY,
    fee=MONEY,
    free_events=st.none() | st.integers(0, 5),
    free_amount=st.none() | st.decimals(min_value=0, max_value=500, places=2),
)


def _slow_transactions(model: TransactionModel, events: list[Decimal]) -> Fraction:
    """Spend the allowances event by event, in cents of money left."""
    number_left = model.free_events
    money_left = None if model.free_amount is None else Fraction(model.free_amount)
    over = number_left is None and money_left is None
    total = Fraction(0)
    for event in map(Fraction, events):
        over = over or number_left == 0
        rest = event
        if not over and money_left is not None and event >= money_left:
            rest, over = event - money_left, True
        elif not over:
            money_left = None if money_left is None else money_left - event
            number_left = None if number_left is None else number_left - 1
            continue
        total += rest * Fraction(model.percent) / 100 + Fraction(model.fee)
    return total


@given(ALLOWANCES, AMOUNTS)
def test_transactions_cost_what_spending_the_allowances_one_by_one_costs(
    model: TransactionModel, events: list[Decimal]
) -> None:
    """The first allowance to end decides, and what ends it pays for its rest."""
    assert Fraction(model.charge(events)) == _slow_transactions(model, events)


@given(ALLOWANCES, AMOUNTS)
def test_totals_of_transactions_cost_what_the_transactions_cost(
    model: TransactionModel, events: list[Decimal]
) -> None:
    """A rollup's sums and the first running totals are enough, if any money moved at all."""
    assume(sum(events) > 0)
    totals = [sum(events[: end + 1], Decimal(0)) for end in range(len(events))]
    charged = model.charge_totals(totals[-1], events=len(events), free_totals=totals)
    assert charged == model.charge(events)


@given(AMOUNTS, st.data())
def test_without_allowances_transactions_are_the_same_in_any_order(
    events: list[Decimal], data: st.DataObject
) -> None:
    """Fee, least and most belong to each event alone."""
    model = TransactionModel(
        percent=Decimal("2.9"),
        fee=Decimal("0.3"),
        min_amount=Decimal("0.5"),
        max_amount=Decimal(6),
    )
    assert model.charge(data.draw(st.permutations(events))) == model.charge(events)


@given(st.lists(st.integers(0, 10**9), max_size=10))
def test_stated_amounts_are_charged_as_stated(cents: list[int]) -> None:
    """A dynamic charge is its events' amounts, whichever came first."""
    assert dynamic(minor_units=2).charge(Decimal(sum(cents))) == Decimal(sum(cents)).scaleb(-2)


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, places=6),
    st.integers(1, 366),
    st.data(),
)
def test_shares_of_all_days_are_the_whole_and_each_is_the_nearest(
    amount: Decimal, whole: int, data: st.DataObject
) -> None:
    """Nothing of none, everything of all, and less than a unit of the last place between."""
    part = data.draw(st.integers(0, whole))
    share = share_of(amount, part=part, whole=whole)
    exact = Fraction(amount) * part / whole
    assert abs(Fraction(share) - exact) * 2 <= Fraction(1, 10**18)
    assert share_of(amount, part=0, whole=whole) == 0
    assert share_of(amount, part=whole, whole=whole) == amount


@given(
    tables(blocks=False), st.lists(st.tuples(st.integers(-8, 8), st.integers(1, 30)), max_size=6)
)
def test_a_level_costs_the_average_over_time_of_what_each_moment_costs(
    members: dict[str, Any], changes: list[tuple[int, int]]
) -> None:
    """Summing moves by the time left is integrating the level over the days of the period."""
    tiers = tuple(msgspec.structs.replace(tier, cap=None) for tier in members["tiers"])
    model = ChargeModel(**{**members, "tiers": tiers})
    days = 30
    changes = sorted(((units, left) for units, left in changes), key=lambda move: -move[1])
    kept: list[tuple[int, int]] = []
    for units, left in changes:
        if units and sum(move[0] for move in kept) + units >= 0:
            kept.append((units, left))
    usage = msgspec.structs.replace(
        model, tiers=tuple(msgspec.structs.replace(tier, flat=None) for tier in tiers)
    )
    average, peak = Fraction(0), 0
    for day in range(days):
        level = sum(units for units, left in kept if days - left <= day)
        average += Fraction(usage.charge(level * STEP)) / days
    for end in range(len(kept) + 1):
        peak = max(peak, sum(units for units, _ in kept[:end]))
    fees = Fraction(model.charge(peak * STEP)) - Fraction(usage.charge(peak * STEP))
    moves = [level_move(units * STEP, left=left, whole=days) for units, left in kept]
    rounding = Rounding(decimals=6)
    got = Fraction(rate_levels(model, moves, rounding=rounding))
    assert abs(got - average - fees) <= Fraction(1, 10**6)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=3),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=6),
    st.data(),
)
def test_capacity_depends_on_the_quantities_alone(
    rises: list[tuple[int, int]], events: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Events in any order sum to the price of the smallest tier that holds what they use."""
    tiers = [
        CapacityTier(
            price=Decimal(10 * (index + 1)),
            limits={
                "requests": Decimal(sum(rise[0] for rise in rises[: index + 1])),
                "pages": Decimal(sum(rise[1] for rise in rises[: index + 1])),
            },
        )
        for index in range(len(rises))
    ]
    tiers.append(
        CapacityTier(price=Decimal(10 * (len(rises) + 1)), limits={"requests": None, "pages": None})
    )
    model = CapacityModel(tiers=tuple(tiers))
    used = {"requests": Decimal(0), "pages": Decimal(0)}
    charged = model.charge(used)
    for requests, pages in data.draw(st.permutations(events)):
        change = {"requests": Decimal(requests), "pages": Decimal(pages)}
        charged += model.difference(used, change)
        used = {meter: used[meter] + change[meter] for meter in used}
    fitting = [
        tier.price
        for tier in tiers
        if all(limit is None or used[meter] <= limit for meter, limit in tier.limits.items())
    ]
    assert charged == model.charge(used) == min(fitting)


@given(st.decimals(allow_nan=True, allow_infinity=True), st.sampled_from(["rate", "flat", "cap"]))
def test_no_number_gets_into_a_tier_that_cannot_be_worked_with(value: Decimal, name: str) -> None:
    """Whatever is given, there is a model whose charges are exact, or a refusal with a place."""
    fits = value.is_finite() and 0 <= value < 10**15 and decimals_of(value) <= 12
    if not fits:
        with pytest.raises(InvalidInput) as refused:
            ChargeModel(tiers=(Tier(**{name: value}),))
        assert refused.value.code in {"invalid_rate", "invalid_fee"}
        assert refused.value.pointer == f"/tiers/0/{name}"
        return
    charged = ChargeModel(tiers=(Tier(**{name: value}),)).charge(Decimal("999999999999.999999"))
    assert charged.is_finite()
    assert charged >= 0


def test_the_largest_quantity_and_the_finest_rate_are_exact() -> None:
    """24 digits times 21: nothing is cut off anywhere."""
    quantity, rate = Decimal("999999999999999999.999999"), Decimal("999999999.999999999999")
    with localcontext(EXACT):
        expected = quantity * rate
    assert per_unit(rate).charge(quantity) == expected
    with pytest.raises(InvalidInput):
        per_unit(rate).charge(Decimal(10**18))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 5)), max_size=6))
def test_a_level_never_costs_less_than_nothing(changes: list[tuple[int, int]]) -> None:
    """Falls below zero and rises without time left are borne, not paid out."""
    moves = [
        LevelMove(units=Decimal(units), weighted=Decimal(units * left) / 5)
        for units, left in changes
        if units
    ]
    model = per_unit(Decimal(3))
    assert rate_levels(model, moves, rounding=Rounding(decimals=2)) >= 0


@given(
    tables(blocks=False),
    st.sampled_from(TierMode),
    MAYBE,
    st.decimals(min_value=0, max_value=9, places=3),
    st.lists(COUNTS, min_size=1, max_size=8),
)
def test_whole_numbers_say_what_decimals_say(
    members: dict[str, Any],
    mode: TierMode,
    most: Decimal | None,
    free: Decimal,
    counts: list[int],
) -> None:
    """The fast F of the write path is F, to the digit, with the decimals that were announced."""
    tiers = tuple(msgspec.structs.replace(tier, cap=None) for tier in members.pop("tiers"))
    model = ChargeModel(tiers=tiers, **members, mode=mode, max_amount=most, free_quantity=free)
    whole = whole_charge(model)
    assert whole is not None
    for count in counts:
        exact = model.charge(count * STEP)
        assert whole(int(count * STEP * 10**6)) == int(exact.scaleb(18))
        assert decimals_of(exact) <= amount_decimals(model)


@given(models(), COUNTS)
def test_no_amount_has_more_decimals_than_announced(model: ChargeModel, count: int) -> None:
    """Entries keep amounts as integers of so many decimals."""
    assert decimals_of(model.charge(count * STEP)) <= amount_decimals(model)
