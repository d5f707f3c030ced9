"""What people take back of billing: void invoices and periods that two of them reopen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
from fakes.billing_world import METERS, BillingWorld, Clock, memory_world

from ledger.application.billing_close import Periods
from ledger.application.billing_rates import Rates
from ledger.domain.billing_account import BillingDetails
from ledger.domain.errors import InvalidInput, LedgerError, Refused
from ledger.domain.invoices import Invoice, InvoiceStatus

NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)
CLOCK = Clock()


@pytest.fixture
def world() -> Iterator[BillingWorld]:
    """Give a tenant with 3 EUR of usage in November and 6 EUR in December."""
    CLOCK.set("2026-11-15")
    with memory_world(CLOCK) as made:
        made.open("acme")
        made.use("acme", "2026-11-05T10:00:00Z", tool_calls=1000)
        made.use("acme", "2026-12-05T10:00:00Z", tool_calls=2000)
        yield made


def closed(world: BillingWorld, on: str) -> list[Invoice]:
    """Close what is due on a day and return the new drafts."""
    CLOCK.set(on)
    report = world.periods.close(by="ann", tenant="acme")
    return [world.invoicing.invoice("acme", id).invoice for _, id in report.drafts]


def reopen(world: BillingWorld, day: date) -> str:
    """Let two people reopen a period and return its state."""
    world.periods.reopen("acme", first_day=day, by="ann", reason="r")
    return world.periods.reopen("acme", first_day=day, by="bob", reason="r").state


def void(world: BillingWorld, invoice: Invoice) -> None:
    """Void an invoice."""
    world.invoicing.move("acme", invoice.id, status=InvoiceStatus.VOID, by="ann")


def test_an_earlier_invoice_is_void_after_later_ones_and_all_is_billed_anew(
    world: BillingWorld,
) -> None:
    """While a later one stands the refusal says what to do; done so, no money is lost."""
    november, december = closed(world, "2027-01-04")
    world.invoicing.finalize("acme", november.id, by="ann")
    for status, advice in (
        ("draft", "reopen the period from 2026-12-01 on"),
        ("finalized", "void"),
    ):
        with pytest.raises(Refused, match=rf"is {status}.*; {advice}") as caught:
            void(world, november)
        assert caught.value.code == "later_invoices"
        world.invoicing.finalize("acme", december.id, by="ann")
    for invoice in (december, november):
        void(world, invoice)
    for day in (DECEMBER, NOVEMBER):
        reopen(world, day)
    assert [one.net for one in closed(world, "2027-01-05")] == [3, 6]


def test_where_a_later_invoice_is_paid_an_earlier_one_is_credited(world: BillingWorld) -> None:
    """It cannot be void any more; the advice is the one thing that is possible."""
    november, december = closed(world, "2027-01-04")
    world.invoicing.finalize_all(by="ann", tenant="acme")
    world.invoicing.move("acme", december.id, status=InvoiceStatus.PAID, by="ann")
    with pytest.raises(Refused, match=r"is paid.*; credit 2026-11-01 instead"):
        void(world, november)
    note = world.invoicing.credit("acme", november.id, reason="wrong", by="ann").invoice
    assert note.total == Decimal(3)


def test_no_series_of_invoices_is_one_of_credit_notes(world: BillingWorld) -> None:
    """Else one number could be an invoice's or a note's; of a tenant and of the platform."""
    series = BillingDetails(series="INV-CN")
    for change in (
        lambda: world.subscriptions.set_details("acme", series, by="ann"),
        lambda: world.invoicing.set_settings(series, by="ann"),
    ):
        with pytest.raises(InvalidInput, match="credit") as caught:
            change()
        assert (caught.value.code, caught.value.pointer) == ("invalid_series", "/series")
    world.invoicing.set_settings(BillingDetails(series="CN"), by="ann")


def test_one_name_written_otherwise_is_one_approver(world: BillingWorld) -> None:
    """Case, space around and width of letters tell no people apart."""
    closed(world, "2026-12-04")
    world.periods.reopen("acme", first_day=NOVEMBER, by="ann", reason="r")
    for by in ("ANN", " ann ", "\uff41nn"):
        with pytest.raises(Refused) as caught:
            world.periods.reopen("acme", first_day=NOVEMBER, by=by, reason="r")
        assert caught.value.code == "needs_another_approver"


def test_two_names_of_one_line_are_one_approver() -> None:
    """In either order; either name may repeat what both approved, and nobody else."""
    lines = {"old": "first", "new": "first"}

    def rows(*names: str) -> list[str]:
        CLOCK.set("2026-11-15")
        answers = []
        with memory_world(CLOCK) as world:
            world.open("acme")
            world.use("acme", "2026-11-05T10:00:00Z", tool_calls=1000)
            closed(world, "2026-12-04")
            made = Periods(
                world.store,
                Rates(world.store, world.plans, lambda version: Decimal(1000)),
                world.catch_up,
                lambda who: lines.get(who, who),
            )
            for by in names:
                try:
                    state = made.reopen("acme", first_day=NOVEMBER, by=by, reason="r").state
                    answers.append(state.value)
                except LedgerError as error:
                    answers.append(error.code)
        return answers

    refused = "needs_another_approver"
    assert rows("old", "new", "bob") == ["closed", refused, "reopened"]
    assert rows("new", "old", "first", "bob") == ["closed", refused, refused, "reopened"]
    assert rows("bob", "old", "new", "bob") == ["closed", "reopened", "reopened", "reopened"]
    assert rows("bob", "old", "eve") == ["closed", "reopened", "unknown_period"]


def test_a_reopened_period_says_so_in_one_row(world: BillingWorld) -> None:
    """With a void invoice, with several, with none, and until it is closed again."""

    def rows() -> list[tuple[int, str, str]]:
        return [
            (one.first_day.month, one.state, one.invoice) for one in world.periods.status("acme")
        ]

    [first] = closed(world, "2026-12-04")
    assert reopen(world, NOVEMBER) == "reopened"
    assert rows() == [(11, "reopened", "")]
    closed(world, "2026-12-05")
    world.invoicing.finalize("acme", first.id, by="ann")
    assert reopen(world, NOVEMBER) == "reopened"
    assert rows() == [(11, "reopened", first.id)]
    world.use("acme", "2026-11-06T10:00:00Z", tool_calls=1000)
    [second] = closed(world, "2026-12-06")
    assert rows() == [(11, "closed", second.id), (12, "open", "")]
    world.invoicing.finalize("acme", second.id, by="ann")
    assert reopen(world, NOVEMBER) == "reopened"
    assert rows() == [(11, "reopened", second.id)]
    closed(world, "2026-12-07")
    for invoice in (second, first):
        void(world, invoice)
    assert reopen(world, NOVEMBER) == "reopened"
    assert rows() == [(11, "reopened", "")]


def test_a_line_that_corrects_an_invoice_names_it(world: BillingWorld) -> None:
    """A final invoice by its number, a draft without; a position that is new names none."""

    def said(invoice: Invoice) -> list[tuple[str, Decimal]]:
        return [(one.description, one.amount) for one in invoice.lines]

    kept = world.use("acme", "2026-11-06T10:00:00Z", tokens_input=1000)
    [first] = closed(world, "2026-12-04")
    world.void("acme", kept)
    world.use("acme", "2026-11-07T10:00:00Z", tokens_output=1000)
    preview = world.periods.preview("acme", day=DECEMBER)
    assert preview is not None
    calls, output, input_ = (f"openai chat {one}" for one in METERS[::-1])
    before = "(difference from what was billed before)"
    assert said(preview) == [(calls, 6), (output, 2), (f"{input_} {before}", -1)]
    world.invoicing.finalize("acme", first.id, by="ann")
    [second] = closed(world, "2027-01-04")
    assert said(second)[1:] == [(output, 2), (f"{input_} (difference from INV-000001)", -1)]
    world.invoicing.finalize("acme", second.id, by="ann")
    world.use("acme", "2026-11-08T10:00:00Z", tokens_input=4000)
    [third] = closed(world, "2027-02-04")
    both = f"{input_} (difference from INV-000001, INV-000002)"
    assert said(third) == [(both, 4)]
