"""What the audit says of a fold that contradicts itself, and of rows that say more than the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from ledger.application.ports import AuditRows, ProtectionHead
from ledger.application.verify_protection import check_reserved, compare_protection, next_due
from ledger.domain.budgets import BudgetTerms, Counter, terms_body
from ledger.domain.entries import Entry
from ledger.domain.entry_parts import Extra
from ledger.domain.holds import CAPTURED, STATUSES, HoldState, hold_body, hold_digest
from ledger.domain.ledger import LedgerState, evolve
from ledger.domain.periods import LATEST_US
from ledger.domain.plan_rates import promised_key, reserved_key
from ledger.domain.protection import Protection
from ledger.domain.protection_entries import (
    BudgetSet,
    CreditGranted,
    HoldAuthorized,
    HoldPromised,
    HoldVoided,
)

UNIT = 10**18
AT = 1_793_707_200_000_000
HOLD = hold_digest("h-1")
Found = list[tuple[str, str, object, object]]


def authorized(id: str, expires_at: int) -> HoldAuthorized:
    """Return a hold that reserves 5 in a budget and 3 of a grant."""
    return HoldAuthorized(
        *(id, bytes(16), "allow", AT, expires_at, "void", "call", -1, (), 5 * UNIT, 5 * UNIT),
        *(((0, 0, 5 * UNIT),), ((0, 3 * UNIT),), "", (), b"{}", Extra()),
    )


CHARGE = "\tplan/team@1#tokens:2026-11-01/2026-12-01\t"
PROMISES = (
    HoldPromised("h-1", ((CHARGE, 2_000_000, UNIT),)),
    HoldPromised("h-2", ((CHARGE, 3_000_000, 5),)),
)
RUNNING = {CHARGE: 7, promised_key(CHARGE): 2_000_000, reserved_key(CHARGE): UNIT}
"""What a ledger with those promises keeps of the charge once the second hold is over."""


def protection(*more: Entry) -> Protection:
    """Return a ledger's protection: a budget, a grant, an open hold and one that is over."""
    state = LedgerState(1, "acme")
    for index, entry in enumerate(
        (
            BudgetSet(0, terms_body(BudgetTerms("ever", 100 * UNIT, window="lifetime"))),
            CreditGranted(0, "g", "paid", 10 * UNIT, 0, AT, AT + 50, b"", "", "", bytes(16)),
            authorized("h-1", AT + 60),
            authorized("h-2", AT + 40),
            *more,
            HoldVoided("h-2", "v-1", AT, "", False, bytes(16)),
        )
    ):
        evolve(state, entry, (1, index))
    assert state.guard is not None
    return state.guard


def reserved(guard: Protection, running: Mapping[str, int] | None = None) -> Found:
    """Return what the check of the fold says."""
    found: Found = []
    check_reserved(guard=guard, running=running or {}, add=lambda *said: found.append(said))
    return found


def rows_of(guard: Protection) -> AuditRows:
    """Return rows that say what the fold says."""
    return AuditRows(
        protection=ProtectionHead(guard.next_expiry, False, False, 0, b""),
        budgets={one.number: (one.ladder, one.body) for one in guard.budgets},
        counters={key: counter.as_tuple() for key, counter in guard.counters.items()},
        holds={
            digest: (STATUSES.index(hold.status), hold.expires_at, hold_body(hold))
            for digest, hold in guard.holds.items()
        },
        grants={
            number: {
                name: getattr(one, "filter_body" if name == "filter" else name)
                for name in (
                    *("id", "kind", "priority", "at", "expires_at", "expired", "filter"),
                    *("amount", "held", "burned", "withdrawn", "lapsed"),
                )
            }
            for number, one in guard.credit.grants.items()
        },
    )


def compared(guard: Protection | None, rows: AuditRows) -> Found:
    """Return what comparing with rows says."""
    found: Found = []
    compare_protection(guard=guard, rows=rows, add=lambda *said: found.append(said))
    return found


def test_a_sound_fold_has_nothing_to_say() -> None:
    """What is reserved is what open holds reserve; what is over reserves nothing."""
    assert reserved(protection()) == []


def _counter(guard: Protection) -> None:
    guard.counters[0, 0].held += 1


def _stray_counter(guard: Protection) -> None:
    guard.counters[0, 7] = Counter.of((0, -1, 0, 0, 0, 0))


def _no_counter(guard: Protection) -> None:
    del guard.counters[0, 0]


def _grant(guard: Protection) -> None:
    guard.credit.grants[0].held -= 1


def _kept(guard: Protection) -> None:
    guard.holds[HOLD].status = CAPTURED
    guard.counters[0, 0].held = guard.credit.grants[0].held = 0


