"""Decide: what a command does to a ledger, as entries and an outcome. Pure.

Precedence of outcomes, first that holds:

RecordUsage   duplicate, conflict, accepted
VoidUsage     duplicate, conflict, rejected ``not_usage``, ``already_voided``, accepted
AdjustUsage   duplicate, conflict, rejected ``not_usage``, ``already_adjusted``, accepted
RerateUsage   rejected ``not_usage``, ``unknown_event``, unchanged, accepted
holds         `ledger.domain.hold_codes.CODES`
OpenLedger    accepted (new), duplicate (same settings), conflict

Recording never refuses. A correction may come before its event: it is kept, and takes effect
when the event arrives; a void outweighs an adjustment, whichever came first.
"""

from __future__ import annotations

from ledger.domain.authorize import authorize
from ledger.domain.capture import capture, capture_by_usage
from ledger.domain.catalog import Catalog, Rated
from ledger.domain.commands import (
    Command,
    Decision,
    Known,
    OpenLedger,
    Outcome,
    RerateUsage,
)
from ledger.domain.corrections import adjust, answer_for_taken_key, apply_pending, rerate, void
from ledger.domain.entries import Entry, ShapeDefined, UsageRecorded
from ledger.domain.entry_parts import Extra
from ledger.domain.errors import InvariantViolation, Problem
from ledger.domain.extend import extend, progress
from ledger.domain.hold_ends import void_hold
from ledger.domain.hold_usage import pay
from ledger.domain.holds import (
    AuthorizeHold,
    CaptureHold,
    ExpireHolds,
    ExtendHold,
    ProgressHold,
    ReverseCharge,
    SetEntitlements,
    VoidHold,
)
from ledger.domain.ledger import LedgerState
from ledger.domain.postings import session_totals
from ledger.domain.protection_commands import (
    ConfirmBudget,
    GrantCredit,
    SetBudget,
    SetCreditPolicy,
    WaiveCap,
    WithdrawCredit,
)
from ledger.domain.reversals import reverse
from ledger.domain.shapes import CompiledShape
from ledger.domain.terms import (
    confirm,
    grant_credit,
    opening_since,
    set_budget,
    set_credit_policy,
    set_entitlements,
    waive_cap,
    withdraw_credit,
)
from ledger.domain.usage import AdjustUsage, RecordUsage, UsageEvent, VoidUsage

_ACCEPTED = "accepted"


def decide(
    state: LedgerState,
    command: Command,
    *,
    known: Known,
    catalog: Catalog,
    now: int,
    rated: Rated | None = None,
) -> Decision:
    """Return what a command does.

    Args:
        state: of the command's tenant; not changed.
        command: what is asked.
        known: keys and entries that bear on it.
        catalog: approved prices.
        now: database time, microseconds; the time of events that have none.
        rated: amounts found earlier; taken if made by this catalog for this ledger's book.
    """
    if type(command) is RecordUsage:
        return _record(state, command, known, catalog, now, rated)
    if type(command) is AuthorizeHold:
        return authorize(state, command, known, catalog, now, rated)
    if type(command) is CaptureHold:
        return capture(state, command, known, catalog, now)
    if isinstance(command, VoidUsage):
        return void(state, command, known, now)
    if isinstance(command, AdjustUsage):
        return adjust(state, command, known, catalog, now)
    if isinstance(command, RerateUsage):
        return rerate(state, command, known, catalog, now)
    if isinstance(command, OpenLedger):
        return _open(state, command)
    return _protect(state, command, known, catalog, now)


