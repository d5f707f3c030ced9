"""Scaled integers, rounding steps and split totals say what plain `Decimal` arithmetic says."""

from __future__ import annotations

from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    localcontext,
)

from fakes.building import both, rule, usage
from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.amounts import leaf_amounts, session_amounts
from ledger.domain.catalog import Catalog
from ledger.domain.money import (
    AMOUNT_DECIMALS,
    RoundingMode,
    decimals_of,
    from_scaled,
    plain,
    round_to,
    scaled_text,
    spread,
    text,
    to_scaled,
)
from ledger.domain.prices import RoundingScope
from ledger.domain.shapes import LeafRate

WIDE = Context(prec=400)
MODES = {
    RoundingMode.UP: ROUND_CEILING,
    RoundingMode.DOWN: ROUND_FLOOR,
    RoundingMode.HALF_EVEN: ROUND_HALF_EVEN,
    RoundingMode.HALF_UP: ROUND_HALF_UP,
}
QUANTITIES = st.integers(0, 10**12) | st.integers(0, 200_000_000)
STEPS = st.sampled_from([0, 1, 500_000, 1_000_000, 6_000_000, 15_000_000])
RATES = st.builds(
    LeafRate,
    version=st.just("v"),
    rate=st.integers(0, 10**15),
    increment=STEPS | st.integers(1, 10**9),
    minimum=STEPS | st.integers(0, 10**9),
    mode=st.sampled_from(RoundingMode),
    scope=st.just(RoundingScope.SESSION),
)
SEGMENTS = st.lists(QUANTITIES, min_size=1, max_size=8)
NUMBERS = st.decimals(
    allow_nan=False, allow_infinity=False, places=18, min_value=-(10**20), max_value=10**20
)


@given(RATES, QUANTITIES)
def test_a_billed_quantity_is_the_steps_that_decimal_counts(rate: LeafRate, quantity: int) -> None:
    """Steps by the mode, then the minimum, and nothing for nothing."""
    expected = Decimal(quantity)
    if rate.increment and quantity:
        steps = (expected / rate.increment).quantize(Decimal(1), rounding=MODES[rate.mode])
        with localcontext(WIDE):
            exact = (expected / rate.increment).quantize(Decimal(1), rounding=MODES[rate.mode])
        assert steps == exact
        expected = steps * rate.increment
    if quantity:
        expected = max(expected, Decimal(rate.minimum))
    assert rate.billed(quantity) == expected


@given(RATES, SEGMENTS, st.data())
def test_segments_are_billed_what_their_sum_is_billed_in_any_order(
    rate: LeafRate, segments: list[int], data: st.DataObject
) -> None:
    """R(S + s) - R(S), summed, is R of the total; taking all back leaves nothing."""
    shuffled = data.draw(st.permutations(segments))
    so_far = billed = 0
    for segment in shuffled:
        billed += rate.billed(so_far + segment) - rate.billed(so_far)
        so_far += segment
    assert billed == rate.billed(sum(segments))
    for segment in data.draw(st.permutations(segments)):
        billed -= rate.billed(so_far) - rate.billed(so_far - segment)
        so_far -= segment
    assert billed == 0


@given(
    st.lists(QUANTITIES, min_size=1, max_size=6),
    st.sampled_from([("0", "0"), ("15", "15"), ("0.5", "2"), ("1", "10")]),
    st.sampled_from(RoundingMode),
    st.sampled_from(["0.000000000001", "0.0004", "999.123456789012", "3"]),
)
def test_session_amounts_are_rates_times_what_the_session_is_billed(
    segments: list[int], steps: tuple[str, str], mode: RoundingMode, rate: str
) -> None:
    """Charges of a session's segments sum to the rate times the rounded total, to the digit."""
    rounding = rule(*steps, mode, RoundingScope.SESSION)
    meter = "audio.session.seconds"
    catalog = Catalog(both(meter, rate, "0.7", model="live", rule=rounding))
    running: dict[str, int] = {}
    charge = cost = Decimal(0)
    for segment in segments:
        command = usage(model="live", session="s", quantities={meter: from_scaled(segment, 6)})
        rated = catalog.rate(
            command.event,
            numbers=command.numbers,
            decimals=command.decimals,
            occurred_at=command.event.occurred_at or 0,
            book="default",
            currency="USD",
        )
        shape = rated.shape
        if not shape.stateful:
            charges, costs = leaf_amounts(shape, command.numbers)
        else:
            charges, costs, after = session_amounts(
                *(shape, command.numbers, "s", lambda key: running.get(key, 0)),
                timezone="UTC",
                at=0,
            )
            running.update(after)
        charge += from_scaled(sum(charges), shape.charge_decimals)
        cost += from_scaled(sum(costs), shape.cost_decimals)
    whole = LeafRate("", 0, int(Decimal(steps[0]) * 10**6), int(Decimal(steps[1]) * 10**6), mode)
    billed = from_scaled(whole.billed(sum(segments)), 6)
    assert charge == billed * Decimal(rate)
    assert cost == billed * Decimal("0.7")


