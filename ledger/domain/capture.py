"""Capture: what a hold's call took is posted, whatever it took. Pure.

Not final captures merge by the larger quantity of each meter, a final one says what it was: in
whatever order they come, the hold comes to the same charge, the price of its quantities.
"""

from __future__ import annotations

import msgspec

from ledger.domain.catalog import Catalog
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.draws import Draw, Standing, standing_of
from ledger.domain.entries import ConflictKept
from ledger.domain.errors import Problem
from ledger.domain.hold_usage import (
    WHO,
    filled,
    larger,
    latest,
    micro,
    quantities_of,
    same_call,
    same_quantities,
    usage_of_hold,
    with_said,
)
from ledger.domain.holds import (
    CaptureHold,
    HoldAnswer,
    HoldState,
    capture_key,
    command_digest,
)
from ledger.domain.ledger import LedgerState
from ledger.domain.usage import (
    RecordUsage,
    UsageEvent,
    canonical_payload,
    conflict_digest,
)


def capture(
    state: LedgerState, command: CaptureHold, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what a capture command does."""
    key = capture_key(command.source, command.id)
    fingerprint = command_digest(command)
    taken = known.keys.get(key)
    guard = state.protection()
    hold = guard.hold(command.hold)
    if taken is not None:
        ref = (taken.version, taken.index)
        if taken.fingerprint == fingerprint:
            detail = HoldAnswer(command.hold, currency=state.currency)
            return Decision((), Outcome("exists", *ref, detail=detail))
        return _conflict(known, command.source, command.id, key, fingerprint, command, ref)
    at = command.occurred_at
    event = usage_of_hold(
        state,
        hold,
        command.quantities,
        source=command.source,
        id=command.id,
        occurred_at=latest(hold, now) if at is None else at,
        said=command,
    )
    defaulted = at is None
    standing = standing_of(state, hold, known)
    if hold is not None and standing is not None:
        if hold.final and not command.final:
            return _stale(state, hold)
        if hold.final:
            ref = (hold.usage_version, hold.usage_index)
            if _is_known(hold, standing, event):
                detail = HoldAnswer(command.hold, currency=state.currency)
                return Decision((), Outcome("exists", *ref, detail=detail))
            return _conflict(known, command.source, command.id, key, fingerprint, command, ref)
        if not command.final:
            merged = _merged(state, hold, standing, event, defaulted=defaulted)
            if merged is None:
                return _stale(state, hold)
            event, defaulted = merged
    draw = Draw(state, guard, hold, command.hold, known, catalog, now)
    return draw.decide(event, key, fingerprint, final=command.final, defaulted=defaulted)


def _merged(
    state: LedgerState,
    hold: HoldState,
    standing: Standing,
    event: UsageEvent,
    *,
    defaulted: bool,
) -> tuple[UsageEvent, bool] | None:
    """Return what a capture that is not final comes to with those before it; None for the same.

    The larger quantity of each meter counts, the earliest time that was named, and what was said
    of the call: each is the same in whatever order captures come.
    """
    meters, numbers = larger(hold.captured_meters, hold.captured, *micro(event.quantities))
    event = msgspec.structs.replace(event, quantities=quantities_of(meters, numbers))
    same = same_quantities(meters, numbers, hold.captured_meters, hold.captured)
    if standing.posting is None or standing.shape is None:
        return None if same else (event, defaulted)
    of = standing.shape.shape
    event = with_said(event, usage_of_hold(state, hold, {}), of)
    at = standing.posting.occurred_at
    extra = standing.posting.extra
    was_defaulted = extra is not None and extra.time_defaulted
    named = at if defaulted or event.occurred_at is None else event.occurred_at
    if defaulted or (named > at and not was_defaulted):
        named, defaulted = at, was_defaulted
    event = msgspec.structs.replace(event, occurred_at=named)
    if same and same_call(event, of) and (named, defaulted) == (at, was_defaulted):
        return None
    return event, defaulted


def _is_known(hold: HoldState, standing: Standing, event: UsageEvent) -> bool:
    """Tell whether a final capture says what the hold's final capture said, at whatever time."""
    meters, numbers = micro(event.quantities)
    return same_quantities(meters, numbers, hold.captured_meters, hold.captured) and (
        standing.shape is None or same_call(event, standing.shape.shape)
    )


def capture_by_usage(
    state: LedgerState, command: RecordUsage, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what a usage event that names a hold does: it is the hold's final capture."""
    guard = state.protection()
    hold = guard.hold(command.event.hold)
    standing = standing_of(state, hold, known)
    event = command.event
    if hold is not None and hold.final and standing is not None:
        ref = (hold.usage_version, hold.usage_index)
        if _is_known(hold, standing, event):
            return Decision((), Outcome("duplicate", *ref, ("capture_exists",)))
        decision = _conflict(
            known, event.source, event.id, command.key, command.fingerprint, command, ref
        )
        outcome = msgspec.structs.replace(decision.outcome, status="conflict", detail=None)
        return msgspec.structs.replace(decision, outcome=outcome)
    defaulted = event.occurred_at is None
    if hold is not None and hold.kind != "lease":
        event = filled(event, usage_of_hold(state, hold, {}), WHO)
    # What the entry has beyond the payload would give another fingerprint.
    own = command.fingerprint if event is not command.event else b""
    if event.occurred_at is None:
        event = msgspec.structs.replace(event, occurred_at=latest(hold, now))
    draw = Draw(state, guard, hold, event.hold, known, catalog, now, by_usage=True)
    decision = draw.decide(
        event, command.key, command.fingerprint, final=True, defaulted=defaulted, own=own
    )
    outcome = decision.outcome
    flags = [outcome.status] if outcome.status != "captured" else []
    flags += outcome.flags
    return msgspec.structs.replace(
        decision, outcome=Outcome("accepted", flags=tuple(flags), detail=outcome.detail)
    )


def _stale(state: LedgerState, hold: HoldState) -> Decision:
    detail = HoldAnswer(hold.id, amount=hold.amount, currency=state.currency)
    return Decision(
        (), Outcome("stale_capture", hold.usage_version, hold.usage_index, detail=detail)
    )


def _conflict(
    known: Known,
    source: str,
    id: str,
    key: bytes,
    fingerprint: bytes,
    command: CaptureHold | RecordUsage,
    ref: tuple[int, int],
) -> Decision:
    """Keep another payload, or another final capture, as evidence; nothing is charged."""
    problem = Problem(
        "capture_conflict",
        f"capture {id!r} differs from what was captured before; nothing was charged for this one",
        "/quantities",
    )
    hold = command.hold if isinstance(command, CaptureHold) else command.event.hold
    outcome = Outcome("capture_conflict", *ref, problem=problem, detail=HoldAnswer(hold))
    evidence = conflict_digest(key, fingerprint)
    if evidence in known.keys:
        return Decision((), outcome)
    payload = (
        msgspec.json.encode(command)
        if isinstance(command, CaptureHold)
        else canonical_payload(command.event)
    )
    kept = ConflictKept(source, id, fingerprint, payload, *ref)
    return Decision((kept,), outcome, evidence, fingerprint)
