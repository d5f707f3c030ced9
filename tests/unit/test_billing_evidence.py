"""Evidence returns exactly the entries behind a line: their leaves sum to what the line bills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from fakes.billing_world import BillingWorld, Clock, list_prices, memory_world

from ledger.application.evidence import EvidenceReport, InvoiceEvidence
from ledger.domain.billing_evidence import postings_in
from ledger.domain.commands import RerateUsage
from ledger.domain.entries import ShapeDefined, UsageRecorded, decode_commit
from ledger.domain.errors import NotFound
from ledger.domain.holds import ReverseCharge
from ledger.domain.invoices import Invoice
from ledger.domain.protection_commands import GrantCredit, SetCreditPolicy
from ledger.domain.protection_entries import ChargeReversed
from ledger.projections.usage_daily import posting_leaves

UNIT = 10**18
CLOCK = Clock()
AT = "2026-11-{:02}T10:00:00Z"
READ: list[int] = []
"""Numbers of the commits that were read."""


@pytest.fixture
def world() -> Iterator[BillingWorld]:
    """Give a world in memory with one tenant."""
    CLOCK.set("2026-11-15")
    with memory_world(CLOCK) as made:
        made.publish()
        made.open("acme")
        yield made


def close(world: BillingWorld, day: str) -> Invoice:
    """Close a month; return its draft."""
    CLOCK.set(day)
    [(_, id)] = world.periods.close(by="ann").drafts
    return world.invoicing.invoice("acme", id).invoice


def evidence(world: BillingWorld) -> InvoiceEvidence:
    """Return what finds entries, over the log in memory."""
    store = world.memory
    assert store is not None

    def commits(*, tenant_id: int, after: int = 0) -> Iterator[Any]:
        for one in store.commits():
            if one.tenant_id == tenant_id and one.version > after:
                READ.append(one.version)
                yield [one]

    def shapes(tenant_id: int) -> dict[int, bytes]:
        entries = [
            entry
            for one in store.commits()
            if one.tenant_id == tenant_id
            for entry in decode_commit(one.state).entries
        ]
        return {one.number: one.body for one in entries if isinstance(one, ShapeDefined)}

    view: Any = nullcontext(SimpleNamespace(commits=commits, shapes=shapes))
    return InvoiceEvidence(world.store, world.plans, lambda: view)


def sums(report: EvidenceReport, meters: tuple[str, ...], version: str) -> tuple[Decimal, Decimal]:
    """Return quantity and charge of some meters, at one price or any, over a report's entries."""
    quantity = charge = Decimal(0)
    for one in report.entries:
        entry = one.entry
        if isinstance(entry, ChargeReversed):
            charge -= Decimal(entry.amount)
            continue
        postings = postings_in(entry)
        signs = (1,) if isinstance(entry, UsageRecorded) else (-1, 1)
        for sign, posting in zip(signs, postings, strict=False):
            shape = report.shapes[posting.shape]
            charges, _ = posting_leaves(shape, posting)
            for place, meter in enumerate(shape.meters):
                card = shape.shape.card
                priced = card.sell[place].version if card is not None and card.sell else ""
                if meter in meters and version in ("", priced):
                    quantity += sign * Decimal(posting.quantities[place]) * shape.quantity_factor
                    if charges:
                        charge += sign * Decimal(charges[place] * shape.charge_factor)
    return quantity / 10**6, charge / UNIT


def check_lines(found: InvoiceEvidence, invoice: Invoice) -> None:
    """Check that entries sum to each line's quantity, and at list prices to its amount."""
    for line in invoice.lines:
        report = found.entries("acme", invoice.id, line=line.number)
        assert report.chain_holds
        if line.evidence is None:
            assert not report.entries
            continue
        meter = line.description.partition(" (")[0].rsplit(" ", 1)[-1]
        meters = ("tokens.input", "tokens.output") if line.name else (meter,)
        quantity, charge = sums(report, meters, "" if line.name else line.price_version)
        assert quantity == line.quantity
        if not line.name:
            assert charge == line.unrounded


def test_entries_of_each_line_sum_to_it(world: BillingWorld) -> None:
    """Through voids, adjustments, other days, other models, the platform's calls and own keys."""
    use = world.use
    world.subscriptions.subscribe("acme", "team", from_day=CLOCK.at.date(), by="ann")
    use("acme", AT.format(3), tokens_input=100, tool_calls=7)
    use("acme", AT.format(16), tokens_input=2000, tool_calls=50)
    gone = use("acme", AT.format(17), tokens_output=300, tool_calls=5)
    world.void("acme", gone)
    own = {"quantities": {"tokens.input": 40, "tool.calls": 1}, "byok": True}
    world.event("acme", "own", AT.format(18), own)
    ours = {"quantities": {"tokens.input": 9000}, "billable": "platform"}
    world.event("acme", "ours", AT.format(18), ours)
    changed = {
        "specversion": "1.0",
        "type": "tallybook.usage.adjust.v2",
        "source": "gateway",
        "id": "fix",
        "subject": "acme",
        "data": {"id": "e2", "reason": "counted twice", "quantities": {"tokens.input": 1500}},
    }
    world.ledger.record([json.dumps(changed).encode()])
    use("acme", "2026-12-01T00:00:00Z", tool_calls=1000)
    invoice = close(world, "2026-12-04")
    assert [(one.name or one.description, one.quantity) for one in invoice.lines] == [
        ("openai chat tokens.input", 100),
        ("openai chat tool.calls", 7),
        ("base", None),
        ("tokens", 1540),
    ]
    found = evidence(world)
    check_lines(found, invoice)
    world.void("acme", "e1")
    use("acme", AT.format(20), tokens_input=60)
    late = close(world, "2027-01-04")
    assert [(one.name or one.description, one.quantity) for one in late.lines] == [
        ("base", None),
        ("openai chat tool.calls", 1000),
        ("tokens", 60),
        ("openai chat tokens.input (difference from what was billed before)", -100),
        ("openai chat tool.calls (difference from what was billed before)", -7),
    ]
    check_lines(found, late)
    with pytest.raises(NotFound) as caught:
        found.entries("acme", late.id, line=99)
    assert caught.value.code == "unknown_line"