@pytest.mark.parametrize(
    ("damage", "expected", "found"),
    [
        (_counter, 5 * UNIT, 5 * UNIT + 1),
        (_stray_counter, 0, -1),
        (_no_counter, 5 * UNIT, 0),
        (_grant, "3", "2.999999999999999999"),
        (_kept, "nothing reserved", "something reserved"),
    ],
)
def test_what_is_reserved_must_be_the_sum_of_open_holds(
    damage: Callable[[Protection], None], expected: object, found: object
) -> None:
    """One unit too many or too few in a window or a grant is told, and where."""
    guard = protection()
    damage(guard)
    [(code, _, left, right)] = reserved(guard)
    assert (code, left, right) == ("held", expected, found)


@pytest.mark.parametrize(
    ("key", "number", "expected", "found"),
    [
        (promised_key(CHARGE), 2_500_000, "2", "2.5"),
        (reserved_key(CHARGE), UNIT - 1, "1", "0.999999999999999999"),
    ],
)
def test_what_is_promised_of_a_plan_s_charge_must_be_the_sum_of_open_holds(
    key: str, number: int, expected: str, found: str
) -> None:
    """A unit too many, or an amount too little, is told with the charge."""
    guard = protection(*PROMISES)
    assert reserved(guard, RUNNING) == []
    [(code, what, left, right)] = reserved(guard, {**RUNNING, key: number})
    assert (code, left, right) == ("held", expected, found)
    assert what.startswith(f"{key[1:].split(maxsplit=1)[0]} {CHARGE.strip()}, by")


def test_a_hold_that_is_over_promises_nothing() -> None:
    """One that does is told."""
    guard = protection(*PROMISES)
    guard.holds[hold_digest("h-2")].promises = ((CHARGE, 1, 0),)
    assert [(code, what) for code, what, *_ in reserved(guard, RUNNING)] == [
        ("held", "hold h-2, voided")
    ]


@pytest.mark.parametrize("name", ["burned", "withdrawn", "lapsed"])
def test_a_sum_of_a_grant_below_nothing_is_told(name: str) -> None:
    """A grant cannot have given less than nothing."""
    guard = protection()
    setattr(guard.credit.grants[0], name, -1)
    [(code, what, _, found)] = reserved(guard)
    assert (code, found) == ("credit", "-0.000000000000000001")
    assert what == f"{name} of grant 0"


def test_a_grant_that_gave_more_than_it_had_is_told() -> None:
    """10 were given and 3 are held: 7 can be burned, not more."""
    guard = protection()
    guard.credit.grants[0].burned = 7 * UNIT
    assert reserved(guard) == []
    guard.credit.grants[0].burned += 1
    [(code, what, _, _)] = reserved(guard)
    assert (code, what) == ("credit", "free of grant 0")


def test_debt_below_nothing_is_told() -> None:
    """What nobody owes is credit, and credit is in grants."""
    guard = protection()
    guard.credit.owed = -1
    assert [code for code, *_ in reserved(guard)] == ["credit"]


def test_equal_rows_are_no_difference() -> None:
    """Each table as the log folds it."""
    guard = protection()
    assert compared(guard, rows_of(guard)) == []


@pytest.mark.parametrize(("offset", "differs"), [(-(10**9), False), (0, False), (1, True)])
def test_the_next_expiry_may_be_too_early_but_never_too_late(offset: int, differs: bool) -> None:
    """The first of open holds and live grants bounds it; a hold that is over does not."""
    guard = protection()
    assert next_due(guard) == AT + 50
    rows = rows_of(guard)
    rows.protection = ProtectionHead(AT + 50 + offset, False, False, 0, b"")
    assert [code for code, *_ in compared(guard, rows)] == ["protection"] * differs


def test_without_anything_open_any_next_expiry_will_do() -> None:
    """An expired grant and a hold that is over wait for nothing."""
    guard = protection()
    guard.holds = {}
    guard.credit.grants[0].expired = True
    assert next_due(guard) == LATEST_US


def test_a_counter_of_nothing_is_as_good_as_no_row() -> None:
    """In the log as in the rows; one that holds anything is not."""
    guard = protection()
    rows = rows_of(guard)
    rows.counters[0, 7] = (0,) * 6
    guard.counters[0, 8] = Counter()
    assert compared(guard, rows) == []
    rows.counters[0, 7] = (0, 0, 0, 1, 0, 0)
    assert [code for code, *_ in compared(guard, rows)] == ["counter"]


def test_a_row_of_nothing_is_fine_where_the_log_has_no_protection() -> None:
    """A row that says anything is not, nor is any other row."""
    assert compared(None, AuditRows()) == []
    rows = AuditRows(protection=ProtectionHead(LATEST_US, False, False, 0, b""))
    assert compared(None, rows) == []
    rows = AuditRows(
        protection=ProtectionHead(LATEST_US, True, False, 0, b""),
        holds={HOLD: (0, AT, hold_body(HoldState("h-1")))},
        budgets={0: (0, b"{}")},
        grants={0: {}},
    )
    assert [code for code, *_ in compared(None, rows)] == ["protection", "budget", "hold", "grant"]
