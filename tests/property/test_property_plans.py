"""Plans: stretches of a period sum to it, no unit is charged twice, documents are exact."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.billing_periods import BillingCycle, CycleUnit
from ledger.domain.charge_models import ChargeModel, Commitment
from ledger.domain.meters import STANDARD_METERS
from ledger.domain.plan_periods import PlanLineKind, rate_plan
from ledger.domain.plans import Plan, PlanCharge, PlanFee, plan_from_json, plan_to_json
from ledger.domain.tiers import Tier

MONEY = st.decimals(min_value=0, max_value=10**6, places=12)
UNITS = st.decimals(min_value=0, max_value=10**6, places=6)
TOKENS = sorted(meter for meter in STANDARD_METERS if meter.startswith("tokens."))
CYCLES = st.builds(
    BillingCycle,
    anchor=st.dates(date(2024, 1, 1), date(2030, 12, 31)),
    timezone=st.sampled_from(["UTC", "Pacific/Auckland", "America/Los_Angeles"]),
    unit=st.sampled_from(CycleUnit),
)


@st.composite
def models(draw: st.DrawFn) -> ChargeModel:
    """Draw a model with limits that may lie as close to each other as numbers can."""
    most = draw(MONEY)
    least = draw(st.none() | st.just(most) | st.decimals(min_value=0, max_value=most, places=12))
    return ChargeModel(
        tiers=(Tier(up_to=Decimal(10), rate=Decimal(0)), Tier(rate=draw(st.sampled_from(
            [Decimal("0.25"), Decimal(3)])))),
        free_quantity=draw(UNITS),
        max_amount=most,
        min_amount=least,
        commitment=None if least is None else Commitment(amount=least, overage_factor=Decimal(2)),
    )  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Draw a plan of up to three charges over tokens."""
    count = draw(st.integers(0, 3))
    patterns = st.lists(
        st.sampled_from([*TOKENS, "tokens.*", "tokens.input*"]), min_size=1, max_size=3
    )
    return Plan(
        name="drawn",
        currency="USD",
        cycle=draw(CYCLES),
        charges=tuple(
            PlanCharge(
                name=f"charge-{number}",
                meters=tuple(draw(patterns)),
                model=draw(models()),
                models=draw(st.sampled_from([(), ("small",), ("large*",)])),
                byok=draw(st.booleans()),
                included=draw(UNITS),
            )
            for number in range(count)
        ),
        fees=tuple(
            PlanFee(name=f"fee-{number}", amount=draw(MONEY))
            for number in range(draw(st.integers(0, 2)))
        ),
        min_amount=draw(st.none() | MONEY),
    )


@given(plans(), st.integers(-5, 40), st.lists(st.integers(0, 400), max_size=4))
def test_fees_and_allowances_of_stretches_sum_to_those_of_the_period(
    plan: Plan, number: int, cuts: list[int]
) -> None:
    """A plan that changes to itself any number of times in a period changes nothing."""
    period = plan.cycle.period(number)
    inside = sorted({cut % period.days for cut in cuts} - {0})
    days = [period.first_day + timedelta(days=cut) for cut in [0, *inside, period.days]]
    rated = [
        rate_plan(plan, period, {}, first_day=first, after_day=after)
        for first, after in pairwise(days)
    ]
    fees = sum(
        line.amount for part in rated for line in part.lines if line.kind is PlanLineKind.FEE
    )
    assert fees == sum(fee.amount for fee in plan.fees)
    for charge in plan.charges:
        free = sum(
            charge.model_for(period, first_day=first, after_day=after).free_quantity
            for first, after in pairwise(days)
        )
        assert free == charge.included + charge.model.free_quantity
    whole = rate_plan(plan, period, {})
    # Limits are clamped to each other in the last of 12 decimals, once a stretch and charge.
    slack = Decimal(len(days) * (2 + len(plan.charges))).scaleb(-12)
    assert abs(sum(part.total for part in rated) - whole.total) <= slack


@given(
    plans(),
    st.dictionaries(st.sampled_from(sorted(STANDARD_METERS)), UNITS, max_size=8),
    st.sampled_from(["small", "large-2", "other"]),
    st.booleans(),
)
def test_no_unit_is_charged_twice(
    plan: Plan, used: dict[str, Decimal], model: str, byok: bool
) -> None:
    """What charges take and what is left over is exactly what was used."""
    taken = plan.quantities_of(used, provider="openai", model=model, byok=byok)
    left = sum(
        quantity
        for meter, quantity in used.items()
        if not any(
            charge.takes(provider="openai", model=model, meter=meter, byok=byok)
            for charge in plan.charges
        )
    )
    assert sum(taken.values()) + left == sum(used.values())


@given(plans(), st.integers(0, 12), st.data())
def test_a_rated_period_is_the_sum_of_lines_within_their_limits(
    plan: Plan, number: int, data: st.DataObject
) -> None:
    """Every charge keeps its prorated maximum and minimum, in whatever days."""
    period = plan.cycle.period(number)
    first = data.draw(st.integers(0, period.days - 1))
    after = data.draw(st.integers(first + 1, period.days))
    days = {
        "first_day": period.first_day + timedelta(days=first),
        "after_day": period.first_day + timedelta(days=after),
    }
    usage = {charge.name: [data.draw(UNITS)] for charge in plan.charges}
    rated = rate_plan(plan, period, usage, **days)
    assert rated.total == sum(line.amount for line in rated.lines)
    amounts = {line.name: line.amount for line in rated.lines if line.kind is PlanLineKind.CHARGE}
    for charge in plan.charges:
        model = charge.model_for(period, **days)
        assert model.max_amount is not None
        assert (model.min_amount or 0) <= amounts[charge.name] <= model.max_amount


@given(plans())
def test_a_document_says_all_of_a_plan(plan: Plan) -> None:
    """Writing and reading is the identity, to the last digit."""
    assert plan_from_json(plan_to_json(plan)) == plan
