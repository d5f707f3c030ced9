"""Billing periods cover all time once, and shares of a period sum to the whole."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from ledger.domain.billing_periods import BillingCycle, CycleUnit, prorate_by_day
from ledger.domain.money import RoundingMode, round_to
from ledger.domain.periods import EARLIEST_US, LATEST_US, day_start

ZONES = st.sampled_from(
    [
        "UTC",
        "Pacific/Auckland",
        "America/Los_Angeles",
        "Pacific/Apia",
        "America/Havana",
        "Asia/Beirut",
        "Australia/Lord_Howe",
    ]
)
DAYS = st.dates(date(2000, 1, 1), date(2099, 12, 31))
MONTH_ENDS = DAYS.map(lambda day: day.replace(day=monthrange(day.year, day.month)[1]))
CYCLES = st.builds(
    BillingCycle,
    anchor=DAYS | MONTH_ENDS,
    timezone=ZONES,
    unit=st.sampled_from(CycleUnit),
    count=st.integers(1, 13),
)
INSTANTS = st.integers(EARLIEST_US, LATEST_US - 1)
MONTHLY = BillingCycle(anchor=date(2024, 1, 31), timezone="Pacific/Auckland")


@given(CYCLES, INSTANTS)
@example(MONTHLY, day_start("Pacific/Auckland", date(2024, 2, 29)))
@example(MONTHLY, day_start("Pacific/Auckland", date(2024, 2, 29)) - 1)
def test_every_instant_is_in_exactly_one_period(cycle: BillingCycle, at: int) -> None:
    """Its own; the one before ends and the one after starts where it does."""
    period = cycle.period_at(at)
    assert period.start <= at < period.end
    assert cycle.period(period.number) == period
    assert cycle.period(period.number - 1).end == period.start
    assert cycle.period(period.number + 1).start == period.end
    assert cycle.period_on(period.first_day) == period
    assert cycle.period_on(period.after_day - timedelta(days=1)) == period


@given(DAYS | MONTH_ENDS, st.integers(-600, 600))
def test_a_monthly_boundary_is_the_anchor_s_day_or_the_month_s_last(
    anchor: date, number: int
) -> None:
    """One boundary in every month, on the anchor's day wherever the month is long enough."""
    boundary = BillingCycle(anchor=anchor, timezone="UTC").boundary(number)
    months = 12 * (boundary.year - anchor.year) + boundary.month - anchor.month
    assert months == number
    assert boundary.day == min(anchor.day, monthrange(boundary.year, boundary.month)[1])


@given(CYCLES, DAYS)
def test_moving_the_anchor_by_whole_periods_of_its_own_day_changes_nothing(
    cycle: BillingCycle, day: date
) -> None:
    """Where the boundary has the anchor's own day, it could be the anchor as well."""
    period = cycle.period_on(day)
    moved = period.first_day
    if moved.day != cycle.anchor.day or not date(2000, 1, 1) <= moved < date(2100, 1, 1):
        return
    other = BillingCycle(anchor=moved, timezone=cycle.timezone, unit=cycle.unit, count=cycle.count)
    again = other.period_on(day)
    assert (again.start, again.end) == (period.start, period.end)


@given(
    CYCLES,
    DAYS,
    st.decimals(min_value=-(10**6), max_value=10**6, places=4),
    st.lists(st.integers(0, 400), max_size=5),
    st.sampled_from([0, 2, 3, 18]),
    st.sampled_from(RoundingMode),
)
def test_shares_of_a_period_sum_to_its_whole(
    cycle: BillingCycle,
    day: date,
    full: Decimal,
    cuts: list[int],
    decimals: int,
    mode: RoundingMode,
) -> None:
    """However often a plan changes within it, not a cent is lost or won."""
    period = cycle.period_on(day)
    inside = sorted({cut % period.days for cut in cuts})
    days = [period.first_day + timedelta(days=cut) for cut in [0, *inside, period.days]]
    shares = [
        prorate_by_day(
            full,
            period=period,
            first_day=first,
            after_day=after,
            decimals=decimals,
            mode=mode,
        )
        for first, after in pairwise(days)
    ]
    whole = round_to(full, decimals, mode)
    assert sum(share.amount for share in shares) == whole
    assert all(share.amount * full >= 0 for share in shares)
    assert sum(share.after - share.first for share in shares) == period.days