def _protect(
    state: LedgerState, command: Command, known: Known, catalog: Catalog, now: int
) -> Decision:
    """Return what the rarer commands of cost protection do."""
    if isinstance(command, ExtendHold):
        return extend(state, command, known, catalog, now)
    if isinstance(command, ProgressHold):
        return progress(state, command, now)
    if isinstance(command, VoidHold):
        return void_hold(state, command, known, now)
    if isinstance(command, ReverseCharge):
        return reverse(state, command, known, now)
    if isinstance(command, ExpireHolds):
        return Decision((), Outcome("accepted"))
    if isinstance(command, SetBudget):
        return set_budget(state, command, opening_since(state, command, known, now))
    if isinstance(command, ConfirmBudget):
        return confirm(state, command, known, now)
    if isinstance(command, GrantCredit):
        return grant_credit(state, command, known, now)
    if isinstance(command, WithdrawCredit):
        return withdraw_credit(state, command, known, now)
    if isinstance(command, WaiveCap):
        return waive_cap(state, command)
    if isinstance(command, SetCreditPolicy):
        return set_credit_policy(state, command)
    if isinstance(command, SetEntitlements):
        return set_entitlements(state, command)
    raise InvariantViolation(f"no rule decides {type(command).__name__}")


def _record(
    state: LedgerState,
    command: RecordUsage,
    known: Known,
    catalog: Catalog,
    now: int,
    rated: Rated | None,
) -> Decision:
    event, key = command.event, command.key
    taken = known.keys.get(key)
    if taken is not None:
        return answer_for_taken_key(known, event.source, event.id, key, taken, command)
    if event.hold:
        return capture_by_usage(state, command, known, catalog, now)
    at = event.occurred_at
    defaulted = at is None
    if at is None:
        at = now
    place = (state.book, state.currency, state.plan)
    if rated is None or not rated.holds(catalog, *place):
        rated = catalog.rate(
            event,
            numbers=command.numbers,
            decimals=command.decimals,
            occurred_at=at,
            book=state.book,
            currency=state.currency,
            plan=state.plan,
        )
    shape = rated.shape
    number = state.numbers.get(shape.body)
    defined: tuple[Entry, ...] = ()
    if number is None:
        number = len(state.shapes)
        defined = (ShapeDefined(number, shape.body),)
    extra = _extra(event, defaulted)
    charge, cost = rated.charge, rated.cost
    if shape.stateful:
        charge, cost, extra = session_totals(state, shape, command.numbers, extra, at)
    if state.guard is not None:
        extra = pay(state, shape, charge, extra)
    recorded = UsageRecorded(event.id, at, number, command.numbers, charge, cost, extra)
    entries: tuple[Entry, ...] = (*defined, recorded)
    if state.pending:
        applied = apply_pending(state, shape, recorded, known, catalog, list(entries))
        entries = (*entries, *applied)
    outcome = _PLAIN
    if defaulted or shape.waits:
        outcome = Outcome(_ACCEPTED, flags=_flags(shape, at=defaulted))
    return Decision(entries, outcome, key, command.fingerprint, len(defined))


_PLAIN = Outcome(_ACCEPTED)


def _flags(shape: CompiledShape, *, at: bool) -> tuple[str, ...]:
    uncosted = shape.waits and not shape.unpriced
    flags = (("time_defaulted", at), ("unpriced", shape.unpriced), ("uncosted", uncosted))
    return tuple(name for name, holds in flags if holds)


def _extra(event: UsageEvent, defaulted: bool) -> Extra | None:
    if not (
        event.user
        or event.project
        or event.request_id
        or event.session
        or event.api_key
        or event.conversation
        or event.plugin
        or event.hold
        or event.labels
        or event.raw
        or defaulted
    ):
        return None
    # By position, in the order of the members: keywords cost more than the rest of this.
    return Extra(
        event.api_key,
        event.conversation,
        event.hold,
        event.labels,
        event.plugin,
        event.project,
        event.raw.encode(),
        event.request_id,
        event.session,
        defaulted,
        event.user,
    )


def _open(state: LedgerState, command: OpenLedger) -> Decision:
    """Answer for a ledger that the batch opened if it was not there."""
    asked = (command.currency, command.timezone, command.book)
    if asked == (state.currency, state.timezone, state.book):
        return Decision((), Outcome("duplicate" if state.version else _ACCEPTED, 1, 0))
    problem = Problem(
        code="tenant_exists",
        message=(
            f"tenant {state.tenant!r} is open with currency {state.currency}, time zone"
            f" {state.timezone} and price book {state.book}; these cannot change"
        ),
        pointer="/tenant",
    )
    return Decision((), Outcome("conflict", 1, 0, problem=problem))
