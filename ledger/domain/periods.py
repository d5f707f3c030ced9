"""Billing periods and days in a tenant's own time zone; ends are exclusive.

Instants are integers: microseconds since 1970-01-01T00:00Z. Nothing here reads a clock.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from ledger.domain.errors import InvalidInput

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Usage before this instant is rejected as a broken clock."""
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
"""Usage from this instant on is rejected as a broken clock."""
_QUARTER_HOUR = 900_000_000


def to_us(at: datetime) -> int:
    """Return an aware datetime as microseconds since the epoch."""
    return (at - EPOCH) // MICROSECOND


def from_us(at: int) -> datetime:
    """Return microseconds since the epoch as a UTC datetime."""
    return EPOCH + at * MICROSECOND


EARLIEST_US = to_us(EARLIEST)
LATEST_US = to_us(LATEST)


class Period(msgspec.Struct, frozen=True):
    """A calendar month of one time zone, ``[start, end)``.

    Attributes:
        name: ``2026-11``.
        start: first instant, microseconds since the epoch.
        end: first instant after it.
    """

    name: str
    start: int
    end: int


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """Return the IANA time zone of that name.

    Raises:
        InvalidInput: ``unknown_timezone``.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidInput(
            f"{name!r} is not an IANA time zone, such as UTC or Europe/Berlin",
            code="unknown_timezone",
        ) from None


@lru_cache(maxsize=65536)
def named_period(timezone: str, name: str) -> Period:
    """Return the period called ``YYYY-MM``.

    Raises:
        InvalidInput: ``invalid_period``, ``unknown_timezone``.
    """
    try:
        first = datetime.strptime(name, "%Y-%m").replace(tzinfo=zone(timezone))
    except ValueError:
        raise InvalidInput(
            f"{name!r} is not a period; give a month as YYYY-MM", code="invalid_period"
        ) from None
    after = (first.replace(day=28) + timedelta(days=5)).replace(day=1)
    return Period(name=first.strftime("%Y-%m"), start=to_us(first), end=to_us(after))


@lru_cache(maxsize=65536)
def _quarter_hour(timezone: str, quarter: int) -> tuple[str, str]:
    """Return month and day of a quarter of an hour; offsets since 2000 are multiples of it."""
    local = from_us(quarter * _QUARTER_HOUR).astimezone(zone(timezone))
    return local.strftime("%Y-%m"), local.strftime("%Y-%m-%d")


def period_of(timezone: str, at: int) -> Period:
    """Return the period that holds an instant."""
    return named_period(timezone, _quarter_hour(timezone, at // _QUARTER_HOUR)[0])


def day_of(timezone: str, at: int) -> str:
    """Return the local day of an instant as ``YYYY-MM-DD``."""
    return _quarter_hour(timezone, at // _QUARTER_HOUR)[1]


def hour_of(timezone: str, at: int) -> str:
    """Return the local hour of an instant as ``YYYY-MM-DDTHH`` and its offset.

    With the offset, for the hour that a clock set back runs through twice.
    """
    return _hour(timezone, at // _QUARTER_HOUR)


@lru_cache(maxsize=65536)
def _hour(timezone: str, quarter: int) -> str:
    return from_us(quarter * _QUARTER_HOUR).astimezone(zone(timezone)).strftime("%Y-%m-%dT%H%z")


def day_start(timezone: str, day: date) -> int:
    """Return the first instant of a local day."""
    return to_us(datetime(day.year, day.month, day.day, tzinfo=zone(timezone)))
