"""Billing periods: month ends, leap days, daylight saving; and fees for part of one."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from ledger.domain.billing_periods import BillingCycle, CycleUnit, prorate_by_day
from ledger.domain.errors import InvalidInput
from ledger.domain.money import RoundingMode
from ledger.domain.periods import named_period, to_us

HOUR = 3_600_000_000


def day(text: str) -> date:
    """Return a day."""
    return date.fromisoformat(text)


def cycle(
    anchor: str, timezone: str = "UTC", unit: CycleUnit = CycleUnit.MONTH, count: int = 1
) -> BillingCycle:
    """Return a cycle."""
    return BillingCycle(anchor=day(anchor), timezone=timezone, unit=unit, count=count)


def instant(text: str, timezone: str) -> int:
    """Return a local time as microseconds since the epoch."""
    return to_us(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)))


@pytest.mark.parametrize(
    ("made", "boundaries"),
    [
        (cycle("2027-01-31"), "2027-01-31 2027-02-28 2027-03-31 2027-04-30 2027-05-31"),
        (cycle("2028-01-31"), "2028-01-31 2028-02-29 2028-03-31"),
        (cycle("2027-01-30"), "2027-01-30 2027-02-28 2027-03-30"),
        (cycle("2027-12-31"), "2027-12-31 2028-01-31 2028-02-29"),
        (cycle("2027-11-30", count=3), "2027-11-30 2028-02-29 2028-05-30"),
        (
            cycle("2028-02-29", unit=CycleUnit.YEAR),
            "2028-02-29 2029-02-28 2030-02-28 2031-02-28 2032-02-29",
        ),
        (cycle("2028-02-29"), "2028-02-29 2028-03-29 2028-04-29"),
        (cycle("2028-02-28", unit=CycleUnit.DAY), "2028-02-28 2028-02-29 2028-03-01"),
        (cycle("2028-02-20", unit=CycleUnit.WEEK, count=2), "2028-02-20 2028-03-05 2028-03-19"),
    ],
)
def test_boundaries_keep_the_anchor_s_day_where_the_month_has_it(
    made: BillingCycle, boundaries: str
) -> None:
    """A short month does not make the months after it short."""
    days = [day(text) for text in boundaries.split()]
    assert [made.boundary(number) for number in range(len(days))] == days


def test_periods_go_back_before_the_anchor() -> None:
    """Usage from before a plan was anchored has a period, too."""
    assert cycle("2027-03-31").period_on(day("2027-02-27")).number == -2
    assert cycle("2027-03-31").boundary(-1) == day("2027-02-28")


@pytest.mark.parametrize(
    ("timezone", "start", "hours"),
    [
        ("America/Los_Angeles", "2026-03-01", 31 * 24 - 1),
        ("America/Los_Angeles", "2026-11-01", 30 * 24 + 1),
        ("Pacific/Auckland", "2026-09-01", 30 * 24 - 1),
        ("Pacific/Auckland", "2026-04-01", 30 * 24 + 1),
        ("Pacific/Auckland", "2026-06-01", 30 * 24),
    ],
)
def test_a_month_with_a_change_of_clocks_is_an_hour_shorter_or_longer(
    timezone: str, start: str, hours: int
) -> None:
    """It starts and ends at local midnight all the same, and has its days."""
    period = cycle(start, timezone).period(0)
    assert period.end - period.start == hours * HOUR
    assert period.start == instant(f"{start}T00:00:00", timezone)
    assert period.days in (30, 31)


def test_one_instant_is_in_different_periods_of_tenants_across_the_date_line() -> None:
    """Noon UTC of the last of a month is next month in Auckland, this month in Los Angeles."""
    at = instant("2026-11-30T12:00:00", "UTC")
    assert cycle("2026-01-01", "Pacific/Auckland").period_at(at).name == "2026-12"
    assert cycle("2026-01-01", "America/Los_Angeles").period_at(at).name == "2026-11"


@pytest.mark.parametrize("timezone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_months_from_the_first_are_the_ledger_s_own_periods(timezone: str) -> None:
    """Balances by calendar month and bills by month speak of the same time."""
    period = cycle("2026-01-01", timezone).period_on(day("2026-09-30"))
    known = named_period(timezone, "2026-09")
    assert (period.name, period.start, period.end) == (known.name, known.start, known.end)


def test_other_periods_are_named_by_their_days() -> None:
    """First and last day, both included."""
    assert cycle("2027-01-31").period(1).name == "2027-02-28/2027-03-30"
    assert cycle("2027-01-01", unit=CycleUnit.YEAR).period(0).name == "2027-01-01/2027-12-31"


@pytest.mark.parametrize(
    ("first", "after", "amount", "formula"),
    [
        ("2027-02-01", "2027-03-01", "10", "10 x 28 / 28 = 10 (each to 2 decimals, half_even)"),
        ("2027-02-01", "2027-02-11", "3.57", "10 x 10 / 28 = 3.57 (each to 2 decimals, half_even)"),
        (
            "2027-02-11",
            "2027-03-01",
            "6.43",
            "10 x 28 / 28 - 10 x 10 / 28 = 6.43 (each to 2 decimals, half_even)",
        ),
        ("2027-01-15", "2027-02-11", "3.57", "10 x 10 / 28 = 3.57 (each to 2 decimals, half_even)"),
        ("2027-02-11", "2027-02-11", "0", None),
        ("2027-03-01", "2027-04-01", "0", None),
    ],
)
def test_a_fee_for_part_of_a_period_goes_by_days(
    first: str, after: str, amount: str, formula: str | None
) -> None:
    """With the numbers that made it; days outside the period are not its own."""
    prorated = prorate_by_day(
        Decimal(10),
        period=cycle("2027-02-01").period(0),
        first_day=day(first),
        after_day=day(after),
        decimals=2,
    )
    assert prorated.amount == Decimal(amount)
    if formula is not None:
        assert prorated.formula == formula


def test_a_day_of_23_hours_costs_what_other_days_cost() -> None:
    """Proration counts days, not hours."""
    period = cycle("2026-03-01", "America/Los_Angeles").period(0)
    prorated = prorate_by_day(
        Decimal(31), period=period, first_day=day("2026-03-08"), after_day=day("2026-03-09")
    )
    assert prorated.amount == 1


def test_shares_are_rounded_by_the_rule_that_is_named() -> None:
    """One of 28 days of 10, in whole units."""
    period = cycle("2027-02-01").period(0)
    first, after = day("2027-02-01"), day("2027-02-02")
    amounts = [
        prorate_by_day(
            Decimal(10), period=period, first_day=first, after_day=after, decimals=0, mode=mode
        ).amount
        for mode in (RoundingMode.HALF_EVEN, RoundingMode.UP)
    ]
    assert amounts == [0, 1]


def test_what_is_no_cycle_is_refused() -> None:
    """Each with its code and the place of the member."""
    for members, code, pointer in (
        ({"count": 0}, "invalid_cycle", "/count"),
        ({"count": 121}, "invalid_cycle", "/count"),
        ({"anchor": "1999-12-31"}, "invalid_cycle", "/anchor"),
        ({"anchor": "2100-01-01"}, "invalid_cycle", "/anchor"),
        ({"timezone": "Mars/Olympus"}, "unknown_timezone", "/timezone"),
    ):
        with pytest.raises(InvalidInput) as refused:
            cycle(**{"anchor": "2027-01-01", **members})  # type: ignore[arg-type]
        assert (refused.value.code, refused.value.pointer) == (code, pointer)


@pytest.mark.parametrize("unit", list(CycleUnit))
def test_a_period_that_no_calendar_has_is_refused(unit: CycleUnit) -> None:
    """A number that is far too large, in either direction."""
    for number in (10**9, -(10**9)):
        with pytest.raises(InvalidInput) as refused:
            cycle("2027-01-31", unit=unit).period(number)
        assert refused.value.code == "invalid_period"


def test_days_in_the_wrong_order_are_refused() -> None:
    """A share ends after it begins."""
    with pytest.raises(InvalidInput) as refused:
        prorate_by_day(
            Decimal(1),
            period=cycle("2027-02-01").period(0),
            first_day=day("2027-02-03"),
            after_day=day("2027-02-02"),
        )
    assert refused.value.code == "invalid_proration"
