"""Periods, their close, and invoices: one suite for the in-memory double and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
from fakes.billing_world import BillingWorld, Clock, memory_world, postgres_world
from fixtures_postgres import Run

from ledger.domain.billing_account import BillingDetails, DisplayRate
from ledger.domain.errors import InvariantViolation, LedgerError, Refused
from ledger.domain.invoice_parts import LineKind, Party, Tax, TaxCategory
from ledger.domain.invoices import Invoice, InvoiceStatus

NOVEMBER, DECEMBER = "2026-11-01", "2026-12-01"
CLOCK = Clock()


@pytest.fixture(scope="module", params=["memory", "postgres"])
def shared(request: pytest.FixtureRequest, postgres_run: Run) -> Iterator[BillingWorld]:
    """Give a world that the tests share, each with tenants of its own."""
    if request.param == "memory":
        with memory_world(CLOCK) as made:
            made.publish()
            yield made
        return
    with postgres_run.database(migrated=True) as url, postgres_world(CLOCK, url) as made:
        made.publish()
        yield made


@pytest.fixture
def world(shared: BillingWorld) -> BillingWorld:
    """Give the world in the middle of November."""
    CLOCK.set("2026-11-15")
    return shared


def close(world: BillingWorld, tenant: str, *, on: str) -> list[Invoice]:
    """Close what is due on a day and return the new drafts."""
    CLOCK.set(on)
    report = world.periods.close(by="ann", tenant=tenant)
    return [world.invoicing.invoice(tenant, id).invoice for _, id in report.drafts]


def shown(invoice: Invoice) -> list[tuple[str, str, str, bool]]:
    """Return kind, name or meter, unrounded amount and lateness of each line."""
    return [
        (
            line.kind.value,
            line.name or line.description.partition(" (")[0].removeprefix("openai chat "),
            str(line.unrounded),
            line.late,
        )
        for line in invoice.lines
    ]


def test_a_tenant_without_a_plan_is_billed_by_month_at_list_prices(world: BillingWorld) -> None:
    """Each price row is a line; a period closes when its grace is over, not before."""
    world.open("list")
    world.use("list", "2026-11-02T10:00:00Z", tokens_input=1_500, tool_calls=2)
    world.use("list", "2026-11-30T23:59:59Z", tokens_input=500)
    assert close(world, "list", on="2026-12-02") == []
    [invoice] = close(world, "list", on="2026-12-03")
    assert shown(invoice) == [
        ("usage", "tokens.input", "2", False),
        ("usage", "tool.calls", "0.006", False),
    ]
    first = invoice.lines[0]
    assert (first.quantity, first.billed, first.unit_price, first.unit_size, first.unit) == (
        2000,
        2000,
        1,
        1000,
        "token",
    )
    assert (first.price_version, invoice.total) == ("sell/chat@1.1", Decimal("2.01"))
    assert close(world, "list", on="2026-12-03") == []


def test_a_plan_change_in_mid_period_is_prorated_by_days(world: BillingWorld) -> None:
    """Fees and included units by days; usage by the version of its day; calls at list prices."""
    world.open("mid")
    world.publish(fees=[{"name": "base", "amount": "60"}])
    set_plan = world.subscriptions.subscribe
    set_plan("mid", "team", version=1, from_day=date(2026, 11, 1), by="ann")
    set_plan("mid", "team", from_day=date(2026, 11, 21), by="ann")
    world.use("mid", "2026-11-20T10:00:00Z", tokens_input=1000, tool_calls=1)
    world.use("mid", "2026-11-21T10:00:00Z", tokens_output=1000)
    preview = world.periods.preview("mid", day=date(2026, 11, 30))
    [invoice] = close(world, "mid", on="2026-12-03")
    assert shown(invoice) == [
        ("fee", "base", "20", False),
        ("charge", "tokens", "3.33333333", False),
        ("usage", "tool.calls", "0.003", False),
        ("fee", "base", "20", False),
        ("charge", "tokens", "6.66666667", False),
    ]
    assert preview is not None
    assert shown(preview) == shown(invoice)
    assert [(one.version, one.first_day.day) for one in invoice.plans] == [(1, 1), (2, 21)]
    assert invoice.lines[0].formula.startswith("30 x 20 / 30 = 20")
    with pytest.raises(LedgerError) as caught:
        set_plan("mid", "team", version=1, from_day=date(2026, 11, 30), by="ann")
    assert caught.value.code == "period_closed"


def test_a_charge_that_runs_anew_every_day_is_rated_by_day(world: BillingWorld) -> None:
    """The first ten calls of each local day are free; late usage of a day goes on with it."""
    world.open("daily", timezone="Pacific/Auckland")
    tiers = [{"up_to": "10", "rate": "0"}, {"rate": "1"}]
    charge = {"name": "calls", "meters": ["tool.calls"], "model": {"tiers": tiers}}
    world.publish(name="daily", fees=[], charges=[{**charge, "window": "day"}])
    world.subscriptions.subscribe("daily", "daily", from_day=date(2026, 11, 1), by="ann")
    # 11 h UTC is midnight there.
    for at in ("2026-11-05T10:59:00Z", "2026-11-05T11:00:00Z", "2026-11-06T10:59:00Z"):
        world.use("daily", at, tool_calls=8)
    [november] = close(world, "daily", on="2026-12-03")
    assert shown(november) == [("charge", "calls", "6", False)]
    world.use("daily", "2026-11-05T10:00:00Z", tool_calls=3)
    [december] = close(world, "daily", on="2027-01-03")
    assert shown(december) == [("charge", "calls", "1", True)]


def test_late_usage_and_voids_go_on_where_the_closed_period_stopped(world: BillingWorld) -> None:
    """On the next invoice, with days and tiers of their own: all together bill what one would."""
    world.open("late")
    world.subscriptions.subscribe("late", "team", version=1, from_day=date(2026, 11, 1), by="ann")
    kept = world.use("late", "2026-11-05T10:00:00Z", tokens_input=9_000, tool_calls=1000)
    [november] = close(world, "late", on="2026-12-03")
    assert shown(november)[1:] == [
        ("charge", "tokens", "80", False),
        ("usage", "tool.calls", "3", False),
    ]
    world.use("late", "2026-11-30T10:00:00Z", tokens_input=4_000)
    world.use("late", "2026-12-01T10:00:00Z", tool_calls=500)
    preview = world.periods.preview("late")
    [december] = close(world, "late", on="2027-01-03")
    assert shown(december) == [
        ("fee", "base", "30", False),
        ("usage", "tool.calls", "1.5", False),
        ("charge", "tokens", "30", True),
    ]
    assert preview is not None
    assert shown(preview) == shown(december)
    late = december.lines[2]
    assert (late.quantity, late.service.first_day) == (4_000, date(2026, 11, 1))
    assert late.formula == "110 - 80 billed before"
    assert december.lines[2].evidence is not None
    assert december.lines[2].evidence.query.after_commit == 2
    world.void("late", kept)
    [january] = close(world, "late", on="2027-02-03")
    assert shown(january)[1:] == [
        ("charge", "tokens", "-80", True),
        ("usage", "tool.calls", "-3", True),
    ]
    assert january.lines[2].quantity == -1000


def test_a_cycle_of_its_own_cuts_the_month_and_keeps_its_anchor(world: BillingWorld) -> None:
    """Anchored on day 31 in Auckland: the month ends where the subscription begins."""
    world.open("cycle", timezone="Pacific/Auckland")
    world.use("cycle", "2026-11-01T10:00:00Z", tool_calls=1000)
    world.subscriptions.subscribe(
        "cycle", "team", from_day=date(2026, 11, 30), anchor=date(2026, 10, 31), by="ann"
    )
    # 11 h UTC on the 29th is midnight of the 30th there.
    world.use("cycle", "2026-11-29T11:00:00Z", tool_calls=2000)
    world.use("cycle", "2026-11-29T10:59:59Z", tool_calls=3000)
    invoices = close(world, "cycle", on="2027-02-10")
    assert [(one.period.first_day, one.period.after_day) for one in invoices] == [
        (date(2026, 11, 1), date(2026, 11, 30)),
        (date(2026, 11, 30), date(2026, 12, 31)),
        (date(2026, 12, 31), date(2027, 1, 31)),
    ]
    assert [one.lines[-1].unrounded for one in invoices[:2]] == [12, 6]


def test_an_invoice_becomes_final_with_the_header_of_the_day_of_issue(world: BillingWorld) -> None:
    """Number, parties, taxes by rate, due day and digest; again it is the same."""
    world.open("final", timezone="America/Los_Angeles")
    world.subscriptions.subscribe("final", "team", version=1, from_day=date(2026, 11, 1), by="ann")
    world.use("final", "2026-11-05T10:00:00Z", tool_calls=1000)
    [draft] = close(world, "final", on="2026-12-04")
    world.invoicing.set_settings(
        BillingDetails(party=Party(name="Gateway Ltd"), payment_days=7), by="ann"
    )
    standard = Tax(category=TaxCategory.STANDARD, percent=Decimal(20))
    yen = DisplayRate(currency="JPY", rate=Decimal("162.345"), source="ECB 2026-12-03")
    details = BillingDetails(
        party=Party(name="Final Inc"), tax=standard, series="F", displays=(yen,)
    )
    world.subscriptions.set_details("final", details, by="ann")
    stored = world.invoicing.finalize("final", draft.id, by="ann")
    invoice = stored.invoice
    assert (invoice.number, invoice.due_on) == ("F-000001", date(2026, 12, 10))
    assert (invoice.net, invoice.tax, invoice.total) == (33, Decimal("6.6"), Decimal("39.6"))
    assert invoice.seller == Party(name="Gateway Ltd")
    assert [(one.currency, one.total) for one in invoice.displays] == [("JPY", 6429)]
    assert world.invoicing.finalize("final", draft.id, by="bob").invoice == invoice
    move = world.invoicing.move
    assert move("final", draft.id, status=InvoiceStatus.UNCOLLECTIBLE, by="ann").status == (
        InvoiceStatus.UNCOLLECTIBLE
    )
    assert move("final", draft.id, status=InvoiceStatus.PAID, by="ann").invoice == invoice
    with pytest.raises(LedgerError) as caught:
        move("final", draft.id, status=InvoiceStatus.VOID, by="ann")
    assert caught.value.code == "invalid_status"


def test_credit_notes_have_numbers_of_their_own_and_an_end(world: BillingWorld) -> None:
    """A part, then the rest; more is refused, and so is a void."""
    world.open("credited")
    world.use("credited", "2026-11-05T10:00:00Z", tool_calls=5000, tokens_input=1000)
    [draft] = close(world, "credited", on="2026-12-04")
    with pytest.raises(LedgerError) as caught:
        world.invoicing.credit("credited", draft.id, reason="r", by="ann")
    assert caught.value.code == "invalid_status"
    world.subscriptions.set_details("credited", BillingDetails(series="C"), by="ann")
    world.invoicing.finalize("credited", draft.id, by="ann")
    credit = world.invoicing.credit
    part = credit("credited", draft.id, reason="outage", total=Decimal("0.01"), by="ann").invoice
    rest = credit("credited", draft.id, reason="gone", by="ann").invoice
    assert (part.number, rest.number) == ("C-CN-000001", "C-CN-000002")
    assert (part.total, rest.total) == (Decimal("0.01"), Decimal("15.99"))
    for call in (
        lambda: credit("credited", draft.id, reason="r", total=Decimal("0.01"), by="ann"),
        lambda: world.invoicing.move("credited", draft.id, status=InvoiceStatus.VOID, by="ann"),
        lambda: world.invoicing.move("credited", part.id, status=InvoiceStatus.PAID, by="ann"),
    ):
        with pytest.raises(LedgerError):
            call()
    with pytest.raises(
        Refused, match=f"C-CN-000001 is a credit note itself.* {draft.id}"
    ) as refused:
        credit("credited", part.id, reason="r", by="ann")
    assert refused.value.code == "invalid_status"
    rows = world.invoicing.list(tenant="credited", cites=draft.id)
    assert [row.id for row in rows] == [part.id, rest.id]


def test_two_people_reopen_the_latest_period_and_its_draft_is_gone(world: BillingWorld) -> None:
    """One name twice is refused; then it is closed again as if it never had been."""
    world.open("again")
    world.use("again", "2026-11-05T10:00:00Z", tool_calls=1000)
    [draft] = close(world, "again", on="2026-12-04")
    reopen = world.periods.reopen
    day = date(2026, 11, 1)
    reopen("again", first_day=day, by="ann", reason="late import")
    with pytest.raises(LedgerError) as caught:
        reopen("again", first_day=day, by="ann", reason="late import")
    assert caught.value.code == "needs_another_approver"
    assert reopen("again", first_day=day, by="bob", reason="yes").state == "reopened"
    assert world.invoicing.list(tenant="again") == []
    # No job closes it before they have put right what they opened it for.
    assert world.periods.close(by="jobs", tenant="again", reopened=False).periods == 0
    world.use("again", "2026-11-06T10:00:00Z", tool_calls=1000)
    [second] = close(world, "again", on="2026-12-05")
    assert (second.id, second.net) == (draft.id, 6)
    assert second.lines[0].evidence is not None
    assert second.lines[0].evidence.query.after_commit == 0


def test_a_reopened_period_with_a_final_invoice_bills_the_difference(world: BillingWorld) -> None:
    """The final one stands; what a void one billed is billed again."""
    world.open("more")
    world.use("more", "2026-11-05T10:00:00Z", tool_calls=1000)
    day = date(2026, 11, 1)

    def again(on: str) -> list[Invoice]:
        for by in ("ann", "bob"):
            world.periods.reopen("more", first_day=day, by=by, reason="r")
        return close(world, "more", on=on)

    [first] = close(world, "more", on="2026-12-04")
    world.invoicing.finalize("more", first.id, by="ann")
    world.use("more", "2026-11-06T10:00:00Z", tool_calls=500)
    [second] = again("2026-12-05")
    assert (second.id, shown(second)) == (
        "2026-11-01.2",
        [("usage", "tool.calls", "1.5", False)],
    )
    world.invoicing.finalize("more", second.id, by="ann")
    # One after it is not void, so nothing would release what it billed.
    with pytest.raises(LedgerError) as caught:
        world.invoicing.move("more", first.id, status=InvoiceStatus.VOID, by="ann")
    assert caught.value.code == "later_invoices"
    for id in (second.id, first.id):
        world.invoicing.move("more", id, status=InvoiceStatus.VOID, by="ann")
    [third] = again("2026-12-06")
    assert (third.id, shown(third)) == ("2026-11-01.3", [("usage", "tool.calls", "4.5", False)])
    states = [(one.first_day.month, one.state) for one in world.periods.status("more")]
    assert states == [(11, "closed"), (12, "open")]


def test_a_plan_that_changes_in_a_reopened_period_is_billed_as_a_difference(
    world: BillingWorld,
) -> None:
    """What the final invoice billed is taken back, the new stretches are billed: together right."""
    world.open("swap")
    world.publish(fees=[{"name": "base", "amount": "60"}])
    day = date(2026, 11, 1)
    world.subscriptions.subscribe("swap", "team", version=1, from_day=day, by="ann")
    world.use("swap", "2026-11-25T10:00:00Z", tokens_input=3000)
    [first] = close(world, "swap", on="2026-12-04")
    world.invoicing.finalize("swap", first.id, by="ann")

    def reopen() -> None:
        for by in ("ann", "bob"):
            world.periods.reopen("swap", first_day=day, by=by, reason="wrong plan")

    reopen()
    assert [one.state for one in world.periods.status("swap")] == ["reopened"]
    world.subscriptions.subscribe("swap", "team", from_day=date(2026, 11, 21), by="ann")
    [second] = close(world, "swap", on="2026-12-05")
    assert shown(second) == [
        ("fee", "base", "20", False),
        ("fee", "base", "20", False),
        ("charge", "tokens", "26.66666667", False),
        ("fee", "base", "-30", False),
        ("charge", "tokens", "-20", False),
    ]
    new = second.lines[2].evidence
    assert new is not None
    assert new.query.after_commit == 0
    assert [one.state for one in world.periods.status("swap")] == ["closed", "open"]
    world.invoicing.finalize("swap", second.id, by="ann")
    reopen()
    assert close(world, "swap", on="2026-12-06") == []


def test_a_tenants_view_has_its_own_billing_alone(world: BillingWorld) -> None:
    """A foreign name is unknown, a listing of all is its own, and nothing can be changed."""
    world.open("mine", "theirs")
    for name in ("mine", "theirs"):
        world.subscriptions.subscribe(name, "team", version=1, from_day=date(2026, 11, 1), by="a")
        world.use(name, "2026-11-05T10:00:00Z", tool_calls=1000)
    [draft] = close(world, "theirs", on="2026-12-04")
    close(world, "mine", on="2026-12-04")
    world.use("mine", "2026-12-03T10:00:00Z", tool_calls=2000)
    invoicing = world.invoicing.for_tenant("mine")
    periods = world.periods.for_tenant("mine")
    subscriptions = world.subscriptions.for_tenant("mine")
    assert [row.tenant for row in invoicing.list()] == ["mine"]
    assert invoicing.invoice("mine", draft.id).invoice.tenant == "mine"
    assert [one.state for one in periods.status("mine")] == ["closed", "open"]
    preview = periods.preview("mine")
    assert preview is not None
    assert preview == world.periods.preview("mine")
    assert [line.unrounded for line in preview.lines] == [30, 6]
    assert subscriptions.show("mine").holdings[0].plan == "team"
    for foreign in (
        lambda: invoicing.invoice("theirs", draft.id),
        lambda: invoicing.list(tenant="theirs"),
        lambda: periods.status("theirs"),
        lambda: periods.preview("theirs"),
        lambda: subscriptions.show("theirs"),
    ):
        with pytest.raises(LedgerError) as caught:
            foreign()
        assert caught.value.code == "unknown_tenant"
    with pytest.raises(InvariantViolation):
        subscriptions.end("mine", by="ann")


def test_numbers_are_gapless_and_all_final_invoices_have_one(world: BillingWorld) -> None:
    """Over all tenants, whatever was refused on the way."""
    world.open("numbered")
    world.subscriptions.set_details("numbered", BillingDetails(series="N"), by="ann")
    world.use("numbered", "2026-11-05T10:00:00Z", tool_calls=5000)
    [draft] = close(world, "numbered", on="2026-12-04")
    world.use("numbered", "2026-12-05T10:00:00Z", tool_calls=5000)
    world.invoicing.finalize("numbered", draft.id, by="ann")
    world.invoicing.credit("numbered", draft.id, reason="r", by="ann")
    CLOCK.set("2027-03-10")
    world.periods.close(by="ann")
    assert world.invoicing.finalize_all(by="ann") > 0
    assert world.invoicing.finalize_all(by="ann") == 0
    reports = world.invoicing.series()
    assert {one.series for one in reports} >= {"N", "N-CN"}
    assert all(not one.missing for one in reports)
    assert all(row.status is not InvoiceStatus.DRAFT for row in world.invoicing.list())


def test_drafts_of_all_tenants_are_the_unbilled_charges(world: BillingWorld) -> None:
    """At list prices their unrounded lines sum to the ledger's charges."""
    names = ("sum-a", "sum-b")
    world.open(*names)
    for place, name in enumerate(names, start=1):
        for day in range(1, 20):
            at = f"2026-11-{day:02}T10:00:00Z"
            world.use(name, at, tokens_input=day * 7 * place, tokens_output=day, tool_calls=place)
    drafts = [world.periods.preview(name) for name in names]
    drawn = [line.unrounded for one in drafts if one is not None for line in one.lines]
    kinds = {line.kind for one in drafts if one is not None for line in one.lines}
    days = sum(range(1, 20))
    input_, output, calls = days * 7 * 3, days * 2, 19 * 3
    assert kinds == {LineKind.USAGE}
    assert sum(drawn) == Decimal(input_ * 1 + output * 2 + calls * 3) / 1000


