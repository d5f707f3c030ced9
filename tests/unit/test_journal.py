"""The journal: its table of rules, what an invoice moves, and sums that are always zero."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from fakes import journal_samples as samples
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.errors import InvariantViolation
from ledger.domain.invoice_parts import LineKind
from ledger.domain.invoices import InvoiceStatus
from ledger.domain.journal import (
    BILLED,
    CASH,
    ROUNDING,
    TAX,
    UNBILLED,
    WRITE_OFFS,
    Booking,
    Drawn,
    JournalLine,
    Rule,
    account,
    bookings,
    by_month,
    in_minor_units,
    trial_balance,
)
from ledger.domain.journal_facts import CreditMove, CreditMoved, Fact
from ledger.domain.journal_rules import draw, journal

SPEC = (Path(__file__).parents[2] / "docs" / "spec" / "journal.md").read_text("utf-8")
# An account that a table names in short.
_SHORT = {
    "unbilled": r"assets:receivable:unbilled",
    "billed": r"assets:receivable:billed",
    "cash": r"assets:cash",
    "usage": r"income:usage:[a-z]+",
    "plan": r"income:plan:[a-z-]+",
    "rounding": r"income:rounding",
    "breakage": r"income:breakage",
    "tax": r"liabilities:tax",
    "deferred-credit": r"liabilities:deferred-credit",
    "promotional-credit": r"liabilities:promotional-credit",
    "provider-payable": r"liabilities:provider-payable:openai-eu",
    "provider-cost": r"expenses:provider-cost:openai-eu",
    "promotion": r"expenses:promotion",
    "write-offs": r"expenses:write-offs",
    "credit-transfers": r"equity:credit-transfers",
}
Sums = dict[str, Decimal]


def balances(booked: list[Booking]) -> Sums:
    """Return balances that are not zero, of one currency."""
    return {one.account: one.balance for one in trial_balance(booked) if one.balance}


def rows(head: str) -> list[list[str]]:
    """Return a table's cells."""
    [table] = re.findall(rf"^{re.escape(head)}\n\|[-|]+\n((?:\|.*\n)+)", SPEC, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]


def test_each_rule_moves_the_accounts_that_the_table_says() -> None:
    """No rule is missing in the table, none is of the table alone, and sides are as it says."""
    table = {
        row[0].strip("`"): (row[1], row[2]) for row in rows("| rule | debit | credit | amount |")
    }
    assert set(table) == {rule.value for rule in Rule}
    seen: dict[str, list[JournalLine]] = defaultdict(list)
    for fact in samples.everything():
        drawn = draw(fact)
        seen[drawn.rule.value] += [line for line in drawn.lines if line.amount]
    assert set(seen) == set(table)
    for rule, sides in table.items():
        accounts: Sums = defaultdict(Decimal)
        for line in seen[rule]:
            accounts[line.account] += line.amount
        found = [
            [name for name, amount in accounts.items() if amount * sign > 0] for sign in (1, -1)
        ]
        for side, names in zip(sides, found, strict=True):
            allowed = [_SHORT[short] for short in side.split(", ")]
            loose = [*allowed, _SHORT["rounding"], r"income:usage:reversals"]
            strays = [one for one in names if not any(re.fullmatch(a, one) for a in loose)]
            lacking = [
                a
                for a in allowed
                if a != _SHORT["rounding"] and not any(re.fullmatch(a, one) for one in names)
            ]
            # A void and a reversal can lack what the invoice at hand does not have.
            assert (rule, strays) == (rule, [])
            assert rule in ("invoice_voided", "credit_note_of_uncollectible") or lacking in (
                [],
                [_SHORT["plan"]],
            )


def test_the_table_of_accounts_lists_what_is_booked_and_nothing_else() -> None:
    """Each account of the rules has a row, and each row a rule."""
    listed = {
        row[0].strip("`").replace("<provider>", "openai-eu") for row in rows("| account | holds |")
    }
    booked = {line.account for one in journal(samples.everything()) for line in one.lines}
    general = {re.sub(r"^income:(usage|plan):.*", r"income:\1:", name) for name in booked}
    assert general == {re.sub("<.*", "", name) for name in listed}


