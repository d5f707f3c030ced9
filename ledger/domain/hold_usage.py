"""The usage of a hold: what captures say of its call, merged, and the event that it makes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ledger.domain.credits import CreditBook
from ledger.domain.entry_parts import Extra
from ledger.domain.holds import EXPIRED, HOLD_SOURCE, CaptureHold, HoldState
from ledger.domain.ledger import CorrectionState, LedgerState
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import scaled_text
from ledger.domain.shapes import CompiledShape, Shape
from ledger.domain.usage import UsageEvent, scaled_quantities

UNKNOWN = "unknown"
"""Provider of a capture that names none and whose hold is not known."""


def micro(quantities: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return canonical quantities as meters and integers x 10^6, in order."""
    numbers, decimals = scaled_quantities(quantities)
    factor = 10 ** (QUANTITY_DECIMALS - decimals)
    return tuple(quantities), tuple(number * factor for number in numbers)


def quantities_of(meters: Sequence[str], numbers: Sequence[int]) -> dict[str, str]:
    """Return meters and integers x 10^6 as canonical quantities."""
    return {
        meter: scaled_text(number, QUANTITY_DECIMALS)
        for meter, number in sorted(zip(meters, numbers, strict=True))
    }


def larger(
    meters: Sequence[str], numbers: Sequence[int], other_meters: Sequence[str], other: Sequence[int]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the larger quantity of each meter; in whatever order, the same."""
    merged = dict(zip(meters, numbers, strict=True))
    for meter, number in zip(other_meters, other, strict=True):
        merged[meter] = max(number, merged.get(meter, 0))
    names = sorted(merged)
    return tuple(names), tuple(merged[name] for name in names)


def same_quantities(
    meters: tuple[str, ...],
    numbers: tuple[int, ...],
    other_meters: tuple[str, ...],
    other: tuple[int, ...],
) -> bool:
    """Tell whether two lists of quantities are equal; a zero is as good as nothing."""
    return {m: n for m, n in zip(meters, numbers, strict=True) if n} == {
        m: n for m, n in zip(other_meters, other, strict=True) if n
    }


def usage_of_hold(
    state: LedgerState,
    hold: HoldState | None,
    quantities: dict[str, str],
    *,
    source: str = HOLD_SOURCE,
    id: str = "-",
    occurred_at: int | None = None,
    said: CaptureHold | None = None,
) -> UsageEvent:
    """Return the usage event of a hold's call.

    Args:
        state: of the ledger.
        hold: what was asked for; None or without a shape where that is not known.
        quantities: canonical.
        source: of the event.
        id: of the event.
        occurred_at: microseconds.
        said: what the capture says counts before what was asked for.
    """
    known = hold is not None and hold.shape >= 0
    shape = state.shapes[hold.shape].shape if hold is not None and known else None
    extra = (hold.extra if hold is not None else None) or Extra()
    say = said or _SILENT
    return UsageEvent(
        api_key=extra.api_key,
        batch=shape.batch if shape else False,
        billable=shape.billable if shape else "tenant",
        byok=shape.byok if shape else False,
        conversation=extra.conversation,
        hold=hold.id if hold is not None else say.hold,
        id=id,
        labels=extra.labels,
        model=say.model or (shape.model if shape else ""),
        occurred_at=occurred_at,
        outcome=say.outcome,
        plugin=extra.plugin,
        project=extra.project,
        provider=say.provider or (shape.provider if shape else "") or UNKNOWN,
        provider_account=shape.provider_account if shape else "",
        quantities=quantities,
        raw=say.raw,
        region=say.region or (shape.region if shape else ""),
        request_id=say.request_id,
        session=extra.session,
        source=source,
        tenant=state.tenant,
        tier=say.tier or (shape.tier if shape else ""),
        user=extra.user,
    )


_SILENT = CaptureHold("", "", "", "", {})
_MERGED = ("provider", "model", "tier", "region", "outcome")
_RATED = (*_MERGED, "batch", "provider_account", "billable", "byok")


def with_said(event: UsageEvent, asked: UsageEvent, standing: Shape) -> UsageEvent:
    """Return the event of a capture that is not final with what stands of its hold's call.

    What was said counts before what was asked for; of two that say different things the greater
    text, member by member. So it is the same in whatever order they come.

    Args:
        event: of the capture, with what the hold asked for where the capture is silent.
        asked: the same of a capture that is silent.
        standing: of the hold's usage.
    """
    merged = {}
    for name in _MERGED:
        unsaid = ("", UNKNOWN, getattr(asked, name))
        said = [
            value
            for value in (getattr(event, name), getattr(standing, name))
            if value not in unsaid
        ]
        merged[name] = max(said, default=getattr(asked, name))
    return msgspec.structs.replace(event, **merged)


def same_call(event: UsageEvent, standing: Shape) -> bool:
    """Tell whether an event says of its call what stands of it; its quantities do not matter."""
    return all(getattr(event, name) == getattr(standing, name) for name in _RATED)


def filled(event: UsageEvent, asked: UsageEvent, members: Sequence[str]) -> UsageEvent:
    """Return an event with what its hold asked for wherever it leaves one of these members out.

    What is left out is what has the value that a usage event has when it says nothing.
    """
    missing = {}
    for name in members:
        value = getattr(event, name)
        if value == getattr(_NOTHING, name) or (name == "provider" and value == UNKNOWN):
            other = getattr(asked, name)
            if other not in (value, ""):
                missing[name] = other
    return msgspec.structs.replace(event, **missing) if missing else event


_NOTHING = UsageEvent()
WHO = ("api_key", "conversation", "labels", "plugin", "project", "session", "user")
"""Members of a usage event that say for whom a call was made."""
CALL = (
    *("batch", "billable", "byok", "model", "provider", "provider_account", "region", "tier"),
    *WHO,
)
"""Members of a usage event that its hold asks for."""


def event_of(
    tenant: str, shape: Shape, extra: Extra | None, quantities: dict[str, str], at: int
) -> UsageEvent:
    """Return what stands of a usage event, without its id and its evidence.

    Args:
        tenant: whose ledger.
        shape: that stands.
        extra: that stands.
        quantities: canonical.
        at: when it happened.
    """
    who = extra or Extra()
    return UsageEvent(
        api_key=who.api_key,
        attempt=shape.attempt,
        batch=shape.batch,
        billable=shape.billable,
        byok=shape.byok,
        conversation=who.conversation,
        hold=who.hold,
        id="-",
        labels=who.labels,
        model=shape.model,
        occurred_at=at,
        outcome=shape.outcome,
        plugin=who.plugin,
        project=who.project,
        provider=shape.provider,
        provider_account=shape.provider_account,
        quantities=quantities,
        region=shape.region,
        request_id=who.request_id,
        session=who.session,
        source=shape.source,
        tenant=tenant,
        tier=shape.tier,
        user=who.user,
    )


def attribution(event: UsageEvent, hold: str, *, defaulted: bool) -> Extra:
    """Return what an entry keeps of an event beside its shape.

    Args:
        event: of a hold's call.
        hold: id of the hold.
        defaulted: nobody said when it happened.
    """
    return Extra(
        event.api_key,
        event.conversation,
        hold,
        event.labels,
        event.plugin,
        event.project,
        event.raw.encode(),
        event.request_id,
        event.session,
        defaulted,
        event.user,
    )


def latest(hold: HoldState | None, now: int) -> int:
    """Return when a call happened of which nobody says when: now, but not after it expired."""
    if hold is not None and hold.status == EXPIRED:
        return min(now, hold.expires_at)
    return now


def with_credit(
    extra: Extra | None, credit: tuple[tuple[int, int], ...], owed: int
) -> Extra | None:
    """Return attribution with what grants pay of a charge."""
    if not credit and not owed:
        if extra is not None and (extra.credit or extra.owed):
            return msgspec.structs.replace(extra, credit=(), owed=0)
        return extra
    return msgspec.structs.replace(extra or Extra(), credit=credit, owed=owed)


def pay(
    state: LedgerState,
    shape: CompiledShape,
    charge: int,
    extra: Extra | None,
    *,
    back: Extra | None = None,
    correction: CorrectionState | None = None,
    hold: HoldState | None = None,
    keeps: tuple[tuple[int, int], ...] = (),
) -> Extra | None:
    """Return attribution with what credit pays of a charge.

    What is tried on a copy of the book happens in the same order when the entries are folded.

    Args:
        state: before the posting.
        shape: of the usage.
        charge: in the shape's charge decimals.
        extra: attribution without that.
        back: of a posting that is taken back first.
        correction: of its event; reversals of it are undone before.
        hold: that is drawn upon.
        keeps: what the hold goes on reserving of grants.
    """
    guard = state.guard
    if guard is None or not guard.credit.active:
        return extra
    book = guard.credit
    own: dict[int, int] = {}
    if back is not None or (hold is not None and hold.allocations):
        returned = dict(correction.returned) if correction is not None else {}
        own = _own(book, back, hold, dict(keeps), returned)
        book = book.copy()
        if correction is not None and correction.reversed:
            book.post(Extra(credit=correction.returned, owed=correction.forgiven))
        if hold is not None:
            book.reserve(keeps)
            book.reserve(hold.allocations, -1)
        if back is not None:
            book.post(back, -1)
    amount = charge * shape.charge_factor
    if amount < 0:
        # A plan's cheaper tier gave back of what was charged before, and so of what credit paid.
        return with_credit(extra, (), -min(-amount, book.covered()))
    planned, rest = book.plan(shape, amount, own)
    return with_credit(extra, planned, rest if book.required else 0)


def _own(
    book: CreditBook,
    back: Extra | None,
    hold: HoldState | None,
    keeps: dict[int, int],
    returned: dict[int, int],
) -> dict[int, int]:
    """Return what a hold releases, or gets back, of grants that expired meanwhile.

    It was reserved in time, so the hold's own usage may burn it; for anybody else it is gone, and
    so is what a reversal gave back before.
    """
    own: dict[int, int] = {}
    released = [
        (number, part - keeps.get(number, 0))
        for number, part in (hold.allocations if hold is not None else ())
    ]
    burned = [
        (number, part - returned.get(number, 0))
        for number, part in (back.credit if back is not None else ())
    ]
    for number, part in (*released, *burned):
        if book.grants[number].expired:
            own[number] = own.get(number, 0) + part
    return own
