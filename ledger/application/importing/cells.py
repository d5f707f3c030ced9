"""Text of one cell as a number, a time or a truth value; nothing is guessed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from ledger.domain.errors import InvalidInput
from ledger.domain.periods import to_us
from ledger.domain.usage import check_time

_NUMBER = re.compile(r"[+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,3})?", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?"
    r"(?:([Zz])|([+-])(\d\d):(\d\d))?",
    re.ASCII,
)
_EPOCH = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))?", re.ASCII)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class TimeFormat(StrEnum):
    """How a column says when something happened."""

    RFC3339 = "rfc3339"
    EPOCH_S = "epoch-s"
    EPOCH_MS = "epoch-ms"


_EPOCH_DIGITS = {TimeFormat.EPOCH_S: 6, TimeFormat.EPOCH_MS: 3}
"""Digits from the unit down to a microsecond."""


def read_number(text: str, *, pointer: str) -> int | Decimal:
    """Return a decimal number exactly as it is written.

    Args:
        text: digits with an optional sign, decimal point and exponent; no thousands separators.
        pointer: where it stands.

    Raises:
        InvalidInput: ``invalid_quantity``.
    """
    text = text.strip(" ")
    if text.isdecimal() and text.isascii() and len(text) < 20:
        return int(text)
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    raise InvalidInput(
        f"{text[:40]!r} is not a number such as 1234.5, without thousands separators",
        code="invalid_quantity",
        pointer=pointer,
    )


def read_whole(text: str, *, pointer: str, code: str) -> int:
    """Return a whole number from 1 to 1000.

    Raises:
        InvalidInput: ``code``.
    """
    text = text.strip(" ")
    if text.isdecimal() and text.isascii() and len(text) <= 4 and 1 <= int(text) <= 1000:
        return int(text)
    raise InvalidInput(
        f"{text[:40]!r} is not a whole number from 1 to 1000", code=code, pointer=pointer
    )


def read_truth(text: str, *, pointer: str, code: str) -> bool:
    """Return ``true``, ``1``, ``false`` or ``0`` as a truth value; letter case does not matter.

    Raises:
        InvalidInput: ``code``.
    """
    value = _TRUTH.get(text.strip(" ").lower())
    if value is None:
        raise InvalidInput(f"{text[:40]!r} is not true or false", code=code, pointer=pointer)
    return value


def read_time(text: str, *, form: TimeFormat, zone: ZoneInfo, pointer: str) -> int:
    """Return an instant in microseconds since the epoch; what is finer is cut off, not rounded.

    Args:
        text: RFC 3339 with ``T`` or a blank and an optional offset, or seconds or milliseconds
            since 1970 with optional decimals.
        form: which of these.
        zone: of times without an offset; of a time that a clock change repeats, the earlier.
        pointer: where it stands.

    Raises:
        InvalidInput: ``invalid_time``.
    """
    text = text.strip(" ")
    at = _calendar(text, zone) if form is TimeFormat.RFC3339 else _epoch(text, form)
    if at is None:
        raise InvalidInput(
            f"{text[:40]!r} is not {_EXAMPLES[form]}", code="invalid_time", pointer=pointer
        )
    check_time(at, pointer=pointer)
    return at


_EXAMPLES = {
    TimeFormat.RFC3339: "a time such as 2023-11-16T18:17:03.98Z",
    TimeFormat.EPOCH_S: "a number of seconds since 1970 such as 1700158623.98",
    TimeFormat.EPOCH_MS: "a number of milliseconds since 1970 such as 1700158623980",
}


def _calendar(text: str, zone: ZoneInfo) -> int | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zulu, sign, hours, minutes = found.groups()
    micros = int(fraction[:6].ljust(6, "0")) if fraction else 0
    try:
        local = datetime(  # noqa: DTZ001 (the zone is attached below)
            int(year), int(month), int(day), int(hour), int(minute), int(second), micros
        )
        if zulu:
            return to_us(local.replace(tzinfo=UTC))
        if sign:
            if int(minutes) > 59:
                return None
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            return to_us(local.replace(tzinfo=timezone(-offset if sign == "-" else offset)))
        aware = local.replace(tzinfo=zone)
        instant = aware.astimezone(UTC)
        if instant.astimezone(zone).replace(tzinfo=None) != local:
            return None  # the clock was set forward over it
        return to_us(instant)
    except (ValueError, OverflowError):
        return None


def _epoch(text: str, form: TimeFormat) -> int | None:
    found = _EPOCH.fullmatch(text)
    if found is None:
        return None
    digits = _EPOCH_DIGITS[form]
    at = int(found[1] + (found[2] or "")[:digits].ljust(digits, "0"))
    return at if at < 10**17 else None  # the year 5138: datetime cannot say much more