@given(
    st.dictionaries(
        st.sampled_from(["tokens.input", "tokens.output", "audio.stt.seconds"]),
        st.decimals(min_value=0, max_value=10**15, places=6) | st.integers(0, 10**15),
        min_size=1,
    ),
    st.lists(st.integers(0, 10**9 - 1), min_size=6, max_size=6),
    st.integers(0, 12),
)
def test_scaled_amounts_are_decimal_amounts(
    quantities: dict[str, int | Decimal], rates: list[int], decimals: int
) -> None:
    """Quantities times rates in integers equal the same in `Decimal`, to the last of 18 digits."""
    meters = ["tokens.input", "tokens.output", "audio.stt.seconds"]
    decimal_rates = [from_scaled(rate, decimals) for rate in rates]
    sells = dict(zip(meters, decimal_rates[:3], strict=True))
    costs = dict(zip(meters, decimal_rates[3:], strict=True))
    catalog = Catalog(row for meter in meters for row in both(meter, sells[meter], costs[meter]))
    command = usage(quantities=quantities)
    rated = catalog.rate(
        command.event,
        numbers=command.numbers,
        decimals=command.decimals,
        occurred_at=command.event.occurred_at or 0,
        book="default",
        currency="USD",
    )
    with localcontext(WIDE):
        charge = sum(Decimal(q) * sells[meter] for meter, q in quantities.items())
        cost = sum(Decimal(q) * costs[meter] for meter, q in quantities.items())
    assert from_scaled(rated.charge * rated.shape.charge_factor, AMOUNT_DECIMALS) == charge
    assert from_scaled(rated.cost * rated.shape.cost_factor, AMOUNT_DECIMALS) == cost


@given(NUMBERS)
def test_scaling_there_and_back_is_exact(number: Decimal) -> None:
    """Up to 18 decimals nothing is lost, and the text is canonical."""
    scaled = to_scaled(number, 18)
    assert from_scaled(scaled, 18) == number
    shown = scaled_text(scaled, 18)
    assert shown == text(number)
    assert Decimal(shown) == number
    assert "E" not in shown
    assert shown == "0" or not shown.startswith("-0") or "." in shown
    assert not ("." in shown and shown.endswith(("0", ".")))


@given(st.integers(-(10**30), 10**30), st.integers(0, 18))
def test_scaled_text_is_the_decimal_s_text(number: int, decimals: int) -> None:
    """The fast way to text and the plain way agree."""
    assert scaled_text(number, decimals) == text(from_scaled(number, decimals))


@given(NUMBERS)
def test_plain_keeps_the_value_and_drops_what_says_nothing(number: Decimal) -> None:
    """No exponent, no trailing zeros, no negative zero; `decimals_of` counts what is left."""
    kept = plain(number)
    assert kept == number
    exponent = kept.as_tuple().exponent
    assert isinstance(exponent, int)
    assert -exponent == decimals_of(number)
    assert exponent <= 0
    assert not (kept == 0 and kept.is_signed())


@given(NUMBERS, st.integers(0, 6), st.sampled_from(RoundingMode))
def test_rounding_is_within_a_step_and_idempotent(
    number: Decimal, decimals: int, mode: RoundingMode
) -> None:
    """Half modes move by at most half a step; up never towards zero, down never away."""
    step = Decimal(1).scaleb(-decimals)
    rounded = round_to(number, decimals, mode)
    with localcontext(WIDE):
        distance = abs(rounded - number)
        assert distance < step
        if mode in (RoundingMode.HALF_EVEN, RoundingMode.HALF_UP):
            assert distance * 2 <= step
    if mode is RoundingMode.UP:
        assert abs(rounded) >= abs(number)
    if mode is RoundingMode.DOWN:
        assert abs(rounded) <= abs(number)
    assert round_to(rounded, decimals, mode) == rounded


@given(
    st.integers(-(10**12), 10**12),
    st.lists(st.decimals(min_value=0, max_value=10**6, places=6), min_size=1, max_size=12),
    st.integers(0, 4),
)
def test_a_split_total_sums_to_itself(units: int, weights: list[Decimal], decimals: int) -> None:
    """Every part is within one unit of its exact share, and none has the wrong sign."""
    total = from_scaled(units, decimals)
    parts = spread(total, weights, decimals)
    unit = Decimal(1).scaleb(-decimals)
    assert sum(parts) == total
    assert len(parts) == len(weights)
    whole = sum(weights)
    shares = weights if whole else [Decimal(1)] * len(weights)
    with localcontext(WIDE):
        for part, share in zip(parts, shares, strict=True):
            assert part * total >= 0
            assert abs(part - total * share / (whole or len(weights))) < unit
