"""All invoices of a period together bill what one would have, whatever came when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.billing_account import BillingAccount, BillingDetails, Close
from ledger.domain.billing_calendar import Holding, Segment, Span, span_on, stretches_of
from ledger.domain.billing_differences import billed_lines, less_billed
from ledger.domain.billing_drafts import Cut, Owed, Place, draft_of
from ledger.domain.billing_periods import BillingCycle, CycleUnit
from ledger.domain.billing_rating import UsageRow, rate_span, rows_at_list_prices
from ledger.domain.charge_models import ChargeModel
from ledger.domain.invoices import Invoice, check, finalize
from ledger.domain.journal import BILLED, UNBILLED, trial_balance
from ledger.domain.journal_facts import DocumentMove, DocumentMoved, Fact, UsageAccrued
from ledger.domain.journal_rules import journal
from ledger.domain.plans import Plan, PlanCharge, PlanFee
from ledger.domain.tiers import Tier, TierMode

PLACE = Place(1, "acme", "EUR", "Pacific/Auckland")
FIRST = date(2027, 1, 31)
CYCLE = BillingCycle(anchor=FIRST, timezone=PLACE.timezone)
ISSUED = datetime(2027, 3, 2, tzinfo=UTC)
CUT = Cut(1, 1, b"\x01")
SIZES = st.integers(1, 12)
RATES = st.integers(0, 40).map(lambda cents: Decimal(cents) / 100)


@st.composite
def tier_tables(draw: st.DrawFn) -> tuple[Tier, ...]:
    """Return one to four tiers with rates and fees."""
    ends, end = [], Decimal(0)
    for size in draw(st.lists(SIZES, max_size=3)):
        end += size
        ends.append(end)
    return tuple(
        Tier(up_to=up_to, rate=draw(RATES), flat=draw(st.none() | RATES)) for up_to in (*ends, None)
    )


@st.composite
def plans(draw: st.DrawFn, name: str) -> Plan:
    """Return a plan with a charge over tokens; calls are at list prices."""
    model = ChargeModel(tiers=draw(tier_tables()), mode=draw(st.sampled_from(TierMode)))
    charge = PlanCharge(
        name="tokens", meters=("tokens.*",), model=model, included=Decimal(draw(st.integers(0, 9)))
    )
    return Plan(
        name=name,
        currency="EUR",
        cycle=CYCLE,
        charges=(charge,),
        fees=(PlanFee(name="base", amount=draw(RATES)),),
        min_amount=draw(st.none() | RATES),
    )


def row(day: int, meter: str, quantity: int) -> UsageRow:
    """Return a rollup's row at a list price of 0.001."""
    calls = meter == "tool.calls"
    rate = Decimal("0.001")
    return UsageRow(
        FIRST + timedelta(days=day),
        "openai",
        "chat",
        meter,
        False,
        False,
        "default/openai@1.0" if calls else "",
        rate if calls else Decimal(0),
        Decimal(quantity),
        quantity * rate if calls else Decimal(0),
        Decimal(0),
        Decimal(0),
    )


CHANGES = st.tuples(
    st.integers(0, 27),
    st.sampled_from(["tokens.input", "tokens.output", "tool.calls"]),
    st.integers(1, 30),
)


@settings(max_examples=150, deadline=None)
@given(
    both=st.tuples(plans("one"), plans("two")),
    change_on=st.integers(0, 28),
    batches=st.lists(st.lists(CHANGES, max_size=5), min_size=1, max_size=4),
)
def test_invoices_of_a_period_sum_to_what_one_would_bill(
    both: tuple[Plan, Plan], change_on: int, batches: list[list[tuple[int, str, int]]]
) -> None:
    """Usage comes in batches with an invoice after each; a change of plan lies in between."""
    span = span_on(FIRST, timezone=PLACE.timezone, segments=[Segment(FIRST, CYCLE)])
    holdings = (Holding(FIRST, "one", 1), Holding(FIRST + timedelta(days=change_on), "two", 1))
    stretches = stretches_of(span, holdings)
    known = {("one", 1): both[0], ("two", 1): both[1]}
    account = BillingAccount(holdings=holdings)
    rows: list[UsageRow] = []
    invoices: list[Invoice] = []
    for number, batch in enumerate(batches):
        rows += [row(*change) for change in batch]
        rated = rate_span(span, stretches, rows, plans=known, unit_size=lambda version: Decimal(1))
        billed, _ = billed_lines(invoices, span)
        owed = Owed(span, less_billed(rated.lines, billed), Decimal(0), ())
        draft = draft_of(
            account,
            PLACE,
            span,
            [owed],
            id=str(number),
            cut=CUT,
            stretches=stretches,
            platform=BillingDetails(),
        )
        if draft is not None:
            check(draft)
            assert sum(line.amount for line in draft.lines) == draft.net == draft.total
            invoices.append(draft)
        drawn = sum(line.unrounded for one in invoices for line in one.lines)
        assert drawn == sum(line.unrounded for line in rated.lines)
        calls = sum(one.quantity for one in rows if one.meter == "tool.calls")
        listed = [line for one in invoices for line in one.lines if line.kind == "usage"]
        assert sum(line.unrounded for line in listed) == calls * Decimal("0.001")
        assert sum(line.billed or 0 for line in listed) == calls
    own = rows_at_list_prices(stretches, rows, plans=known)
    facts: list[Fact] = [
        UsageAccrued(PLACE.tenant, PLACE.currency, one.day, one.meter, one.charge) for one in own
    ]
    for one in invoices:
        final = finalize(one, series="A", number=f"A-{one.id}", issued_at=ISSUED)
        facts.append(DocumentMoved(span.after_day, DocumentMove.FINALIZED, final, final.due))
    books = {one.account: one.balance for one in trial_balance(journal(facts))}
    # What accrued day by day is billed to its last digit, late or not, and by no plan.
    assert books.get(UNBILLED, 0) == 0
    assert books.get(BILLED, 0) == sum(one.due for one in invoices)


