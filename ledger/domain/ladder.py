"""The ladder: which steps of budgets fire after a decision, and the forecast. Pure.

A step fires once a window, as an entry of the same commit, when spent + held reaches its
threshold. The forecast is linear: docs/spec/holds.md has the formula.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ledger.domain.budgets import Budget, Counter
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import BudgetStepReached
from ledger.domain.windows import CALENDAR, window_at

_EMPTY = Counter()


class Forecast(msgspec.Struct, frozen=True):
    """Where a window's use is going.

    Attributes:
        total: what the window will come to, in the budget's measure.
        limit_at: when the threshold will be passed, microseconds since the epoch.
    """

    total: int
    limit_at: int


def forecast(
    *, timezone: str, window: str, start: int, used: int, threshold: int, now: int
) -> Forecast | None:
    """Return the linear forecast of a calendar window; None where there is none to be made.

    Args:
        timezone: of the ledger.
        window: a calendar window; others have no forecast.
        start: of the window.
        used: spent + held.
        threshold: that ``limit_at`` is about.
        now: inside the window, and at least a tenth of it gone.
    """
    if window not in CALENDAR or used <= 0:
        return None
    begins, end = window_at(timezone, window, start)
    gone, length = now - begins, end - begins
    if not 0 < gone < length or gone * 10 < length:
        return None
    return Forecast(used * length // gone, begins + threshold * gone // used)


def steps_reached(guard: Protection, now: int) -> list[BudgetStepReached]:
    """Return the steps that fire because of what changed since this was last asked."""
    reached: list[BudgetStepReached] = []
    rolled: set[int] = set()
    for number, start in guard.take_dirty():
        budget = guard.budgets[number]
        if not budget.thresholds or budget.terms.state == "ended":
            continue
        counter = guard.counters[number, start]
        if budget.rolls is None:
            used = counter.spent + counter.held
        else:
            # However many of its buckets changed, it fires once, in the current one.
            if number in rolled:
                continue
            rolled.add(number)
            start = budget.window(guard.timezone, now)  # noqa: PLW2901 - where it fires
            counter = guard.counters.get((number, start), _EMPTY)
            used = sum(guard.used(budget, now))
        if used >= budget.first_threshold:
            reached += _fires(guard, budget, counter, start, used, now)
    return reached


def _fires(
    guard: Protection, budget: Budget, counter: Counter, start: int, used: int, now: int
) -> Iterable[BudgetStepReached]:
    fired = counter.fired if counter.ladder == budget.ladder else 0
    for place, (step, threshold) in enumerate(
        zip(budget.terms.steps, budget.thresholds, strict=True)
    ):
        if fired >> place & 1:
            continue
        if step.kind == "projected":
            expected = forecast(
                timezone=guard.timezone,
                window=budget.terms.window,
                start=start,
                used=used,
                threshold=threshold,
                now=now,
            )
            if expected is not None and expected.total >= threshold:
                yield BudgetStepReached(
                    budget.number,
                    start,
                    place,
                    step.kind,
                    threshold,
                    used,
                    now,
                    expected.limit_at,
                    expected.total,
                )
        elif used >= threshold:
            yield BudgetStepReached(budget.number, start, place, step.kind, threshold, used, now)


def kept_back(
    guard: Protection, budget: Budget, kind: str, used: int, now: int
) -> list[BudgetStepReached]:
    """Return the ``stop`` or ``confirm`` step that a call which was kept back makes fire."""
    start = budget.window(guard.timezone, now)
    counter = guard.counters.get((budget.number, start), _EMPTY)
    fired = counter.fired if counter.ladder == budget.ladder else 0
    for place, (step, threshold) in enumerate(
        zip(budget.terms.steps, budget.thresholds, strict=True)
    ):
        if step.kind == kind and used > threshold and not fired >> place & 1:
            return [BudgetStepReached(budget.number, start, place, kind, threshold, used, now)]
    return []
