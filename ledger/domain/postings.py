"""Postings: what an event comes to when it is recorded, taken back, or rated anew. Pure.

Where amounts depend on history, taking a quantity q back is worth F(Q) - F(Q - q) at the moment it
is taken back, which may be more or less than it was charged; prepaid credit follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ledger.domain.amounts import held_before
from ledger.domain.catalog import Catalog
from ledger.domain.entries import (
    Entry,
    Posting,
    ShapeDefined,
)
from ledger.domain.entry_parts import Extra
from ledger.domain.hold_usage import with_credit
from ledger.domain.ledger import (
    CorrectionState,
    LedgerState,
    amounts_now,
    session_of_period,
)
from ledger.domain.reversals import given_back
from ledger.domain.shapes import CompiledShape
from ledger.domain.usage import (
    UsageEvent,
)


def session_totals(
    state: LedgerState,
    shape: CompiledShape,
    numbers: tuple[int, ...],
    extra: Extra | None,
    at: int,
    so_far: Callable[[str], int] | None = None,
) -> tuple[int, int, Extra]:
    """Return charge, cost and extra of quantities that are rounded over their session."""
    extra = extra or Extra()
    session = session_of_period(state.timezone, extra.session, at)
    charges, costs, _ = amounts_now(state, shape, numbers, session, at, so_far)
    before: tuple[int, ...] = ()
    if shape.tracks:
        known = so_far or state.so_far
        before = held_before(shape, numbers, known, timezone=state.timezone, at=at)
    extra = msgspec.structs.replace(
        extra, leaf_charges=charges, leaf_costs=costs, leaf_before=before
    )
    return sum(charges), sum(costs), extra


def reversal_of(
    state: LedgerState, shape: CompiledShape, posting: Posting, *, after_recording: bool = False
) -> Posting:
    """Return what taking a posting back takes back: F(Q) - F(Q - q) where history counts.

    Args:
        state: before this decision.
        shape: the posting's shape.
        posting: what stands.
        after_recording: the posting's usage was recorded in this same decision, so that what it
            added is what it takes back.
    """
    if not shape.stateful or after_recording:
        return posting
    negative = tuple(-number for number in posting.quantities)
    charge, cost, extra = session_totals(state, shape, negative, posting.extra, posting.occurred_at)
    extra = msgspec.structs.replace(
        extra,
        leaf_charges=tuple(-leaf for leaf in extra.leaf_charges),
        leaf_costs=tuple(-leaf for leaf in extra.leaf_costs),
    )
    paid = _paid_back(state, shape, posting, -charge * shape.charge_factor, extra)
    return msgspec.structs.replace(posting, charge=-charge, cost=-cost, extra=paid)


def _paid_back(
    state: LedgerState, shape: CompiledShape, posting: Posting, taken: int, extra: Extra
) -> Extra | None:
    """Return what credit gets back where more, or less, is taken back than was charged.

    What less is taken back goes on being paid. What more is taken back others' usage was charged,
    so it goes to the grants that burned last, as far as credit paid for any. Where taking usage
    back makes the rest dearer, for a cheaper tier is left, credit pays that too.

    Args:
        state: before this decision.
        shape: of the posting.
        posting: what stands.
        taken: what is taken back, x 10^18.
        extra: of what is taken back.
    """
    charged = posting.charge * shape.charge_factor
    guard = state.guard
    if taken == charged or guard is None or not guard.credit.active:
        return extra
    book = guard.credit
    if taken < 0:
        planned, rest = book.plan(shape, -taken)
        burned = tuple((number, -part) for number, part in planned)
        return with_credit(extra, burned, -rest if book.required else 0)
    if charged < 0:
        return with_credit(extra, (), min(taken, book.covered()))
    if taken < charged:
        parts, owed = given_back(posting, shape, CorrectionState(), taken)
        return with_credit(extra, tuple(sorted(parts)), owed)
    more = min(taken - charged, book.covered(extra))
    return with_credit(extra, extra.credit, extra.owed + more)


def rated_posting(
    state: LedgerState,
    catalog: Catalog,
    event: UsageEvent,
    numbers: tuple[int, ...],
    decimals: int,
    *,
    at: int,
    extra: Extra | None,
    before: Sequence[Entry] = (),
    without: tuple[CompiledShape, Posting] | None = None,
) -> tuple[Posting, CompiledShape, list[Entry]]:
    """Return an event's posting, its shape, and the definition of the shape if it needs one.

    Args:
        state: of the ledger.
        catalog: prices.
        event: what is rated.
        numbers: its quantities as integers.
        decimals: their decimals.
        at: when it happened.
        extra: of the posting.
        before: entries of the same decision that may define shapes.
        without: shape and posting that are taken back first.
    """
    rated = catalog.rate(
        event,
        numbers=numbers,
        decimals=decimals,
        occurred_at=at,
        book=state.book,
        currency=state.currency,
        plan=state.plan,
    )
    number = state.numbers.get(rated.shape.body)
    defined: list[Entry] = []
    if number is None:
        already = [entry for entry in before if isinstance(entry, ShapeDefined)]
        same = next((entry for entry in already if entry.body == rated.shape.body), None)
        number = same.number if same else len(state.shapes) + len(already)
        if same is None:
            defined.append(ShapeDefined(number, rated.shape.body))
    charge, cost = rated.charge, rated.cost
    if rated.shape.stateful:
        so_far = without_posting(state, *without) if without is not None else None
        charge, cost, extra = session_totals(state, rated.shape, numbers, extra, at, so_far)
    return Posting(number, at, numbers, charge, cost, extra), rated.shape, defined


def without_posting(
    state: LedgerState, shape: CompiledShape, reversed_: Posting
) -> Callable[[str], int]:
    """Return running quantities as they are once a posting has been taken back."""
    after: dict[str, int] = {}
    if shape.stateful and reversed_.extra is not None:
        at = reversed_.occurred_at
        session = session_of_period(state.timezone, reversed_.extra.session, at)
        negative = [-number for number in reversed_.quantities]
        after = amounts_now(state, shape, negative, session, at)[2]
    return lambda key: after[key] if key in after else state.so_far(key)
