"""Billing accounts and plans: one suite for the in-memory double and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest
from fakes.billing_world import BillingWorld, Clock, memory_world, postgres_world
from fixtures_postgres import Run

from ledger.application.billing_ports import AccountChanged, AccountSave, UsageQuestion
from ledger.application.documents.plans import details_from_json, subscription_document
from ledger.domain.billing_account import (
    AccountCommit,
    BillingAccount,
    BillingDetails,
    DetailsSet,
    evolve,
)
from ledger.domain.billing_calendar import Holding
from ledger.domain.errors import InvalidInput, LedgerError, NotFound, Refused
from ledger.domain.invoice_parts import Party


@pytest.fixture(scope="module")
def clock() -> Clock:
    """Give the clock of all worlds of this module."""
    return Clock()


@pytest.fixture(scope="module", params=["memory", "postgres"])
def world(
    request: pytest.FixtureRequest, postgres_run: Run, clock: Clock
) -> Iterator[BillingWorld]:
    """Give a world that the tests share, each with tenants of its own."""
    if request.param == "memory":
        with memory_world(clock) as made:
            made.publish()
            yield made
        return
    with postgres_run.database(migrated=True) as url, postgres_world(clock, url) as made:
        made.publish()
        yield made


def test_a_plan_has_versions_that_stay(world: BillingWorld) -> None:
    """The same content is no new version; what was published can be had for good."""
    world.publish(name="pro")
    world.publish(name="pro")
    world.publish(name="pro", fees=[{"name": "base", "amount": "40"}])
    assert [world.plans.plan("pro", version=n).plan.fees[0].amount for n in (1, 2)] == [30, 40]
    assert world.plans.plan("pro").latest == 2
    assert [view.name for view in world.plans.list()] == ["pro", "team"]
    with pytest.raises(NotFound) as caught:
        world.plans.plan("pro", version=3)
    assert caught.value.code == "unknown_plan_version"


def test_a_retired_plan_is_kept_by_those_who_have_it(world: BillingWorld) -> None:
    """Nobody else gets it until it is published again."""
    world.open("kept", "late")
    world.publish(name="old")
    world.subscriptions.subscribe("kept", "old", by="ann")
    world.plans.retire("old", by="ann")
    assert world.subscriptions.subscribe("kept", "old", by="ann").holdings[0].plan == "old"
    with pytest.raises(Refused) as caught:
        world.subscriptions.subscribe("late", "old", by="ann")
    assert caught.value.code == "plan_retired"
    world.publish(name="old")
    assert world.subscriptions.subscribe("late", "old", by="ann").holdings


def test_a_subscription_changes_by_day_and_keeps_its_cycle(world: BillingWorld) -> None:
    """A later version, then list prices; the same command again changes nothing."""
    world.open("acme", timezone="Pacific/Auckland")
    world.publish(fees=[{"name": "base", "amount": "60"}])
    set_plan = world.subscriptions.subscribe
    set_plan("acme", "team", version=1, from_day=date(2026, 11, 1), by="ann")
    set_plan("acme", "team", from_day=date(2026, 11, 20), by="ann")
    set_plan("acme", "team", from_day=date(2026, 11, 20), by="ann")
    view = world.subscriptions.end("acme", from_day=date(2026, 12, 10), by="ann")
    assert list(view.holdings) == [
        Holding(date(2026, 11, 1), "team", 1),
        Holding(date(2026, 11, 20), "team", 2),
        Holding(date(2026, 12, 10)),
    ]
    # Months from the 1st are those that the tenant had before.
    assert view.segments == ()
    view = set_plan("acme", "team", from_day=date(2026, 12, 15), anchor=date(2026, 8, 31), by="ann")
    [segment] = view.segments
    assert (segment.cycle.timezone, segment.cycle.anchor) == (
        "Pacific/Auckland",
        date(2026, 8, 31),
    )
    # The last day of February is a boundary of both, but no other one is.
    view = set_plan("acme", "team", from_day=date(2026, 12, 15), anchor=date(2027, 2, 28), by="ann")
    assert [one.cycle.anchor for one in view.segments] == [date(2027, 2, 28)]
    place = world.store.place("acme")
    account = world.store.accounts([place.tenant_id])[place.tenant_id]
    folded = BillingAccount()
    for commit in world.store.history(place.tenant_id):
        folded = evolve(folded, commit)
    assert (account.version, account) == (5, folded)


@pytest.mark.parametrize(
    ("plan", "day", "code"),
    [
        ("dollars", "2026-11-20", "plan_currency_differs"),
        ("hourly", "2026-11-20", "window_not_billable"),
        ("team", "2026-11-19", "later_subscription"),
        ("nothing", "2026-11-20", "unknown_plan"),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(
    world: BillingWorld, plan: str, day: str, code: str
) -> None:
    """With the reason."""
    tenant = f"{plan}-subscriber"
    world.open(tenant)
    world.publish(name="dollars", currency="USD")
    model = {"tiers": [{"rate": "1"}], "min_amount": "5"}
    hourly = {"name": "c", "meters": ["tool.calls"], "model": model}
    world.publish(name="hourly", charges=[{**hourly, "window": "hour"}])
    world.subscriptions.subscribe(tenant, "team", from_day=date(2026, 11, 20), by="ann")
    with pytest.raises(LedgerError) as caught:
        world.subscriptions.subscribe(tenant, plan, from_day=date.fromisoformat(day), by="ann")
    assert caught.value.code == code


def test_details_are_kept_and_checked(world: BillingWorld) -> None:
    """Who buys; payment within a year."""
    world.open("buyer")
    details = BillingDetails(party=Party(name="Buyer Ltd"), payment_days=30)
    assert world.subscriptions.set_details("buyer", details, by="ann").details == details
    for document, code in (
        ('{"payment_days": 366}', "invalid_payment_days"),
        ('{"series": "no spaces"}', "invalid_series"),
        ('{"series": "INV-CN"}', "invalid_series"),
        ('{"tax": {"category": "S", "percent": "100.5"}}', "invalid_tax_rate"),
        ('{"displays": [{"currency": "EUX", "rate": "1"}]}', "unknown_currency"),
        ('{"displays": [{"currency": "USD", "rate": "0"}]}', "invalid_rate"),
        ('{"buyer": {}}', "invalid_details"),
        ('{"party": {"country": "DE"}}', "invalid_details"),
        ('{"party": {"name": "Buyer", "country": "Germany"}}', "invalid_details"),
    ):
        with pytest.raises(InvalidInput) as caught:
            world.subscriptions.set_details("buyer", details_from_json(document), by="ann")
        assert caught.value.code == code
    assert world.subscriptions.show("buyer").details == details


def test_a_tax_for_what_no_plan_has_is_told(world: BillingWorld) -> None:
    """It may be a slip or of a plan to come: kept, named, and known once the plan is there."""
    world.open("slip")
    details = details_from_json(
        '{"line_taxes": {"base": {"category": "E"}, "bsae": {"category": "E"}}}'
    )
    assert world.subscriptions.set_details("slip", details, by="ann").unknown_taxes == [
        "base",
        "bsae",
    ]
    world.publish()
    world.subscriptions.subscribe("slip", "team", from_day=date(2026, 11, 1), by="ann")
    view = world.subscriptions.show("slip")
    assert (view.unknown_taxes, view.details) == (["bsae"], details)
    assert subscription_document(view)["unknown_taxes"] == ["bsae"]


def test_of_two_commits_upon_one_version_one_is_refused(world: BillingWorld) -> None:
    """Nothing of the other is saved, and a number that it took is free again."""
    world.open("twice")
    place = world.store.place("twice")
    commit = AccountCommit(1, "ann", (DetailsSet(BillingDetails(series="X")),))
    save = AccountSave(place.tenant_id, evolve(BillingAccount(), commit), commit)
    world.store.save([save])
    with pytest.raises(AccountChanged):
        world.store.save([save])
    with pytest.raises(AccountChanged):
        world.store.save_numbered({"T": 3}, lambda firsts: [save])
    seen: list[int] = []
    world.store.save_numbered({"T": 2}, lambda firsts: seen.append(firsts["T"]) or [])  # type: ignore[func-returns-value]
    world.store.save_numbered({"T": 1}, lambda firsts: seen.append(firsts["T"]) or [])  # type: ignore[func-returns-value]
    assert seen == [1, 3]
    assert world.store.last_numbers()["T"] == 3
    assert len(list(world.store.history(place.tenant_id))) == 1


def test_rollups_hold_what_invoices_are_rated_from(world: BillingWorld) -> None:
    """By price row and payer, with the day's changes and the ledger's last commit."""
    world.open("rolled")
    place = world.store.place("rolled")
    world.use("rolled", "2026-11-02T10:00:00Z", tokens_input=1500, tool_calls=2)
    own = {"quantities": {"tokens.input": 7}, "byok": True}
    world.event("rolled", "own", "2026-11-02T10:00:00Z", own)
    ours = {"quantities": {"tokens.input": 9}, "billable": "platform"}
    world.event("rolled", "ours", "2026-11-02T10:00:00Z", ours)
    taken = world.use("rolled", "2026-11-03T10:00:00Z", tokens_output=40)
    world.void("rolled", taken)
    world.catch_up()
    asked = UsageQuestion(place.tenant_id, date(2026, 11, 1), date(2026, 12, 1), True)
    with world.store.snapshot() as usage:
        rows, sums = usage.rows([asked, asked._replace(daily=False)])
        cut = usage.cuts([place.tenant_id])[place.tenant_id]
        assert usage.first_days([place.tenant_id]) == {place.tenant_id: date(2026, 11, 2)}
        both = [date(2026, 11, 2), date(2026, 11, 3)]
        for position, days in ((0, both), (cut.position, [])):
            changed = usage.changed([(place.tenant_id, date(2026, 12, 1), position)])
            assert list(changed.get(place.tenant_id, [])) == days
    found = {
        (row.day.day, row.meter, row.byok, row.platform): (
            row.price_version,
            row.quantity,
            row.charge,
        )
        for row in rows
    }
    assert {key: tuple(map(str, value)) for key, value in found.items()} == {
        (2, "tokens.input", False, False): ("sell/chat@1.1", "1500", "1.5"),
        (2, "tool.calls", False, False): ("sell/chat@1.3", "2", "0.006"),
        (2, "tokens.input", True, False): ("", "7", "0"),
        (2, "tokens.input", False, True): ("", "9", "0"),
        (3, "tokens.output", False, False): ("sell/chat@1.2", "0", "0"),
    }
    assert (cut.through_commit, len(cut.chain)) == (6, 32)
    assert {row.day for row in sums} == {date(2026, 11, 1)}
    assert sum(row.charge for row in sums) == sum(row.charge for row in rows)
