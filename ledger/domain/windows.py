"""Budget windows: calendar hours to months in a tenant's zone, rolling spans, and ever.

A window is named by its start, microseconds since the epoch; its end is exclusive. A rolling
window of N units is counted in buckets of one unit, aligned to the epoch; at any moment it is the
current bucket and the N before it, so that no interval of N units is ever counted short.
"""

from __future__ import annotations

import re
from datetime import timedelta
from functools import lru_cache

from ledger.domain.errors import InvalidInput
from ledger.domain.periods import LATEST_US, day_start, from_us, zone

CALENDAR = ("hour", "day", "week", "month")
LIFETIME = "lifetime"
MAX_ROLLING = 100
"""Most units of a rolling window."""

_ROLLING = re.compile(r"rolling:([1-9][0-9]{0,2})([mhd])")
_UNITS = {"m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_QUARTER = 900_000_000


def check_window(window: str) -> None:
    """Check that a window can be read.

    Raises:
        InvalidInput: ``invalid_window``.
    """
    if window in CALENDAR or window == LIFETIME or rolling(window) is not None:
        return
    raise InvalidInput(
        f"{window[:64]!r} is no window; give hour, day, week, month, lifetime, or rolling:N and"
        f" one of m, h, d with N from 1 to {MAX_ROLLING}, such as rolling:24h",
        code="invalid_window",
        pointer="/window",
    )


@lru_cache(maxsize=1024)
def rolling(window: str) -> tuple[int, int] | None:
    """Return count and bucket length in microseconds of a rolling window, None for others."""
    match = _ROLLING.fullmatch(window)
    if match is None or int(match[1]) > MAX_ROLLING:
        return None
    return int(match[1]), _UNITS[match[2]]


def window_at(timezone: str, window: str, at: int) -> tuple[int, int]:
    """Return start and end of the window, or of the rolling window's bucket, that holds ``at``."""
    if window == LIFETIME:
        return 0, LATEST_US
    rolls = rolling(window)
    if rolls is not None:
        start = at - at % rolls[1]
        return start, start + rolls[1]
    return _calendar(timezone, window, at // _QUARTER)


@lru_cache(maxsize=65536)
def _calendar(timezone: str, window: str, quarter: int) -> tuple[int, int]:
    """Return the calendar window of a quarter of an hour: offsets are multiples of it."""
    at = quarter * _QUARTER
    local = from_us(at).astimezone(zone(timezone))
    if window == "hour":
        # By the clock on the wall: an hour that daylight saving repeats is two windows.
        start = at - (local.minute * 60 + local.second) * 1_000_000
        return start, start + _UNITS["h"]
    first = local.date()
    if window == "day":
        after = first + timedelta(days=1)
    elif window == "week":
        first -= timedelta(days=first.weekday())
        after = first + timedelta(days=7)
    else:
        first = first.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    return day_start(timezone, first), day_start(timezone, after)


def buckets(timezone: str, window: str, at: int) -> list[int]:
    """Return the starts of all counters that make up the window at an instant, the last first."""
    start, _ = window_at(timezone, window, at)
    rolls = rolling(window)
    if rolls is None:
        return [start]
    count, length = rolls
    return [start - back * length for back in range(count + 1)]


def window_text(timezone: str, window: str, start: int) -> str:
    """Return a window for people: ``day 2026-11-03``, ``month 2026-11``, ``lifetime``."""
    if window == LIFETIME:
        return LIFETIME
    local = from_us(start).astimezone(zone(timezone))
    if window == "month":
        return f"month {local:%Y-%m}"
    if window in ("day", "week"):
        return f"{window} {local:%Y-%m-%d}"
    return f"{window} {local:%Y-%m-%dT%H:%M%z}"
