"""Periods and days cover all time of a zone, without gaps or overlaps, whatever its clocks do."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from ledger.domain.periods import (
    EARLIEST_US,
    LATEST_US,
    day_of,
    day_start,
    from_us,
    named_period,
    period_of,
    to_us,
)

ZONES = st.sampled_from(
    [
        "UTC",
        "America/Los_Angeles",
        "America/St_Johns",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Auckland",
        "Pacific/Chatham",
        "Africa/Casablanca",
        "Asia/Pyongyang",
    ]
)
DAY_US = 86_400_000_000
MONTHS = st.dates(date(2000, 2, 1), date(2099, 11, 30)).map(lambda day: day.strftime("%Y-%m"))


def _near_changes() -> st.SearchStrategy[int]:
    """Draw instants, many of them close to a month's or a clock change's hour."""
    anywhere = st.integers(EARLIEST_US, LATEST_US - 1)
    hours = anywhere.map(lambda at: at - at % 900_000_000)
    return anywhere | hours | hours.map(lambda at: max(EARLIEST_US, at - 1))


@given(ZONES, _near_changes())
def test_the_period_of_an_instant_holds_it_and_is_the_local_month(zone: str, at: int) -> None:
    """The local calendar says which month it is."""
    period = period_of(zone, at)
    assert period.start <= at < period.end
    assert period.name == from_us(at).astimezone(ZoneInfo(zone)).strftime("%Y-%m")
    assert named_period(zone, period.name) == period


@given(ZONES, MONTHS)
def test_a_period_ends_where_the_next_begins(zone: str, name: str) -> None:
    """No gap, no overlap: the last microsecond is inside, the end is the next one's start."""
    period = named_period(zone, name)
    after = period_of(zone, period.end)
    assert after.start == period.end
    assert after.name != period.name
    assert period_of(zone, period.end - 1) == period
    assert period_of(zone, period.start) == period
    assert 28 * DAY_US - 2 * DAY_US <= period.end - period.start <= 31 * DAY_US + DAY_US


@given(ZONES, st.integers(2000, 2098))
def test_the_periods_of_a_year_are_twelve_and_join(zone: str, year: int) -> None:
    """From one new year to the next there are twelve periods, each beginning at the last's end."""
    at = named_period(zone, f"{year}-01").start
    names = []
    for _ in range(12):
        period = period_of(zone, at)
        assert period.start == at
        names.append(period.name)
        at = period.end
    assert names == [f"{year}-{month:02d}" for month in range(1, 13)]
    assert period_of(zone, at).name == f"{year + 1}-01"


@given(ZONES, _near_changes())
def test_the_day_of_an_instant_is_the_local_date(zone: str, at: int) -> None:
    """The local calendar says which day it is, also around clock changes."""
    local = from_us(at).astimezone(ZoneInfo(zone)).date()
    assert day_of(zone, at) == local.isoformat()


@given(ZONES, st.dates(date(2000, 1, 3), date(2099, 12, 28)))
def test_a_day_begins_where_the_day_before_ends(zone: str, day: date) -> None:
    """The first instant of a day is that day's, the microsecond before is not."""
    start = day_start(zone, day)
    assert start < day_start(zone, day + timedelta(days=2))
    assert day_of(zone, start) >= day.isoformat()
    assert day_of(zone, start - 1) < day.isoformat()


_NAIVE = (from_us(EARLIEST_US).replace(tzinfo=None), from_us(LATEST_US - 1).replace(tzinfo=None))


@given(st.datetimes(*_NAIVE, timezones=ZONES.map(ZoneInfo)))
def test_microseconds_keep_an_instant_to_the_last_one(at: datetime) -> None:
    """There and back is the same instant."""
    assert from_us(to_us(at)) == at.astimezone(ZoneInfo("UTC"))