@settings(max_examples=150, deadline=None)
@given(tiers=tier_tables(), quantity=st.integers(0, 40), free=st.integers(0, 9))
def test_a_charge_on_an_invoice_is_what_counting_unit_by_unit_gives(
    tiers: tuple[Tier, ...], quantity: int, free: int
) -> None:
    """Graduated tiers; the slow, obvious way."""
    charge = PlanCharge(
        name="tokens",
        meters=("tokens.*",),
        model=ChargeModel(tiers=tiers),
        included=Decimal(free),
    )
    plan = Plan(name="one", currency="EUR", cycle=CYCLE, charges=(charge,))
    span = span_on(FIRST, timezone=PLACE.timezone, segments=[Segment(FIRST, CYCLE)])
    rows = [row(day, "tokens.input", 1) for day in [unit % 28 for unit in range(quantity)]]
    rated = rate_span(
        span,
        stretches_of(span, [Holding(FIRST, "one", 1)]),
        rows,
        plans={("one", 1): plan},
        unit_size=lambda version: Decimal(1),
    )
    # The first tier's fee is due without any use; each other one's with its first unit.
    owed = tiers[0].flat or Decimal(0)
    place, used = 0, Decimal(0)
    for _ in range(max(quantity - free, 0)):
        while tiers[place].up_to is not None and used >= tiers[place].up_to:
            place += 1
            owed += tiers[place].flat or Decimal(0)
        owed += tiers[place].rate or Decimal(0)
        used += 1
    assert sum(line.unrounded for line in rated.lines) == owed


@settings(max_examples=100, deadline=None)
@given(
    anchor=st.dates(date(2026, 1, 1), date(2028, 12, 31)),
    joins=st.lists(st.integers(0, 500), min_size=1, max_size=4, unique=True),
    unit=st.sampled_from([CycleUnit.MONTH, CycleUnit.WEEK, CycleUnit.YEAR]),
    timezone=st.sampled_from(["Pacific/Auckland", "America/Los_Angeles", "UTC"]),
)
def test_spans_cover_every_day_once(
    anchor: date, joins: list[int], unit: CycleUnit, timezone: str
) -> None:
    """Through changes of cycle, month ends, leap days and changes of clocks."""
    start = date(2027, 6, 1)
    cycle = BillingCycle(anchor=anchor, timezone=timezone, unit=unit)
    segments = [
        Segment(start + timedelta(days=days), cycle if number % 2 == 0 else CYCLE)
        for number, days in enumerate(sorted(joins))
    ]
    day, seen = start, list[Span]()
    while day < date(2029, 1, 1):
        span = span_on(day, timezone=timezone, segments=segments)
        assert span.first_day <= day < span.after_day
        assert not seen or span.first_day == day
        assert span.period.first_day <= span.first_day < span.after_day <= span.period.after_day
        seen.append(span)
        day = span.after_day


def test_a_close_that_counts_moves_the_first_day_to_bill() -> None:
    """Reopened, it moves back."""
    close = Close(FIRST, date(2027, 2, 28), "", 1, 1)
    account = BillingAccount(closes=(close,))
    assert account.begins_on(None) == date(2027, 2, 28)
    reopened = Close(FIRST, date(2027, 2, 28), "x", 1, 1, True)
    assert BillingAccount(closes=(reopened,)).begins_on(None) == FIRST
