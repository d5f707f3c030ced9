"""A tenant's billing calendar: which days a period has, and which plan holds on which of them.

Before its first subscription a tenant is billed by calendar month. A subscription may begin a
cycle of its own; where that cuts a period of the cycle before, the period ends there. Days are
those of the tenant's ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec

from ledger.domain.billing_periods import FIRST_DAY, BillingCycle, BillingPeriod

NEVER = date.max
"""After every day."""


class Holding(msgspec.Struct, frozen=True, array_like=True):
    """What a tenant is on from a day on.

    Attributes:
        from_day: first local day.
        plan: name; "" is list prices.
        version: of the plan; 0 with list prices.
    """

    from_day: date
    plan: str = ""
    version: int = 0


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A cycle that counts from a day on."""

    from_day: date
    cycle: BillingCycle


class Span(msgspec.Struct, frozen=True, order=True):
    """The days of a billing period that are billed together.

    Attributes:
        first_day: first one.
        after_day: the one after the last.
        period: of the cycle; longer than the days where a cycle begins or ends within it.
    """

    first_day: date
    after_day: date
    period: BillingPeriod


class Stretch(msgspec.Struct, frozen=True):
    """Days of a span on which one plan version holds, or list prices."""

    first_day: date
    after_day: date
    plan: str = ""
    version: int = 0


def months(timezone: str) -> BillingCycle:
    """Return the cycle of whoever has never had a subscription: calendar months."""
    return BillingCycle(anchor=FIRST_DAY, timezone=timezone)


def span_on(day: date, *, timezone: str, segments: Sequence[Segment]) -> Span:
    """Return the span that holds a local day.

    Args:
        day: any.
        timezone: of the tenant's ledger, for months before the first segment.
        segments: in order.
    """
    cycle = months(timezone)
    since, until = date.min, NEVER
    for segment in segments:
        if segment.from_day > day:
            until = segment.from_day
            break
        since, cycle = segment.from_day, segment.cycle
    period = cycle.period_on(day)
    return Span(max(period.first_day, since), min(period.after_day, until), period)


def stretches_of(span: Span, holdings: Sequence[Holding]) -> list[Stretch]:
    """Return what holds on the days of a span, in order and without gaps.

    Args:
        span: its days.
        holdings: in order.
    """
    return stretches_between(span.first_day, span.after_day, holdings)


def stretches_between(
    first_day: date, after_day: date, holdings: Sequence[Holding]
) -> list[Stretch]:
    """Return what holds from a day to before another one, as `stretches_of`."""
    found: list[Stretch] = []
    current = Holding(date.min)
    edges = [one for one in holdings if one.from_day < after_day]
    since = first_day
    for one in edges:
        if one.from_day > since:
            found.append(Stretch(since, one.from_day, current.plan, current.version))
            since = one.from_day
        current = one
    found.append(Stretch(since, after_day, current.plan, current.version))
    return found