def test_what_credit_paid_is_taken_off_and_given_back(world: BillingWorld) -> None:
    """By days of usage; after a void, what came back to the grant is owed again."""
    world.ledger.run([GrantCredit("acme", "g", 2 * UNIT, by="ann")])
    first = world.use("acme", AT.format(5), tool_calls=500)
    world.use("acme", AT.format(6), tool_calls=1000)
    invoice = close(world, "2026-12-04")
    assert (invoice.total, invoice.prepaid, invoice.due) == (Decimal("4.5"), 2, Decimal("2.5"))
    world.void("acme", first)
    world.use("acme", "2026-12-05T10:00:00Z", tool_calls=1000)
    later = close(world, "2027-01-04")
    # 3 for December, of which the grant's free 1.5 paid; -1.5 for November, which it paid before.
    assert [str(line.unrounded) for line in later.lines] == ["3", "-1.5"]
    assert [str(one.unrounded) for one in later.credits] == ["1.5", "-1.5"]
    assert (later.total, later.prepaid, later.due) == (Decimal("1.5"), 0, Decimal("1.5"))


def test_what_credit_still_owes_is_not_asked_for_by_an_invoice_too(world: BillingWorld) -> None:
    """Usage of 6 that nothing covered, 10 granted, usage of 3: the grant pays both."""
    world.ledger.run([SetCreditPolicy("acme", required=True, by="ann")])
    world.use("acme", AT.format(5), tool_calls=2000)
    owing = world.periods.preview("acme")
    assert owing is not None
    assert (owing.total, owing.prepaid, owing.due) == (6, 6, 0)
    world.ledger.run([GrantCredit("acme", "g", 10 * UNIT, by="ann")])
    world.use("acme", AT.format(6), tool_calls=1000)
    invoice = close(world, "2026-12-04")
    assert (invoice.total, invoice.prepaid, invoice.due) == (9, 9, 0)


def test_a_reversal_is_a_line_below_zero_at_list_prices_alone(world: BillingWorld) -> None:
    """What a plan may charge is given back by a correction or a credit note."""
    event = world.use("acme", AT.format(5), tool_calls=1000)
    back = ReverseCharge("acme", "r", "gateway", event, UNIT, "slow")
    [outcome] = world.ledger.run([back])
    assert outcome.status == "reversed", outcome
    invoice = close(world, "2026-12-04")
    assert [(one.kind.value, str(one.unrounded)) for one in invoice.lines] == [
        ("usage", "3"),
        ("reversal", "-1"),
    ]
    [entry] = evidence(world).entries("acme", invoice.id, line=2).entries
    assert isinstance(entry.entry, ChargeReversed)


def test_unpriced_usage_is_listed_and_billed_once_it_has_a_price(world: BillingWorld) -> None:
    """In the invoice after the price was approved, with its own days."""
    data = {"model": "new", "quantities": {"tool.calls": 400}}
    world.event("acme", "new-1", AT.format(5), data)
    world.use("acme", AT.format(6), tool_calls=1000)
    invoice = close(world, "2026-12-04")
    assert [(one.model, one.meter, one.quantity) for one in invoice.unpriced] == [
        ("new", "tool.calls", 400)
    ]
    assert invoice.total == 3
    assert world.prices is not None
    world.prices.change(list_prices("new"))
    world.ledger.run([RerateUsage("acme", "gateway", "new-1", "price_approved")])
    later = close(world, "2027-01-04")
    assert [(one.late, one.quantity, str(one.unrounded)) for one in later.lines] == [
        (True, 400, "1.2")
    ]
    assert later.unpriced == ()
    check_lines(evidence(world), later)


def test_a_page_reads_what_it_shows(world: BillingWorld) -> None:
    """All pages together are the whole, under one digest; only the first reads all of the log."""
    for day in range(1, 13):
        world.use("acme", AT.format(day), tokens_input=day, tool_calls=1)
    [line] = [one for one in close(world, "2026-12-04").lines if one.description.endswith("calls")]
    find, id = evidence(world), "2026-11-01"
    whole = find.entries("acme", id, line=line.number)
    assert len(whole.entries) == 12
    seen, after = [], None
    while True:
        READ.clear()
        report, following = find.page("acme", id, line=line.number, limit=5, after=after)
        assert (report.digest, report.chain_holds) == (whole.digest, True)
        assert len(READ) <= (len(report.entries) + 3 if after else 20)
        seen += report.entries
        if following is None:
            break
        after = following
    assert seen == list(whole.entries)
    assert READ[0] > 8
