"""Periods: months of a time zone, ends exclusive."""

from __future__ import annotations

from datetime import date

import pytest
from fakes.building import us

from ledger.domain.errors import InvalidInput
from ledger.domain.periods import day_of, day_start, named_period, period_of, zone


@pytest.mark.parametrize(
    ("timezone", "start", "end"),
    [
        ("UTC", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("America/Los_Angeles", "2026-11-01T07:00:00Z", "2026-12-01T08:00:00Z"),
        ("Pacific/Auckland", "2026-10-31T11:00:00Z", "2026-11-30T11:00:00Z"),
        ("Asia/Kolkata", "2026-10-31T18:30:00Z", "2026-11-30T18:30:00Z"),
        ("Australia/Lord_Howe", "2026-10-31T13:00:00Z", "2026-11-30T13:00:00Z"),
    ],
)
def test_a_period_is_a_month_of_its_zone(timezone: str, start: str, end: str) -> None:
    """Daylight saving begins and ends inside it."""
    period = named_period(timezone, "2026-11")
    assert (period.start, period.end) == (us(start), us(end))
    assert period_of(timezone, us(start)) == period
    assert period_of(timezone, us(start) - 1).name == "2026-10"
    assert period_of(timezone, us(end) - 1) == period
    assert period_of(timezone, us(end)).name == "2026-12"


def test_a_year_ends_with_its_december() -> None:
    """The next period is January's."""
    assert named_period("UTC", "2026-12").end == named_period("UTC", "2027-01").start


@pytest.mark.parametrize("name", ["2026", "2026-13", "2026-11-01", "", "november"])
def test_what_is_no_month_is_refused(name: str) -> None:
    """A period is called YYYY-MM."""
    with pytest.raises(InvalidInput) as refused:
        named_period("UTC", name)
    assert refused.value.code == "invalid_period"


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "a\0b", "America"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    """Paths and directories are no zones either."""
    with pytest.raises(InvalidInput) as refused:
        zone(name)
    assert refused.value.code == "unknown_timezone"


def test_a_day_with_a_clock_change_is_one_day() -> None:
    """Los Angeles' first of November 2026 has 25 hours."""
    start = day_start("America/Los_Angeles", date(2026, 11, 1))
    end = day_start("America/Los_Angeles", date(2026, 11, 2))
    assert end - start == 25 * 3_600_000_000
    assert {day_of("America/Los_Angeles", at) for at in (start, end - 1)} == {"2026-11-01"}
    assert day_of("America/Los_Angeles", end) == "2026-11-02"
