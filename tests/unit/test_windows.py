"""Budget windows: local calendars across daylight saving, rolling buckets, bad names."""

from __future__ import annotations

import pytest
from fakes.building import us

from ledger.domain.errors import InvalidInput
from ledger.domain.windows import buckets, check_window, window_at, window_text

HOUR = 3_600_000_000


def test_a_day_is_23_hours_long_when_clocks_go_forward() -> None:
    """The window ends at local midnight, not 24 hours after it began."""
    start, end = window_at("Europe/Berlin", "day", us("2026-03-29T10:00:00Z"))
    assert start == us("2026-03-29T00:00:00+01:00")
    assert end == us("2026-03-30T00:00:00+02:00")
    assert end - start == 23 * HOUR


def test_a_day_is_25_hours_long_when_clocks_go_back() -> None:
    """One instant before local midnight is the old day, midnight itself the new one."""
    start, end = window_at("Europe/Berlin", "day", us("2026-10-25T10:00:00Z"))
    assert end - start == 25 * HOUR
    assert window_at("Europe/Berlin", "day", end - 1) == (start, end)
    assert window_at("Europe/Berlin", "day", end)[0] == end


def test_an_hour_that_daylight_saving_repeats_is_two_windows() -> None:
    """Both are an hour long."""
    first = window_at("Europe/Berlin", "hour", us("2026-10-25T00:30:00Z"))
    second = window_at("Europe/Berlin", "hour", us("2026-10-25T01:30:00Z"))
    assert first[1] == second[0]
    assert first[1] - first[0] == second[1] - second[0] == HOUR


def test_hours_follow_the_clock_on_the_wall() -> None:
    """A zone at a half hour has its hours at the half of UTC's."""
    start, _ = window_at("Asia/Kolkata", "hour", us("2026-06-01T00:45:00Z"))
    assert start == us("2026-06-01T00:30:00Z")


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    """2026-11-01 is a Sunday."""
    at = us("2026-11-01T12:00:00Z")
    assert window_at("UTC", "week", at)[0] == us("2026-10-26T00:00:00Z")
    assert window_at("UTC", "month", at) == (us("2026-11-01T00:00:00Z"), us("2026-12-01T00:00:00Z"))


def test_midnight_that_does_not_exist_begins_with_the_next_instant() -> None:
    """Beirut skipped from midnight to one o'clock on 2026-03-29."""
    start, end = window_at("Asia/Beirut", "day", us("2026-03-29T12:00:00Z"))
    assert start == us("2026-03-28T22:00:00Z")
    assert end - start == 23 * HOUR


def test_a_rolling_window_is_its_buckets_and_the_one_half_outside() -> None:
    """N + 1 buckets cover any interval of N units that ends in the current one."""
    at = us("2026-11-03T12:34:56Z")
    found = buckets("UTC", "rolling:24h", at)
    assert len(found) == 25
    assert found[0] == us("2026-11-03T12:00:00Z")
    assert found[-1] == us("2026-11-02T12:00:00Z")


@pytest.mark.parametrize(
    "name", ["", "year", "rolling", "rolling:0h", "rolling:101h", "rolling:5s"]
)
def test_other_windows_are_refused(name: str) -> None:
    """The message lists those that there are."""
    with pytest.raises(InvalidInput, match="rolling:24h") as caught:
        check_window(name)
    assert caught.value.code == "invalid_window"


def test_windows_read_well() -> None:
    """Local, as short as their length allows."""
    start = us("2026-11-01T00:00:00+01:00")
    assert window_text("Europe/Berlin", "month", start) == "month 2026-11"
    assert window_text("Europe/Berlin", "day", start) == "day 2026-11-01"
    assert window_text("Europe/Berlin", "lifetime", 0) == "lifetime"