def test_an_invoice_takes_what_accrued_out_of_unbilled_to_the_last_digit() -> None:
    """Credit that burned too; what is due is billed, and rounding is the rest."""
    accrued: list[Fact] = [
        samples.used("tokens.input", "12.3456789"),
        samples.used("images", "0.0049"),
        samples.credit(CreditMove.BURNED, "3.00001"),
    ]
    bill = samples.invoice(
        [
            samples.usage_line("tokens.input", Decimal("12.3456789")),
            samples.usage_line("images", Decimal("0.0049")),
        ],
        credit="3.00001",
    )
    assert balances(journal(accrued))[UNBILLED] == Decimal("9.3505689")
    after = balances(journal([*accrued, *samples.history(samples.finalized(bill))]))
    assert UNBILLED not in after
    assert (after[BILLED], after[TAX]) == (Decimal("11.7"), Decimal("-2.35"))
    assert after[ROUNDING] == Decimal("0.0005689")


def test_payment_takes_what_credit_notes_left_and_a_void_takes_all_back() -> None:
    """Nothing is left of either."""
    bill = samples.invoice([samples.plan_line(LineKind.FEE, "100")])
    note = samples.credited(bill, "7", number="CN-1")
    paid = balances(
        journal(
            samples.history(samples.finalized(bill), note, samples.moved(bill, InvoiceStatus.PAID))
        )
    )
    assert BILLED not in paid
    assert paid[CASH] == Decimal(100)
    void = samples.history(samples.finalized(bill), samples.moved(bill, InvoiceStatus.VOID))
    assert balances(journal(void)) == {}


def test_an_uncollectible_invoice_is_written_off_and_may_be_paid_after_all() -> None:
    """A credit note between the two lessens the write-off, not what is owed."""
    bill = samples.invoice([samples.plan_line(LineKind.FEE, "100")])
    events = [samples.finalized(bill), samples.moved(bill, InvoiceStatus.UNCOLLECTIBLE)]
    off = balances(journal(samples.history(*events)))
    assert (off.get(BILLED), off[WRITE_OFFS]) == (None, Decimal(107))
    events += [
        samples.credited(bill, "7", number="CN-1"),
        samples.moved(bill, InvoiceStatus.PAID),
    ]
    after = balances(journal(samples.history(*events)))
    assert (after.get(BILLED), after.get(WRITE_OFFS), after[CASH]) == (None, None, Decimal(100))


def test_documents_are_booked_on_local_days() -> None:
    """An invoice issued at 23:30Z is of the next day in Berlin."""
    bill = samples.invoice([samples.plan_line(LineKind.FEE, "1")])
    [fact] = samples.history(samples.finalized(bill))
    assert fact.day == date(2026, 12, 3)
    [late] = journal([msgspec.structs.replace(fact, day=date(2026, 12, 4))])
    assert late.day == date(2026, 12, 4)
    assert late.name == "acme/EUR/2026-12-04/invoice_finalized/INV-000001"


def test_a_day_is_summed_and_a_document_stands_alone() -> None:
    """Names and external ids are the same whenever the journal is made again."""
    facts = [samples.used("tokens.input", "1"), samples.used("tokens.output", "2")]
    [one] = journal(facts)
    assert one.lines == (
        JournalLine(UNBILLED, Decimal(3)),
        JournalLine("income:usage:tokens", Decimal(-3)),
    )
    assert one.name == "acme/EUR/2026-11-05/usage_accrued"
    assert one.external_id == "tb6eae4fc9feef81a05b"
    assert journal(reversed(facts)) == [one]
    everything = journal(samples.everything())
    assert len({one.external_id for one in everything}) == len(everything)


def test_what_does_not_balance_is_no_booking() -> None:
    """Neither a lopsided rule nor an invoice whose prepaid credit has no days behind it."""
    lopsided = Drawn("t", "EUR", samples.DAY, Rule.USAGE_ACCRUED, [JournalLine(CASH, Decimal(1))])
    with pytest.raises(InvariantViolation, match="differ by 1"):
        bookings([lopsided])
    bill = samples.invoice([samples.plan_line(LineKind.FEE, "100")])
    broken = msgspec.structs.replace(bill, prepaid=Decimal(20), due=bill.due - 20)
    [fact] = samples.history(samples.finalized(bill))
    with pytest.raises(InvariantViolation, match="more than 2 roundings"):
        draw(msgspec.structs.replace(fact, invoice=broken))


