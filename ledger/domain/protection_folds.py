"""Folds: how each entry of cost protection changes the protection of its ledger.

They trust the log: an entry that cannot follow those before it is an `InvariantViolation`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ledger.domain.budgets import Budget
from ledger.domain.credits import Grant
from ledger.domain.errors import InvariantViolation
from ledger.domain.holds import CAPTURED, EXPIRED, OPEN, REFUSED, UNMATCHED, VOIDED, HoldState
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import (
    BudgetConfirmed,
    BudgetSet,
    BudgetStepReached,
    CapWaived,
    CreditExpired,
    CreditGranted,
    CreditPolicySet,
    CreditWithdrawn,
    EntitlementsSet,
    HoldAuthorized,
    HoldCaptured,
    HoldEstimated,
    HoldExpired,
    HoldExtended,
    HoldProgressed,
    HoldPromised,
    HoldRefused,
    HoldVoided,
)

_Ref = tuple[int, int]
"""Where an entry is: number of the commit, place in it."""


def _budget_set(guard: Protection, entry: BudgetSet, ref: _Ref) -> None:
    budgets = guard.budgets
    if entry.number > len(budgets):
        raise InvariantViolation(f"budget {entry.number} at {ref}, expected {len(budgets)}")
    if entry.number == len(budgets):
        budgets.append(Budget(entry.number, entry.terms))
        for start, spent in entry.opening:
            guard.counter((entry.number, start)).spent += spent
    else:
        budget = budgets[entry.number]
        was = budget.terms
        budget.load(entry.terms)
        if (was.limit, was.steps) != (budget.terms.limit, budget.terms.steps):
            budget.ladder += 1
    guard.touched_budgets.add(entry.number)
    if budgets[entry.number].cap and not guard.capped:
        guard.capped = guard.head_touched = True
    guard.index()


def _cap_waived(guard: Protection, entry: CapWaived, ref: _Ref) -> None:
    del entry, ref
    guard.capped = guard.head_touched = True


def _confirmed(guard: Protection, entry: BudgetConfirmed, ref: _Ref) -> None:
    del ref
    counter = guard.counter((entry.budget, entry.window))
    counter.ceiling, counter.until = entry.ceiling, entry.until


def _step_reached(guard: Protection, entry: BudgetStepReached, ref: _Ref) -> None:
    del ref
    counter = guard.counter((entry.budget, entry.window))
    ladder = guard.budgets[entry.budget].ladder
    if counter.ladder != ladder:
        counter.ladder, counter.fired = ladder, 0
    counter.fired |= 1 << entry.step


def _authorized(guard: Protection, entry: HoldAuthorized, ref: _Ref) -> None:
    hold = guard.touch(entry.id)
    if hold.version:
        raise InvariantViolation(f"hold {entry.id!r} is authorized again at {ref}")
    hold.version, hold.index = ref
    hold.fingerprint = entry.fingerprint
    hold.at = entry.at
    hold.shape = entry.shape
    hold.extra = entry.extra
    hold.kind = entry.kind
    hold.expires_at = entry.expires_at
    if entry.decision == "deny":
        hold.code = "created_resolved"
        hold.status = CAPTURED
        return
    hold.code = "created"
    hold.status = OPEN
    hold.on_expiry = entry.on_expiry
    hold.quantities = entry.quantities
    hold.reserved = hold.amount = entry.amount
    guard.keep(hold, entry.bindings, entry.allocations)
    guard.expires(entry.expires_at)


def _refused(guard: Protection, entry: HoldRefused, ref: _Ref) -> None:
    if entry.code == "confirmation_required":
        return
    hold = guard.touch(entry.id)
    if hold.version:
        raise InvariantViolation(f"hold {entry.id!r} is refused again at {ref}")
    hold.version, hold.index = ref
    hold.fingerprint = entry.fingerprint
    hold.code = entry.code
    hold.at = entry.at
    hold.shape = entry.shape
    hold.extra = entry.extra
    if entry.code != "denied_voided":
        hold.status = REFUSED


def _open_hold(guard: Protection, id: str, ref: _Ref) -> HoldState:
    hold = guard.touch(id)
    if hold.status != OPEN:
        raise InvariantViolation(f"hold {id!r} is {hold.status}, not open, at {ref}")
    return hold


def _extended(guard: Protection, entry: HoldExtended, ref: _Ref) -> None:
    hold = _open_hold(guard, entry.id, ref)
    hold.step = entry.step
    hold.step_digest = entry.digest
    hold.expires_at = entry.expires_at
    # What captures drew before was reserved, too.
    hold.reserved += max(0, entry.amount - hold.amount)
    hold.amount = entry.amount
    if entry.quantities:
        hold.quantities = entry.quantities
    guard.keep(hold, entry.bindings, entry.allocations)
    guard.expires(entry.expires_at)


def _estimated(guard: Protection, entry: HoldEstimated, ref: _Ref) -> None:
    hold = _open_hold(guard, entry.id, ref)
    hold.shape, hold.quantities = entry.shape, entry.quantities


def _promised(guard: Protection, entry: HoldPromised, ref: _Ref) -> None:
    guard.promise(_open_hold(guard, entry.id, ref), entry.promises)


def _progressed(guard: Protection, entry: HoldProgressed, ref: _Ref) -> None:
    hold = _open_hold(guard, entry.id, ref)
    hold.progress_step = entry.step
    hold.meters = entry.meters
    hold.numbers = entry.quantities


def _captured(guard: Protection, entry: HoldCaptured, ref: _Ref) -> None:
    del ref
    hold = guard.touch(entry.id)
    hold.captured_meters = entry.meters
    hold.captured = entry.quantities
    hold.overrun = entry.overrun
    hold.usage = entry.usage
    hold.final = hold.final or entry.final
    hold.late = hold.late or "late" in entry.flags
    hold.by_event = hold.by_event or "event" in entry.flags
    if entry.first:
        guard.awaiting = hold
    if hold.status == OPEN:
        guard.keep(hold, entry.bindings, entry.allocations)
        hold.amount = entry.remaining
        if entry.final:
            hold.status = CAPTURED
            guard.promise(hold, ())


def _voided(guard: Protection, entry: HoldVoided, ref: _Ref) -> None:
    hold = guard.touch(entry.id)
    if hold.status not in (OPEN, UNMATCHED):
        raise InvariantViolation(f"hold {entry.id!r} is {hold.status} and voided at {ref}")
    guard.end(hold, VOIDED)


def _expired(guard: Protection, entry: HoldExpired, ref: _Ref) -> None:
    hold = _open_hold(guard, entry.id, ref)
    if entry.meters:
        hold.captured_meters = entry.meters
        hold.captured = entry.quantities
        hold.usage = entry.usage
        hold.overrun = entry.overrun
        if entry.first:
            guard.awaiting = hold
    guard.end(hold, EXPIRED)


def _granted(guard: Protection, entry: CreditGranted, ref: _Ref) -> None:
    if entry.number in guard.credit.grants:
        raise InvariantViolation(f"grant {entry.number} is given again at {ref}")
    guard.credit.add(Grant.given(entry))
    if entry.expires_at:
        guard.expires(entry.expires_at)


def _credit_expired(guard: Protection, entry: CreditExpired, ref: _Ref) -> None:
    del ref
    guard.credit.expire(entry.number, entry.amount)


def _withdrawn(guard: Protection, entry: CreditWithdrawn, ref: _Ref) -> None:
    del ref
    guard.credit.withdraw(entry.number, entry.amount)


def _credit_policy(guard: Protection, entry: CreditPolicySet, ref: _Ref) -> None:
    del ref
    guard.credit.required = entry.required
    guard.head_touched = True


def _entitled(guard: Protection, entry: EntitlementsSet, ref: _Ref) -> None:
    del ref
    guard.load_entitlements(entry.document)
    guard.head_touched = True


FOLDS: dict[type, Callable[[Protection, Any, _Ref], None]] = {
    BudgetSet: _budget_set,
    CapWaived: _cap_waived,
    BudgetConfirmed: _confirmed,
    BudgetStepReached: _step_reached,
    HoldAuthorized: _authorized,
    HoldRefused: _refused,
    HoldExtended: _extended,
    HoldEstimated: _estimated,
    HoldPromised: _promised,
    HoldProgressed: _progressed,
    HoldCaptured: _captured,
    HoldVoided: _voided,
    HoldExpired: _expired,
    CreditGranted: _granted,
    CreditExpired: _credit_expired,
    CreditWithdrawn: _withdrawn,
    CreditPolicySet: _credit_policy,
    EntitlementsSet: _entitled,
}
"""How each entry changes the protection that it is folded into."""
