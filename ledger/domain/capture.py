"""Capture: what a hold's call took is posted, whatever it took. Pure.

Not final captures merge by the larger quantity of each meter, a final one says what it was: in
whatever order they come, the hold comes to the same charge, the price of its quantities.
"""

from __future__ import annotations

import msgspec

from ledger.domain.catalog import Catalog
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.draws import Draw
from ledger.domain.entries import ConflictKept
from ledger.domain.errors import Problem
from ledger.domain.hold_usage import (
    larger,
    micro,
    quantities_of,
    same_quantities,
    usage_of_hold,
)
from ledger.domain.holds import CaptureHold, HoldAnswer, HoldState, command_digest
from ledger.domain.ledger import LedgerState
from ledger.domain.usage import (
    RecordUsage,
    canonical_payload,
    conflict_digest,
    key_digest,
)


def capture(
    state: LedgerState, command: CaptureHold, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what a capture command does."""
    key = key_digest(command.source, command.id)
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
    meters, numbers = micro(command.quantities)
    if hold is not None and hold.kind != "lease":
        if hold.final and hold.usage[0]:
            ref = (hold.usage_version, hold.usage_index)
            if not command.final:
                return _stale(state, hold)
            if same_quantities(meters, numbers, hold.captured_meters, hold.captured):
                detail = HoldAnswer(command.hold, currency=state.currency)
                return Decision((), Outcome("exists", *ref, detail=detail))
            return _conflict(known, command.source, command.id, key, fingerprint, command, ref)
        if not command.final:
            meters, numbers = larger(hold.captured_meters, hold.captured, meters, numbers)
            if hold.usage[0] and same_quantities(
                meters, numbers, hold.captured_meters, hold.captured
            ):
                return _stale(state, hold)
    at = now if command.occurred_at is None else command.occurred_at
    event = usage_of_hold(
        state,
        hold,
        quantities_of(meters, numbers),
        source=command.source,
        id=command.id,
        occurred_at=at,
        said=command,
    )
    draw = Draw(state, guard, hold, command.hold, known, catalog, now)
    return draw.decide(
        event, key, fingerprint, final=command.final, defaulted=command.occurred_at is None
    )


def capture_by_usage(
    state: LedgerState, command: RecordUsage, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what a usage event that names a hold does: it is the hold's final capture."""
    event = command.event
    guard = state.protection()
    hold = guard.hold(event.hold)
    defaulted = event.occurred_at is None
    if hold is not None and hold.final and hold.usage[0] and hold.kind != "lease":
        ref = (hold.usage_version, hold.usage_index)
        meters, numbers = micro(event.quantities)
        if same_quantities(meters, numbers, hold.captured_meters, hold.captured):
            return Decision((), Outcome("duplicate", *ref, ("capture_exists",)))
        decision = _conflict(
            known, event.source, event.id, command.key, command.fingerprint, command, ref
        )
        outcome = msgspec.structs.replace(decision.outcome, status="conflict", detail=None)
        return msgspec.structs.replace(decision, outcome=outcome)
    at = now if event.occurred_at is None else event.occurred_at
    timed = msgspec.structs.replace(event, occurred_at=at)
    draw = Draw(state, guard, hold, event.hold, known, catalog, now)
    decision = draw.decide(
        timed, command.key, command.fingerprint, final=True, defaulted=defaulted, by_usage=True
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