def test_a_preview_is_of_a_day_whose_period_the_calendar_holds(world: BillingWorld) -> None:
    """The refusal names the day, and a day before what is closed is not said to be closed."""
    world.open("far")
    with pytest.raises(LedgerError, match="9999-12-31 is too far off") as caught:
        world.periods.preview("far", day=date(9999, 12, 31))
    assert caught.value.code == "invalid_period"
    world.use("far", "2026-11-05T10:00:00Z", tool_calls=5)
    close(world, "far", on="2026-12-04")
    with pytest.raises(Refused, match="0001-01-01 is before 2026-12-01") as refused:
        world.periods.preview("far", day=date(1, 1, 1))
    assert refused.value.code == "period_closed"


def test_a_late_line_says_the_difference_and_how_the_whole_came_about(world: BillingWorld) -> None:
    """A customer can check both: what is owed now, and what was billed before."""
    world.open("true")
    world.publish(name="promise", commitment={"amount": "90"}, fees=[])
    world.subscriptions.subscribe("true", "promise", from_day=date(2026, 11, 1), by="ann")
    world.use("true", "2026-11-05T10:00:00Z", tokens_input=2000)
    [first] = close(world, "true", on="2026-12-04")
    [line] = [one for one in first.lines if one.kind == "true_up"]
    assert line.formula == "commitment 90 - charges 10 = 80"
    world.use("true", "2026-11-06T10:00:00Z", tokens_input=1000)
    [second] = close(world, "true", on="2027-01-04")
    [late] = [one for one in second.lines if one.kind == "true_up" and one.late]
    assert late.amount == -10
    assert late.formula == "70 - 80 billed before; commitment 90 - charges 20 = 70"