def test_months_sum_days_and_minor_units_put_the_rest_on_rounding() -> None:
    """Thirty days of 0.003 are 0.09, not nothing."""
    days = [
        msgspec.structs.replace(samples.used("tokens.input", "0.003"), day=date(2026, 11, day))
        for day in range(1, 31)
    ]
    [month] = by_month(journal([*days, samples.used("images", "0.004")]))
    assert month.day == date(2026, 11, 30)
    rounded = in_minor_units(month)
    assert rounded is not None
    assert {line.account: line.amount for line in rounded.lines} == {
        UNBILLED: Decimal("0.09"),
        "income:usage:tokens": Decimal("-0.09"),
    }
    [two] = by_month(
        journal([samples.used("tokens.input", "0.005"), samples.used("images", "0.005")])
    )
    rounded = in_minor_units(two)
    assert rounded is not None
    assert {line.account: line.amount for line in rounded.lines} == {
        UNBILLED: Decimal("0.01"),
        ROUNDING: Decimal("-0.01"),
    }
    assert in_minor_units(journal([samples.used("images", "0.004")])[0]) is None


def test_names_of_accounts_are_plain() -> None:
    """Nothing that a provider is called can make an account of another shape."""
    assert account("expenses:provider-cost", 'A:B "c"\n') == "expenses:provider-cost:a-b-c"
    assert account("expenses:provider-cost", "漢字") == "expenses:provider-cost:other"


AMOUNTS = st.decimals(
    min_value=Decimal(-(10**6)), max_value=Decimal(10**6), places=18, allow_nan=False
)
METERS = st.sampled_from(["tokens.input", "tokens.output", "images", ""])
CREDITS = st.builds(
    CreditMoved,
    st.sampled_from(["acme", "blue"]),
    st.sampled_from(["EUR", "JPY"]),
    st.dates(date(2026, 11, 1), date(2026, 11, 3)),
    st.sampled_from(CreditMove),
    st.booleans(),
    AMOUNTS,
)


@settings(max_examples=60, deadline=None)
@given(
    usage=st.lists(st.tuples(METERS, AMOUNTS), min_size=1, max_size=8),
    burned=st.decimals(min_value=0, max_value=1000, places=18, allow_nan=False),
    fees=st.lists(st.decimals(min_value=0, max_value=1000, places=6, allow_nan=False), max_size=3),
    share=st.integers(0, 100),
    end=st.sampled_from(["", "paid", "void", "uncollectible"]),
    moves=st.lists(CREDITS, max_size=8),
)
def test_debits_are_credits_and_nothing_is_left_of_a_settled_invoice(
    usage: list[tuple[str, Decimal]],
    burned: Decimal,
    fees: list[Decimal],
    share: int,
    end: str,
    moves: list[CreditMoved],
) -> None:
    """By tenant, currency and day, whatever happens; unbilled is zero once all is billed."""
    bill = samples.invoice(
        [
            *(samples.usage_line(meter, amount) for meter, amount in usage),
            *(samples.plan_line(LineKind.FEE, str(fee)) for fee in fees),
        ],
        credit=str(burned),
    )
    events: list[object] = [samples.finalized(bill)]
    total = (bill.total * share / 100).quantize(Decimal("0.01"))
    if 0 < total <= bill.total and end != "void":
        events.append(samples.credited(bill, str(total), number="CN-1"))
    if end:
        events.append(samples.moved(bill, InvoiceStatus(end)))
    own: list[Fact] = [
        *(samples.used(meter, str(amount)) for meter, amount in usage),
        samples.credit(CreditMove.BURNED, str(burned)),
        *samples.history(*events),
    ]
    booked = journal([*own, *moves])
    sums: dict[tuple[str, str, date], Decimal] = defaultdict(Decimal)
    for one in booked:
        for line in one.lines:
            sums[one.tenant, one.currency, one.day] += line.amount
    assert not any(sums.values())
    for row in trial_balance(booked):
        assert row.debits >= 0 <= row.credits
    after = balances(journal(own))
    if end == "void":
        assert BILLED not in after
    else:
        assert UNBILLED not in after
        assert abs(after.get(ROUNDING, Decimal(0))) <= Decimal("0.005") * (len(usage) + 1)
    if end in ("paid", "uncollectible"):
        assert BILLED not in after
    for one in booked:
        rounded = in_minor_units(one)
        if rounded is not None:
            assert sum(line.amount for line in rounded.lines) == 0
