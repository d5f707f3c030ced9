"""Amounts of quantities under a shape: rates times quantities, rounded and cumulated as they say.

Pure integers, in the shape's decimals. Where an amount depends on what was used before, of a
session or of a plan's days, running quantities come in and go out by accumulator key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import mul
from typing import NamedTuple

from ledger.domain.plan_rates import Track
from ledger.domain.prices import RoundingScope
from ledger.domain.shapes import CompiledShape, LeafRate


def amounts(shape: CompiledShape, numbers: Sequence[int]) -> tuple[int, int]:
    """Return charge and cost of quantities under a shape, in its decimals.

    Unpriced shapes give (0, 0), and so do stateful ones: `session_amounts` rates those.
    """
    if shape.plain:
        return sum(map(mul, numbers, shape.sell_rates)), sum(map(mul, numbers, shape.cost_rates))
    if shape.stateful:
        return 0, 0
    charges, costs = leaf_amounts(shape, numbers)
    return sum(charges), sum(costs)


def leaf_amounts(
    shape: CompiledShape, numbers: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return charges and costs leaf by leaf, in the shape's decimals; not for stateful shapes."""
    card = shape.shape.card
    if card is None:
        return (), ()
    if shape.plain:
        return tuple(map(mul, numbers, shape.sell_rates)), tuple(
            map(mul, numbers, shape.cost_rates)
        )
    factor = shape.quantity_factor
    return tuple(
        tuple(_amount(rate, number * factor) for rate, number in zip(rates, numbers, strict=True))
        if rates
        else ()
        for rates in (card.sell, card.cost)
    )  # type: ignore[return-value] # two rate tuples give two amount tuples


def session_amounts(
    shape: CompiledShape,
    numbers: Sequence[int],
    session: str,
    so_far: Callable[[str], int],
    *,
    timezone: str,
    at: int,
) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]:
    """Return charges and costs leaf by leaf of a shape whose amounts depend on history.

    With S the session's quantity so far, a segment s is billed R(S + s) - R(S); a negative s
    takes a segment back. An event without a session is a session of its own. With Q what the days
    of a plan hold so far of a charge, q costs F(Q + q) - F(Q).

    Args:
        shape: a stateful one.
        numbers: quantities in the shape's decimals; negative to take back.
        session: the session's id.
        so_far: returns a running quantity x 10^6 by its accumulator key.
        timezone: of the ledger; says in which window of a plan's charge the instant is.
        at: when, microseconds since the epoch.

    Returns:
        Charges, costs, and the running quantities as they become, by accumulator key.
    """
    card = shape.shape.card
    if card is None:
        return (), (), {}
    after: dict[str, int] = {}
    sides = []
    steps = _plan_steps(shape, numbers, so_far, timezone=timezone, at=at)
    for rates in (card.sell, card.cost):
        leaves = []
        sell = rates is card.sell
        for place, (rate, meter, number) in enumerate(
            zip(rates, shape.shape.meters, numbers, strict=bool(rates))
        ):
            quantity = number * shape.quantity_factor
            step = steps[place] if sell and steps else None
            if step is not None:
                after[step.key] = step.after
                track = step.track
                amount = track.charge(step.after) - track.charge(step.before)
                leaves.append(amount * 10 ** (shape.charge_decimals - track.decimals))
                continue
            factor = shape.sell_factor if sell else 1
            if rate.exact or rate.scope is not RoundingScope.SESSION or not session:
                sign = -1 if quantity < 0 else 1
                leaves.append(factor * sign * _amount(rate, abs(quantity)))
                continue
            key = f"{session}\t{rate.version}\t{meter}"
            before = so_far(key)
            after[key] = before + quantity
            billed = rate.billed(before + quantity) - rate.billed(before)
            leaves.append(factor * rate.rate * billed)
        sides.append(tuple(leaves))
    return sides[0], sides[1], after


def running_after(
    shape: CompiledShape,
    numbers: Sequence[int],
    session: str,
    so_far: Callable[[str], int],
    *,
    timezone: str,
    at: int,
) -> dict[str, int]:
    """Return the running quantities as they become, without the amounts; see `session_amounts`."""
    if shape.over_sessions or not shape.tracks:
        return session_amounts(shape, numbers, session, so_far, timezone=timezone, at=at)[2]
    steps = _plan_steps(shape, numbers, so_far, timezone=timezone, at=at)
    return {step.key: step.after for step in steps if step is not None}


def held_before(
    shape: CompiledShape,
    numbers: Sequence[int],
    so_far: Callable[[str], int],
    *,
    timezone: str,
    at: int,
) -> tuple[int, ...]:
    """Return what plans' charges held before each leaf x 10^6, as `session_amounts` takes them.

    Returns:
        Nothing where no plan charges a leaf by what was used so far; 0 for a leaf with a rate.
    """
    steps = _plan_steps(shape, numbers, so_far, timezone=timezone, at=at)
    return tuple([0 if step is None else step.before for step in steps])


class _Step(NamedTuple):
    """What a leaf moves of a plan's running quantity."""

    track: Track
    key: str
    before: int
    after: int


def _plan_steps(
    shape: CompiledShape,
    numbers: Sequence[int],
    so_far: Callable[[str], int],
    *,
    timezone: str,
    at: int,
) -> list[_Step | None]:
    """Return a step for each leaf, None for one with a rate; nothing without a plan."""
    steps: list[_Step | None] = []
    held: dict[str, int] = {}
    factor = shape.quantity_factor
    for number, track in zip(numbers, shape.tracks, strict=bool(shape.tracks)):
        if track is None:
            steps.append(None)
            continue
        key = track.key(timezone, at)
        before = held[key] if key in held else so_far(key)
        held[key] = before + number * factor
        steps.append(_Step(track, key, before, held[key]))
    return steps


def _amount(rate: LeafRate, quantity: int) -> int:
    return rate.rate * (quantity if rate.exact else rate.billed(quantity))
