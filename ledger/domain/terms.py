"""What people set: budgets, confirmations, credit, entitlements; and what time takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ledger.domain.budget_opening import Opening, fold_opening, opening_parts
from ledger.domain.budgets import MAX_BUDGETS, Budget, BudgetTerms, filter_body, terms_body
from ledger.domain.commands import Decision, Known, Outcome
from ledger.domain.credits import MAX_GRANTS
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entitlements import entitlements_body
from ledger.domain.entries import Entry
from ledger.domain.errors import Problem
from ledger.domain.holds import AVAILABLE, SetEntitlements, act_digest, command_digest
from ledger.domain.ledger import LedgerState
from ledger.domain.money import scaled_text
from ledger.domain.periods import LATEST_US
from ledger.domain.protection import Protection
from ledger.domain.protection_commands import (
    ConfirmBudget,
    GrantCredit,
    SetBudget,
    SetCreditPolicy,
    WaiveCap,
    WithdrawCredit,
)
from ledger.domain.protection_entries import (
    BudgetConfirmed,
    BudgetSet,
    CapWaived,
    CreditExpired,
    CreditGranted,
    CreditPolicySet,
    CreditWithdrawn,
    EntitlementsSet,
)
from ledger.domain.windows import window_at

_ACCEPTED = Outcome("accepted")


def _rejected(code: str, message: str, pointer: str = "") -> Decision:
    return Decision((), Outcome("rejected", problem=Problem(code, message, pointer)))


def adopt_default(state: LedgerState, default: DefaultCap, now: int) -> Decision | None:
    """Return the default cap's entry for a ledger that never had a cap; None if it had."""
    guard = state.guard
    if guard is not None and guard.capped:
        return None
    terms = default.terms(state.currency)
    if terms is None:
        return Decision((CapWaived(default.by or "default"),), _ACCEPTED)
    taken = guard.names if guard is not None else {}
    name = terms.name
    while name in taken:
        name += "-cap"
    terms = msgspec.structs.replace(terms, name=name)
    start, _ = window_at(state.timezone, terms.window, now)
    balance = state.balances.get(state.period(now).name)
    opening = ((start, balance.charge),) if balance is not None and balance.charge else ()
    number = len(guard.budgets) if guard is not None else 0
    by = default.by or "default"
    return Decision((BudgetSet(number, terms_body(terms), opening, by),), _ACCEPTED)


def expire_credit(guard: Protection, now: int) -> Decision | None:
    """Return the entries of grants whose time is over; None if there are none."""
    entries = tuple(
        CreditExpired(grant.number, now, max(grant.free, 0))
        for grant in guard.credit.in_order()
        if grant.expires_at and grant.expires_at <= now
    )
    return Decision(entries, Outcome("expired")) if entries else None


def next_credit_expiry(guard: Protection) -> int:
    """Return when the next grant expires."""
    return min(
        (grant.expires_at for grant in guard.credit.in_order() if grant.expires_at),
        default=LATEST_US,
    )


def set_budget(
    state: LedgerState, command: SetBudget, opening: Iterable[tuple[int, int]]
) -> Decision:
    """Return what setting a budget does.

    Args:
        state: of the ledger.
        command: the terms.
        opening: what was spent so far in windows of a new budget.
    """
    guard = state.protection()
    terms = _with_currency(state, command.terms)
    if terms.measure == "charge" and terms.currency != state.currency:
        return _rejected(
            "invalid_currency",
            f"charges of this ledger are in {state.currency}, not {terms.currency}",
            "/currency",
        )
    body = terms_body(terms)
    number = guard.names.get(terms.name)
    if number is not None:
        before = guard.budgets[number]
        if before.terms == terms:
            return Decision((), Outcome("unchanged"))
        if before.terms.identity() == terms.identity():
            return Decision((BudgetSet(number, body, (), command.by),), _ACCEPTED)
    elif terms.state == "ended":
        return _rejected("unknown_budget", f"there is no budget {terms.name!r}", "/name")
    if number is None and len(guard.live) >= MAX_BUDGETS:
        return _rejected(
            "too_many_budgets", f"a ledger has at most {MAX_BUDGETS} budgets; end one first"
        )
    new = BudgetSet(len(guard.budgets), body, tuple(sorted(opening)), command.by)
    if number is None:
        return Decision((new,), _ACCEPTED)
    ended = msgspec.structs.replace(guard.budgets[number].terms, state="ended")
    end = BudgetSet(number, terms_body(ended), (), command.by)
    return Decision((end, new), _ACCEPTED, at=1)


def is_new(state: LedgerState, command: SetBudget) -> bool:
    """Tell whether a budget starts counters of its own, and so needs an opening."""
    guard = state.guard
    number = guard.names.get(command.terms.name) if guard is not None else None
    if guard is None or number is None:
        return True
    terms = _with_currency(state, command.terms)
    return guard.budgets[number].terms.identity() != terms.identity()


def opening_since(state: LedgerState, command: SetBudget, known: Known, now: int) -> Opening:
    """Return a new budget's opening: what the command counted, and what was recorded since."""
    if not is_new(state, command):
        return ()
    spent = dict(command.opening)
    if command.as_of < state.version or known.since(state.version):
        budget = Budget(0, terms_body(_with_currency(state, command.terms)))
        shapes = list(state.shapes)
        entries = known.since(command.as_of)
        fold_opening(budget, state.timezone, shapes, entries, spent, now)
    return opening_parts(spent)


def _with_currency(state: LedgerState, terms: BudgetTerms) -> BudgetTerms:
    if terms.is_money and not terms.currency:
        return msgspec.structs.replace(terms, currency=state.currency)
    return terms


