"""Promises: what open holds may still use of a plan's charges. Pure.

What a plan charges by what was used so far is charged F(Q + q) - F(Q). With H what all open holds
may still use of it, a call of q may come first, F(Q + q) - F(Q), or last; a hold reserves the
greater of the two. Together open holds may come to the rise of F from Q to its greatest value up to
Q + H, the *exposure*. Captures in another order than that of the asks release more, or less, than
they are charged; what is then missing of the exposure counts as held in the next decision
(`unreserved`). So a cap on all of the tenant's charge is not passed by calls that use at most what
they asked for, whatever F is and in whatever order they end: captures move spending within the
exposure, and only an authorization or an extension widens it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.domain.money import AMOUNT_DECIMALS
from ledger.domain.plan_rates import Track, promised_key, reserved_key
from ledger.domain.protection_entries import Promise
from ledger.domain.shapes import CompiledShape

if TYPE_CHECKING:
    from ledger.domain.entries import Posting
    from ledger.domain.ledger import LedgerState

Part = tuple[int, int]
"""Of a plan's charge, a quantity x 10^6 and an amount x 10^18."""


def upon_promises(
    state: LedgerState,
    shape: CompiledShape,
    numbers: Sequence[int],
    charges: Sequence[int],
    *,
    at: int,
    own: Mapping[str, Part],
) -> tuple[tuple[int, ...], tuple[Promise, ...]]:
    """Return what quantities may come to beside those of open holds, and what they promise.

    Args:
        state: of the ledger.
        shape: one with charges of a plan.
        numbers: quantities in the shape's decimals.
        charges: what each leaf comes to upon what is recorded, in the shape's charge decimals.
        at: when the call is to be made.
        own: what of the call is promised or recorded already, and what is reserved or charged
            for that, by accumulator key.
    """
    had = dict(own)
    beside: dict[str, int] = {}
    bounds = list(charges)
    parts: dict[str, Part] = {}
    for place, (number, track) in enumerate(zip(numbers, shape.tracks, strict=True)):
        if track is None:
            continue
        key = track.key(state.timezone, at)
        quantity = number * shape.quantity_factor
        already, last = had.get(key, (0, 0))
        had[key] = (max(0, already - quantity), 0)
        recorded = state.so_far(key)
        if key not in beside:
            beside[key] = state.so_far(promised_key(key))
        before = recorded + beside[key]
        beside[key] += max(0, quantity - already)
        rise = track.most(recorded, recorded + beside[key]) - track.most(recorded, before)
        last = -(-last // shape.charge_factor) + rise * 10 ** (
            shape.charge_decimals - track.decimals
        )
        bounds[place] = max(bounds[place], last)
        part = parts.get(key, (0, 0))
        parts[key] = (part[0] + quantity, part[1] + bounds[place] * shape.charge_factor)
    return tuple(bounds), _listed(parts)


def unreserved(
    state: LedgerState,
    at: int,
    *,
    without: Sequence[Promise] = (),
    instead: Sequence[Promise] = (),
) -> int:
    """Return what open holds may come to beyond what they have reserved x 10^18, at least 0.

    Of the charges that hold now; calls that a plan's window, stretch or change left behind are
    not looked at.

    Args:
        state: of the ledger.
        at: now.
        without: promises that do not count.
        instead: those that count in their place.
    """
    days = state.plan.at(at) if state.plan is not None else None
    if days is None:
        return 0
    changed: dict[str, Part] = {}
    for sign, promises in ((-1, without), (1, instead)):
        for key, quantity, amount in promises:
            was = changed.get(key, (0, 0))
            changed[key] = (was[0] + sign * quantity, was[1] + sign * amount)
    missing = 0
    for track in days.tracks:
        key = track.key(state.timezone, at)
        quantity, amount = changed.get(key, (0, 0))
        quantity += state.so_far(promised_key(key))
        if quantity > 0:
            exposure = _exposure(track, state.so_far(key), quantity)
            missing += max(0, exposure - amount - state.so_far(reserved_key(key)))
    return missing


def _exposure(track: Track, recorded: int, promised: int) -> int:
    """Return how far what is promised may raise F x 10^18."""
    rise = track.most(recorded, recorded + promised) - track.charge(recorded)
    factor: int = 10 ** (AMOUNT_DECIMALS - track.decimals)
    return rise * factor


def share(promises: Sequence[Promise], part: int, whole: int) -> tuple[Promise, ...]:
    """Return the promises of a hold that reserves a part of what it asked for."""
    if part == whole:
        return tuple(promises)
    return tuple(
        (key, -(-quantity * part // whole), amount * part // whole)
        for key, quantity, amount in promises
    )


def lowered(
    promises: Sequence[Promise], before: Mapping[str, Part], after: Mapping[str, Part]
) -> tuple[Promise, ...]:
    """Return what a hold goes on promising once a capture has posted more than stood.

    Args:
        promises: of the hold.
        before: what stood of its usage, as `taken` says.
        after: what stands from now on.
    """
    parts = {}
    for key, quantity, amount in promises:
        was, now = before.get(key, (0, 0)), after.get(key, (0, 0))
        left = max(0, quantity - max(0, now[0] - was[0]))
        parts[key] = (left, amount - max(0, now[1] - was[1]))
    return _listed(parts)


def grown(
    promises: Sequence[Promise], asked: Sequence[Promise], used: Mapping[str, Part]
) -> tuple[Promise, ...]:
    """Return what a hold promises once it is extended; no less of any charge.

    Args:
        promises: of the hold.
        asked: of the whole call, also of what its captures posted.
        used: what stands of its usage, as `taken` says.
    """
    # What was reserved for a charge that is not asked for any more is reserved for others.
    parts = {key: (quantity, 0) for key, quantity, _ in promises}
    for key, quantity, amount in asked:
        drawn = used.get(key, (0, 0))
        left = max(parts.get(key, (0, 0))[0], quantity - drawn[0], 0)
        parts[key] = (left, amount - max(0, drawn[1]))
    return _listed(parts)


def together(promises: Sequence[Promise], used: Mapping[str, Part]) -> dict[str, Part]:
    """Return what a hold promises and what stands of its usage, as `taken` says."""
    parts = dict(used)
    for key, quantity, amount in promises:
        was = parts.get(key, (0, 0))
        parts[key] = (was[0] + quantity, was[1] + amount)
    return parts


def taken(shape: CompiledShape | None, posting: Posting | None, timezone: str) -> dict[str, Part]:
    """Return what a posting has of plans' charges, by accumulator key."""
    parts: dict[str, Part] = {}
    if shape is None or posting is None or posting.extra is None or not shape.tracks:
        return parts
    leaves = zip(posting.quantities, posting.extra.leaf_charges, shape.tracks, strict=True)
    for number, charge, track in leaves:
        if track is not None:
            key = track.key(timezone, posting.occurred_at)
            was = parts.get(key, (0, 0))
            quantity = was[0] + number * shape.quantity_factor
            parts[key] = (quantity, was[1] + charge * shape.charge_factor)
    return parts


def _listed(parts: Mapping[str, Part]) -> tuple[Promise, ...]:
    return tuple((key, *part) for key, part in sorted(parts.items()) if any(part))
