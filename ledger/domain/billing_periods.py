"""Billing periods by anchor, in a tenant's own time zone; and fees for part of one, by day.

A boundary is the anchor's local day moved by whole months, years, weeks or days, counted from the
anchor itself and never from the boundary before: an anchor on 31 January gives 28 or 29 February
and then 31 March. A period runs from the first instant of one boundary's day to that of the next,
so a day of 23 or 25 hours is one day like any other. Nothing here reads a clock.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from ledger.domain.errors import InvalidInput
from ledger.domain.money import (
    AMOUNT_DECIMALS,
    EXACT,
    RoundingMode,
    plain,
    text,
)
from ledger.domain.periods import EARLIEST, LATEST, day_start, from_us, zone
from ledger.domain.proration import share_of

MAX_COUNT = 120
"""Most units of one period."""
FIRST_DAY = EARLIEST.date()
"""First day that an anchor can be."""
LAST_DAY = LATEST.date()
"""Anchors lie before this day."""


class CycleUnit(StrEnum):
    """What a billing period is counted in."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    YEAR = "year"


class BillingPeriod(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One period of a cycle, ``[start, end)``.

    Attributes:
        number: 0 starts at the anchor; periods before it are below zero.
        first_day: its first local day.
        after_day: the local day after its last one.
        start: first instant, microseconds since the epoch.
        end: first instant after it.
    """

    number: int
    first_day: date
    after_day: date
    start: int
    end: int

    @property
    def days(self) -> int:
        """Return how many local days it has, whatever their hours."""
        return (self.after_day - self.first_day).days

    @property
    def name(self) -> str:
        """Return ``2026-11`` for a calendar month, else its first and its last day."""
        first, after = self.first_day, self.after_day
        if first.day == 1 and after == _moved(first, months=1):
            return f"{first:%Y-%m}"
        return f"{first.isoformat()}/{(after - timedelta(days=1)).isoformat()}"


class BillingCycle(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How time is cut into billing periods.

    Attributes:
        anchor: a local day on which a period starts; its day of the month is kept where there is
            one, else the month's last day stands for it.
        timezone: IANA name of the tenant's billing time zone.
        unit: what a period is counted in.
        count: units of a period, 1 to 120: 3 months are a quarter.

    Raises:
        InvalidInput: ``invalid_cycle``, ``unknown_timezone``.
    """

    anchor: date
    timezone: str
    unit: CycleUnit = CycleUnit.MONTH
    count: int = 1

    def __post_init__(self) -> None:
        try:
            zone(self.timezone)
        except InvalidInput as error:
            raise InvalidInput(error.message, code=error.code, pointer="/timezone") from None
        if not 1 <= self.count <= MAX_COUNT:
            raise InvalidInput(
                f"a period of {self.count} units is not possible; 1 to {MAX_COUNT} are",
                code="invalid_cycle",
                pointer="/count",
            )
        if not FIRST_DAY <= self.anchor < LAST_DAY:
            raise InvalidInput(
                f"the anchor {self.anchor} is not a day from {FIRST_DAY} to before {LAST_DAY}",
                code="invalid_cycle",
                pointer="/anchor",
            )

    def boundary(self, number: int) -> date:
        """Return the first local day of a period.

        Raises:
            InvalidInput: ``invalid_period`` for a day that no calendar has.
        """
        steps = number * self.count
        try:
            if self.unit is CycleUnit.DAY:
                return self.anchor + timedelta(days=steps)
            if self.unit is CycleUnit.WEEK:
                return self.anchor + timedelta(weeks=steps)
            months = 12 * steps if self.unit is CycleUnit.YEAR else steps
            return _moved(self.anchor, months=months)
        except (OverflowError, ValueError):
            raise InvalidInput(
                f"period {number} lies outside the calendar", code="invalid_period"
            ) from None

    def period(self, number: int) -> BillingPeriod:
        """Return a period by its number.

        Raises:
            InvalidInput: ``invalid_period``.
        """
        first, after = self.boundary(number), self.boundary(number + 1)
        return BillingPeriod(
            number=number,
            first_day=first,
            after_day=after,
            start=day_start(self.timezone, first),
            end=day_start(self.timezone, after),
        )

    def period_at(self, at: int) -> BillingPeriod:
        """Return the period that holds an instant, microseconds since the epoch."""
        return self.period_on(from_us(at).astimezone(zone(self.timezone)).date())

    def period_on(self, day: date) -> BillingPeriod:
        """Return the period that holds a local day."""
        number = self._near(day)
        while day < self.boundary(number):
            number -= 1
        while day >= self.boundary(number + 1):
            number += 1
        return self.period(number)

    def _near(self, day: date) -> int:
        """Return a period number at most one off the one that holds a day."""
        if self.unit in (CycleUnit.DAY, CycleUnit.WEEK):
            length = self.count * (7 if self.unit is CycleUnit.WEEK else 1)
            return (day - self.anchor).days // length
        months = 12 * (day.year - self.anchor.year) + day.month - self.anchor.month
        return months // (self.count * (12 if self.unit is CycleUnit.YEAR else 1))


def _moved(anchor: date, *, months: int) -> date:
    """Return a day moved by whole months; the month's last day stands for one it has not."""
    years, month = divmod(anchor.month - 1 + months, 12)
    year = anchor.year + years
    # The calendar module would take a year that dates do not have.
    first = date(year, month + 1, 1)
    return first.replace(day=min(anchor.day, monthrange(year, month + 1)[1]))


class ProratedAmount(msgspec.Struct, frozen=True, kw_only=True):
    """An amount or quantity for some days of a period, with all that it was made of.

    The share of days a to b is S(b) - S(a) where S(k) = amount x k / days, rounded by the rule:
    shares that cover a period without gap sum to the whole amount, rounded by the same rule, to
    the last digit.

    Attributes:
        full: what the whole period costs.
        first: days of the period before the share begins.
        after: days of the period before it has ended.
        days: days of the period.
        decimals: to which S is rounded.
        mode: how S is rounded.
        amount: the share.
    """

    full: Decimal
    first: int
    after: int
    days: int
    decimals: int
    mode: RoundingMode
    amount: Decimal

    @property
    def formula(self) -> str:
        """Return how the amount came about, with its numbers."""
        full = text(self.full)
        until = f"{full} x {self.after} / {self.days}"
        since = f" - {full} x {self.first} / {self.days}" if self.first else ""
        rule = f"each to {self.decimals} decimals, {self.mode}"
        return f"{until}{since} = {text(self.amount)} ({rule})"


def prorate_by_day(
    full: Decimal,
    *,
    period: BillingPeriod,
    first_day: date,
    after_day: date,
    decimals: int = AMOUNT_DECIMALS,
    mode: RoundingMode = RoundingMode.HALF_EVEN,
) -> ProratedAmount:
    """Return what falls to the days of a period from ``first_day`` to before ``after_day``.

    Args:
        full: amount or quantity of the whole period.
        period: the period.
        first_day: first local day that is charged; one before the period counts from its start.
        after_day: local day after the last one charged; one beyond the period counts to its end.
        decimals: to which shares are rounded; 18 keeps as much as amounts can hold.
        mode: how they are rounded.

    Raises:
        InvalidInput: ``invalid_proration`` if the days are in the wrong order.
    """
    if after_day < first_day:
        raise InvalidInput(
            f"{first_day} to before {after_day} is no stretch of days", code="invalid_proration"
        )
    first, after = (_days_before(period, day) for day in (first_day, after_day))
    until, since = (
        share_of(full, part=days, whole=period.days, decimals=decimals, mode=mode)
        for days in (after, first)
    )
    return ProratedAmount(
        full=full,
        first=first,
        after=after,
        days=period.days,
        decimals=decimals,
        mode=mode,
        amount=plain(EXACT.subtract(until, since)),
    )


def _days_before(period: BillingPeriod, day: date) -> int:
    """Return how many days of a period lie before a day, 0 to all of them."""
    return min(max((day - period.first_day).days, 0), period.days)
