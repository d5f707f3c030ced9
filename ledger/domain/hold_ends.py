"""Void and expiry: how a hold ends without its final capture. Pure."""

from __future__ import annotations

import msgspec

from ledger.domain.catalog import Catalog
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.draws import Draw
from ledger.domain.entries import Entry
from ledger.domain.errors import InvariantViolation
from ledger.domain.hold_usage import (
    larger,
    quantities_of,
    same_quantities,
    usage_of_hold,
    with_said,
)
from ledger.domain.holds import (
    EXPIRY_SOURCE,
    OPEN,
    UNMATCHED,
    HoldAnswer,
    HoldState,
    VoidHold,
    act_digest,
    command_digest,
)
from ledger.domain.ledger import LedgerState
from ledger.domain.protection_entries import HoldExpired, HoldVoided
from ledger.domain.reversals import answer_known_act
from ledger.domain.usage import key_digest


def void_hold(state: LedgerState, command: VoidHold, known: Known, now: int) -> Decision:
    """Return what giving a hold up does."""
    key = act_digest("void", command.void)
    fingerprint = command_digest(command)
    taken = known.keys.get(key)
    if taken is not None:
        return answer_known_act(
            known, (taken.version, taken.index), taken.fingerprint == fingerprint, command
        )
    hold = state.protection().hold(command.hold)
    status = "voided"
    if hold is None:
        status = "voided_unmatched"
    elif hold.status == UNMATCHED:
        status = "hold_already_captured"
    elif hold.status != OPEN:
        status = f"hold_already_{hold.status}"
    elif (hold.progress_step or hold.usage[0]) and not command.force:
        status = "hold_has_progress"
    detail = HoldAnswer(command.hold, amount=hold.amount if hold else 0, currency=state.currency)
    if not status.startswith("voided"):
        return Decision((), Outcome(status, detail=detail))
    entry = HoldVoided(command.hold, command.void, now, command.reason, command.force, fingerprint)
    return Decision((entry,), Outcome(status, detail=detail), key, fingerprint)


def expire(
    state: LedgerState, hold: HoldState, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what the end of a hold's time does; the caller knows that it is due."""
    if hold.status != OPEN or hold.expires_at > now:
        raise InvariantViolation(f"hold {hold.id!r} is not due")
    meters, numbers = hold.captured_meters, hold.captured
    if hold.on_expiry == "capture_full" and hold.quantities:
        shape = state.shapes[hold.shape]
        full = tuple(number * shape.quantity_factor for number in hold.quantities)
        meters, numbers = larger(meters, numbers, shape.meters, full)
    if hold.on_expiry != "void" and hold.progress_step:
        meters, numbers = larger(meters, numbers, hold.meters, hold.numbers)
    if hold.kind == "lease" or same_quantities(
        meters, numbers, hold.captured_meters, hold.captured
    ):
        return Decision((HoldExpired(hold.id, now),), Outcome("expired"))
    event = usage_of_hold(
        state,
        hold,
        quantities_of(meters, numbers),
        source=EXPIRY_SOURCE,
        id=hold.id,
        occurred_at=hold.expires_at,
    )
    draw = Draw(state, state.protection(), hold, hold.id, known, catalog, now)
    defaulted = True
    standing = draw.standing
    if standing is not None and standing.posting is not None and standing.shape is not None:
        # An expiry says nothing of the call; what captures said of it stands.
        event = with_said(event, event, standing.shape.shape)
        was = standing.posting
        event = msgspec.structs.replace(event, occurred_at=was.occurred_at)
        defaulted = was.extra is not None and was.extra.time_defaulted
    fingerprint = act_digest("expiry", hold.id)
    posted = draw.post(event, final=True, defaulted=defaulted, fingerprint=fingerprint)
    _, overrun = draw.overrun(posted)
    expired = HoldExpired(hold.id, now, meters, numbers, overrun, posted.usage, posted.first)
    entries: list[Entry] = [*posted.before, expired]
    if posted.money is not None:
        entries.append(posted.money)
    entries += posted.after
    if posted.first:
        key = key_digest(EXPIRY_SOURCE, hold.id)
        at = len(posted.before) + 1
        return Decision(tuple(entries), Outcome("expired"), key, fingerprint, at)
    return Decision(tuple(entries), Outcome("expired"), at=len(posted.before))
