"""Comparing cost protection as the log folds it with its rows, and with itself.

Counters and grants are sums that the write path keeps up to date one change at a time, so what
open holds have reserved is added up again at the end of the fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from ledger.application.ports import AuditRows, ProtectionHead
from ledger.domain.credits import Grant
from ledger.domain.holds import OPEN, STATUSES, HoldState, hold_body
from ledger.domain.meters import QUANTITY_DECIMALS
from ledger.domain.money import AMOUNT_DECIMALS, scaled_text
from ledger.domain.periods import LATEST_US
from ledger.domain.plan_rates import is_amount, is_of_holds, promised_key, reserved_key
from ledger.domain.protection import CounterKey, Protection

Add = Callable[[str, str, object, object], None]
"""Takes a difference: code, what, expected, found."""
_Key = TypeVar("_Key", int, str, bytes, CounterKey)
_COUNTER = ("spent", "held", "fired", "ladder", "ceiling", "until")
_NO_COUNTER = (0,) * len(_COUNTER)
_AMOUNTS = ("amount", "held", "burned", "withdrawn", "lapsed")


def compare_protection(*, guard: Protection | None, rows: AuditRows, add: Add) -> None:
    """Compare a ledger's cost protection with its rows.

    Args:
        guard: as the log folds; None where the log has nothing of it.
        rows: of the ledger.
        add: where to put what differs.
    """
    folded = guard if guard is not None else Protection("UTC")
    if guard is not None or rows.protection is not None:
        _head(folded, rows.protection, add)
    _budgets(folded, rows, add)
    _counters(folded, rows, add)
    _holds(folded, rows, add)
    _grants(folded, rows, add)


def _head(guard: Protection, row: ProtectionHead | None, add: Add) -> None:
    if row is None:
        add("protection", "protection", "a row", None)
        return
    pairs: tuple[tuple[str, object, object], ...] = (
        ("capped", guard.capped, row.capped),
        ("credit_required", guard.credit.required, row.credit_required),
        ("owed", _amount(guard.credit.owed), _amount(row.owed)),
        ("entitlements", guard.entitlements_body, row.entitlements),
    )
    for name, expected, found in pairs:
        if expected != found:
            add("protection", f"protection.{name}", _plain(expected), _plain(found))
    due = next_due(guard)
    if row.next_expiry > due:
        add("protection", "protection.next_expiry", f"at most {due}", row.next_expiry)


def next_due(guard: Protection) -> int:
    """Return when the first open hold or grant expires; `LATEST_US` for never."""
    holds = (hold.expires_at for hold in guard.holds.values() if hold.status == OPEN)
    grants = (grant.expires_at for grant in guard.credit.in_order() if grant.expires_at)
    return min(min(holds, default=LATEST_US), min(grants, default=LATEST_US))


def _budgets(guard: Protection, rows: AuditRows, add: Add) -> None:
    folded = {budget.number: (budget.ladder, budget.body) for budget in guard.budgets}
    for number in _unequal(folded, rows.budgets):
        expected, found = folded.get(number), rows.budgets.get(number)
        if expected is None or found is None:
            add("budget", f"budgets {number}", *_presence(expected, found))
            continue
        for name, left, right in zip(("ladder", "terms"), expected, found, strict=True):
            if left != right:
                add("budget", f"budgets {number} {name}", _plain(left), _plain(right))


def _counters(guard: Protection, rows: AuditRows, add: Add) -> None:
    """Compare counters; one that counts nothing may or may not have a row."""
    folded = {
        key: values
        for key, counter in guard.counters.items()
        if (values := counter.as_tuple()) != _NO_COUNTER
    }
    there = {key: values for key, values in rows.counters.items() if values != _NO_COUNTER}
    for key in _unequal(folded, there):
        what = f"budget_counters {key[0]} {key[1]}"
        expected, found = folded.get(key), there.get(key)
        if expected is None or found is None:
            add("counter", what, _counter(expected), _counter(found))
            continue
        for name, left, right in zip(_COUNTER, expected, found, strict=True):
            if left != right:
                add("counter", f"{what} {name}", left, right)


def _holds(guard: Protection, rows: AuditRows, add: Add) -> None:
    for digest in sorted(guard.holds.keys() | rows.holds.keys()):
        hold, row = guard.holds.get(digest), rows.holds.get(digest)
        if hold is None or row is None:
            what = f"holds {hold.id if hold is not None else digest.hex()}"
            add("hold", what, *_presence(hold, row))
            continue
        expected = (STATUSES.index(hold.status), hold.expires_at, hold_body(hold))
        if expected == row:
            continue
        for name, left, right in zip(("status", "expires_at", "body"), expected, row, strict=True):
            if left != right:
                add("hold", f"holds {hold.id} {name}", _plain(left), _plain(right))


def _grants(guard: Protection, rows: AuditRows, add: Add) -> None:
    folded = {number: _members(grant) for number, grant in guard.credit.grants.items()}
    for number in _unequal(folded, rows.grants):
        expected, found = folded.get(number), rows.grants.get(number)
        if expected is None or found is None:
            add("grant", f"credit_grants {number}", *_presence(expected, found))
            continue
        for name, left in expected.items():
            right = found.get(name)
            if left != right:
                said = (_amount(left), _amount(right)) if name in _AMOUNTS else (left, right)
                add("grant", f"credit_grants {number} {name}", *map(_plain, said))


def _members(grant: Grant) -> dict[str, object]:
    return {
        "id": grant.id,
        "kind": grant.kind,
        "priority": grant.priority,
        "at": grant.at,
        "expires_at": grant.expires_at,
        "expired": grant.expired,
        "filter": grant.filter_body,
        "amount": grant.amount,
        "held": grant.held,
        "burned": grant.burned,
        "withdrawn": grant.withdrawn,
        "lapsed": grant.lapsed,
    }


# -- what must hold of the fold itself ------------------------------------------------


def check_reserved(*, guard: Protection, running: Mapping[str, int], add: Add) -> None:
    """Check that what is reserved is what open holds reserve, and that no grant gave too much.

    Args:
        guard: as the log folds.
        running: of plans' charges, as the log folds, by accumulator key.
        add: where to put what does not hold.
    """
    bound: dict[CounterKey, int] = {}
    allocated: dict[int, int] = {}
    promised: dict[str, int] = {}
    for hold in guard.holds.values():
        if hold.status != OPEN:
            _released(hold, add)
            continue
        for number, start, amount in hold.bindings:
            bound[number, start] = bound.get((number, start), 0) + amount
        for number, amount in hold.allocations:
            allocated[number] = allocated.get(number, 0) + amount
        for charge, quantity, amount in hold.promises:
            for name, part in ((promised_key(charge), quantity), (reserved_key(charge), amount)):
                promised[name] = promised.get(name, 0) + part
    _check_promised(promised, running, add)
    held = {key: counter.held for key, counter in guard.counters.items() if counter.held}
    bound = {key: amount for key, amount in bound.items() if amount}
    for key in _unequal(bound, held):
        what = f"held of budget {key[0]} in the window from {key[1]}, by its open holds"
        add("held", what, bound.get(key, 0), held.get(key, 0))
    for number, grant in sorted(guard.credit.grants.items()):
        expected = allocated.get(number, 0)
        if grant.held != expected:
            what = f"held of grant {number}, by its open holds"
            add("held", what, _amount(expected), _amount(grant.held))
        for name, value in (
            ("free", grant.free),
            ("held", grant.held),
            ("burned", grant.burned),
            ("withdrawn", grant.withdrawn),
            ("lapsed", grant.lapsed),
        ):
            if value < 0:
                add("credit", f"{name} of grant {number}", "at least 0", _amount(value))
    if guard.credit.owed < 0:
        add("credit", "what is owed", "at least 0", _amount(guard.credit.owed))


def _check_promised(promised: Mapping[str, int], running: Mapping[str, int], add: Add) -> None:
    promised = {key: number for key, number in promised.items() if number}
    kept = {key: number for key, number in running.items() if number and is_of_holds(key)}
    for key in _unequal(promised, kept):
        decimals = AMOUNT_DECIMALS if is_amount(key) else QUANTITY_DECIMALS
        said = (scaled_text(of.get(key, 0), decimals) for of in (promised, kept))
        add("held", f"{' '.join(key.split())}, by its open holds", *said)


def _released(hold: HoldState, add: Add) -> None:
    if hold.bindings or hold.allocations or hold.promises:
        add("held", f"hold {hold.id}, {hold.status}", "nothing reserved", "something reserved")


# -- how it is said -------------------------------------------------------------------


def _unequal(left: Mapping[_Key, object], right: Mapping[_Key, object]) -> list[_Key]:
    return sorted(key for key in left.keys() | right.keys() if left.get(key) != right.get(key))


def _presence(expected: object, found: object) -> tuple[str | None, str | None]:
    return ("a row" if expected is not None else None, "a row" if found is not None else None)


def _counter(values: tuple[int, ...] | None) -> str | None:
    if values is None:
        return None
    return ", ".join(f"{name} {value}" for name, value in zip(_COUNTER, values, strict=True))


def _amount(value: object) -> str:
    return scaled_text(value, AMOUNT_DECIMALS) if isinstance(value, int) else "no exact amount"


def _plain(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()