def waive_cap(state: LedgerState, command: WaiveCap) -> Decision:
    """Return what saying "no cap" does: the default cap will not come, or ends."""
    guard = state.protection()
    entries: list[Entry] = []
    for budget in guard.live:
        if budget.cap and budget.terms.scope == "tenant" and not budget.terms.filter.models:
            ended = msgspec.structs.replace(budget.terms, state="ended")
            if budget.terms.name == "default":
                entries.append(BudgetSet(budget.number, terms_body(ended), (), command.by))
    if guard.capped and not entries:
        return Decision((), Outcome("unchanged"))
    return Decision((*entries, CapWaived(command.by)), _ACCEPTED)


def confirm(state: LedgerState, command: ConfirmBudget, known: Known, now: int) -> Decision:
    """Return what a confirmation does: it raises one window's confirm ceiling, once."""
    key = act_digest("confirmation", command.id)
    fingerprint = command_digest(command)
    taken = _taken(known, key, fingerprint)
    if taken is not None:
        return taken
    guard = state.protection()
    number = guard.names.get(command.budget)
    if number is None:
        return _rejected("unknown_budget", f"there is no budget {command.budget!r}", "/budget")
    budget: Budget = guard.budgets[number]
    if budget.confirm_at is None:
        return _rejected(
            "invalid_budget", f"budget {command.budget!r} has no confirm step", "/budget"
        )
    if command.ceiling <= budget.confirm_at:
        return _rejected(
            "invalid_ceiling",
            "the ceiling is not above the budget's confirm step, which applies anyway",
            "/ceiling",
        )
    if budget.stop_at is not None and command.ceiling > budget.stop_at:
        return _rejected(
            "invalid_ceiling",
            "the ceiling passes the budget's stop step; set the budget itself to move that",
            "/ceiling",
        )
    start, end = window_at(state.timezone, budget.terms.window, now)
    until = min(command.until or end, end)
    if until <= now:
        return _rejected("invalid_until", "the confirmation would be over already", "/until")
    entry = BudgetConfirmed(
        command.id,
        number,
        start,
        command.ceiling,
        until,
        command.by,
        command.reason,
        fingerprint,
    )
    return Decision((entry,), _ACCEPTED, key, fingerprint)


def _taken(known: Known, key: bytes, fingerprint: bytes) -> Decision | None:
    row = known.keys.get(key)
    if row is None:
        return None
    if row.fingerprint == fingerprint:
        return Decision((), Outcome("duplicate", row.version, row.index))
    problem = Problem("conflict", "the id was used with another payload; nothing changed", "/id")
    return Decision((), Outcome("conflict", row.version, row.index, problem=problem))


def grant_credit(state: LedgerState, command: GrantCredit, known: Known, now: int) -> Decision:
    """Return what a grant does."""
    key = act_digest("grant", command.id)
    fingerprint = command_digest(command)
    taken = _taken(known, key, fingerprint)
    if taken is not None:
        return taken
    if command.currency and command.currency != state.currency:
        return _rejected(
            "invalid_currency",
            f"the ledger's currency is {state.currency}, not {command.currency}",
            "/currency",
        )
    if command.expires_at and command.expires_at <= now:
        return _rejected("invalid_expires_at", "the grant would be over already", "/expires_at")
    credit = state.protection().credit
    if sum(1 for grant in credit.in_order() if grant.remaining) >= MAX_GRANTS:
        return _rejected("too_many_grants", f"a ledger has at most {MAX_GRANTS} grants in use")
    entry = CreditGranted(
        len(credit.grants),
        command.id,
        command.kind,
        command.amount,
        command.priority,
        now,
        command.expires_at,
        filter_body(command.filter),
        command.by,
        command.reason,
        fingerprint,
        command.transferred_from,
    )
    return Decision((entry,), _ACCEPTED, key, fingerprint)


def withdraw_credit(
    state: LedgerState, command: WithdrawCredit, known: Known, now: int
) -> Decision:
    """Return what a refund or a transfer does: free credit of one grant goes."""
    key = act_digest("withdrawal", command.id)
    fingerprint = command_digest(command)
    taken = _taken(known, key, fingerprint)
    if taken is not None:
        return taken
    credit = state.protection().credit
    grant = next((one for one in credit.grants.values() if one.id == command.grant), None)
    if grant is None:
        return _rejected("unknown_grant", f"there is no grant {command.grant!r}", "/grant")
    if not command.to and grant.kind != "paid":
        return _rejected(
            "not_refundable", f"grant {command.grant!r} is {grant.kind}; nobody paid it", "/grant"
        )
    free = 0 if grant.expired else grant.free
    amount = free if command.amount == AVAILABLE else command.amount
    if amount > free or amount <= 0:
        return _rejected(
            "exceeds_credit",
            f"{scaled_text(free, 18)} {state.currency} of grant {command.grant!r} are free",
            "/amount",
        )
    entry = CreditWithdrawn(
        command.id,
        grant.number,
        amount,
        now,
        "transfer" if command.to else "refund",
        command.to,
        command.by,
        command.reason,
        fingerprint,
    )
    return Decision((entry,), _ACCEPTED, key, fingerprint)


def set_credit_policy(state: LedgerState, command: SetCreditPolicy) -> Decision:
    """Return what saying whether credit is required does."""
    if state.protection().credit.required == command.required:
        return Decision((), Outcome("unchanged"))
    return Decision((CreditPolicySet(command.required, command.by),), _ACCEPTED)


def set_entitlements(state: LedgerState, command: SetEntitlements) -> Decision:
    """Return what setting entitlements does."""
    body = entitlements_body(command.entitlements)
    if state.protection().entitlements_body == body:
        return Decision((), Outcome("unchanged"))
    return Decision((EntitlementsSet(body, command.by),), _ACCEPTED)
