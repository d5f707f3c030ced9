"""What a new budget's windows start from: the standing usage that the ledger has already.

The same fold counts what was recorded while nobody held the lock, and what came after that. It
counts as `ledger.domain.protection.Protection` counts from then on, so a budget that is set late
says the same as one that was there from the beginning, in every window that can still matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ledger.domain.budgets import CHARGE, Budget
from ledger.domain.entries import (
    Commit,
    CorrectionApplied,
    Entry,
    Posting,
    ShapeDefined,
    UsageAdjusted,
    UsageRecorded,
    UsageRerated,
    UsageVoided,
)
from ledger.domain.protection_entries import ChargeReversed
from ledger.domain.shapes import CompiledShape, shape_from_body
from ledger.domain.windows import LIFETIME, window_at

Opening = tuple[tuple[int, int], ...]
"""Window starts and what was spent in them, in order, none of it zero."""


def opening_of(
    budget: Budget, *, timezone: str, commits: Iterable[Commit], now: int
) -> tuple[Opening, int]:
    """Return what a new budget's windows start from, and how many commits that counts.

    Args:
        budget: new; numbered anyhow.
        timezone: of the ledger.
        commits: all of the ledger, from the first on.
        now: microseconds since the epoch.
    """
    shapes: list[CompiledShape] = []
    spent: dict[int, int] = {}
    counted = 0
    for commit in commits:
        fold_opening(budget, timezone, shapes, commit.entries, spent, now)
        counted += 1
    return opening_parts(spent), counted


def opening_parts(spent: Mapping[int, int]) -> Opening:
    """Return sums by window start as an entry keeps them."""
    return tuple(sorted((start, amount) for start, amount in spent.items() if amount))


def fold_opening(
    budget: Budget,
    timezone: str,
    shapes: list[CompiledShape],
    entries: Iterable[Entry],
    into: dict[int, int],
    now: int,
) -> None:
    """Add what entries count in a new budget to its windows.

    Args:
        budget: new.
        timezone: of the ledger.
        shapes: of the ledger before these entries, by number; entries that define one extend it.
        entries: of one ledger, in order.
        into: window starts and what was spent in them; changed in place.
        now: microseconds since the epoch; windows that cannot matter any more are left out.
    """
    fold = _Fold(budget, timezone, shapes, into, earliest_that_matters(budget, timezone, now))
    for entry in entries:
        if type(entry) is UsageRecorded:
            fold.post(entry, 1)
        elif isinstance(entry, ShapeDefined):
            if entry.number == len(shapes):
                shapes.append(shape_from_body(entry.body))
        elif isinstance(entry, UsageVoided):
            fold.post(entry.reversed, -1)
        elif isinstance(entry, UsageAdjusted | UsageRerated | CorrectionApplied):
            fold.post(entry.reversed, -1)
            fold.post(entry.posted, 1)
        elif isinstance(entry, ChargeReversed):
            fold.reverse(entry)


def earliest_that_matters(budget: Budget, timezone: str, now: int) -> int:
    """Return the start of the first window that can still matter.

    Of calendar windows that is the one before the current, as usage comes late; of rolling ones
    the first bucket within twice the span; there is but one of a lifetime.
    """
    window = budget.terms.window
    if window == LIFETIME:
        return 0
    start, _ = window_at(timezone, window, now)
    if budget.rolls is not None:
        count, length = budget.rolls
        return start - 2 * count * length
    return window_at(timezone, window, start - 1)[0]


class _Fold:
    """One run over entries."""

    __slots__ = ("_all_charge", "_budget", "_earliest", "_into", "_shapes", "_timezone")

    def __init__(
        self,
        budget: Budget,
        timezone: str,
        shapes: list[CompiledShape],
        into: dict[int, int],
        earliest: int,
    ) -> None:
        self._budget = budget
        self._timezone = timezone
        self._shapes = shapes
        self._into = into
        self._earliest = earliest
        terms = budget.terms
        self._all_charge = terms.measure == CHARGE and not terms.filter.meters

    def post(self, posting: Posting | UsageRecorded | None, sign: int) -> None:
        """Count a posting (1), or take it out again (-1)."""
        if posting is None or posting.occurred_at < self._earliest:
            return
        shape = self._shapes[posting.shape]
        if self._budget.applies(shape, posting.extra):
            self._add(posting.occurred_at, sign * self._budget.of_posting(shape, posting))

    def reverse(self, entry: ChargeReversed) -> None:
        """Take a reversed charge out where all of an event's charge counts."""
        if not self._all_charge or entry.occurred_at < self._earliest:
            return
        if self._budget.applies(self._shapes[entry.shape], entry.extra):
            self._add(entry.occurred_at, -entry.amount)

    def _add(self, at: int, amount: int) -> None:
        start = self._budget.window(self._timezone, at)
        self._into[start] = self._into.get(start, 0) + amount
