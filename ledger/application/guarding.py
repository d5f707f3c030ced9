"""What a batch does for cost protection beside deciding: expiry, and ledgers that do not exist."""

from __future__ import annotations

from ledger.application.workingset import TenantWork
from ledger.domain.catalog import Catalog
from ledger.domain.commands import Command, OpenLedger, Outcome, RerateUsage
from ledger.domain.errors import Problem
from ledger.domain.hold_ends import expire
from ledger.domain.holds import (
    AuthorizeHold,
    CaptureHold,
    ExtendHold,
    HoldAnswer,
    ProgressHold,
    ReverseCharge,
    VoidHold,
)
from ledger.domain.periods import LATEST_US
from ledger.domain.terms import expire_credit, next_credit_expiry
from ledger.domain.usage import AdjustUsage, RecordUsage, VoidUsage

_OPENS = RecordUsage | VoidUsage | AdjustUsage | RerateUsage | OpenLedger | CaptureHold
_HOLDS = AuthorizeHold | ExtendHold | ProgressHold | VoidHold


def opens(command: Command) -> bool:
    """Tell whether a command opens a ledger that is not there: recording does, asking does not."""
    return isinstance(command, _OPENS)


def unknown_tenant(command: Command) -> Outcome:
    """Return the answer to a command about a ledger that is not there."""
    tenant = getattr(command, "tenant", "")
    message = f"there is no tenant {tenant!r}; open it with `tallybook tenants open`"
    if isinstance(command, _HOLDS | ReverseCharge):
        code = "invalid_tenant"
        hold = "" if isinstance(command, ReverseCharge) else command.hold
        decision = "deny" if isinstance(command, AuthorizeHold) else ""
        problem = Problem(code, message, "/tenant")
        return Outcome(code, problem=problem, detail=HoldAnswer(hold, decision))
    return Outcome("rejected", problem=Problem("unknown_tenant", message, "/tenant"))


def expire_due(work: TenantWork, catalog: Catalog, now: int) -> None:
    """Expire the holds and grants of a ledger whose time is over, before anything else."""
    guard = work.state.guard
    if guard is None or now < guard.next_expiry:
        return
    credit = expire_credit(guard, now)
    if credit is not None:
        work.append(credit)
    for hold in guard.due(now):
        work.append(expire(work.state, hold, work, catalog, now))
    if work.has_due:
        later = LATEST_US if work.next_expiry is None else work.next_expiry
        guard.next_expiry = min(later, next_credit_expiry(guard))
        guard.head_touched = bool(work.entries)
