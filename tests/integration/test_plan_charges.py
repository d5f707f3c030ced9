"""A plan's number in the database: balance, budgets, holds and credit say what the invoice will."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from fakes.billing_world import TEAM
from fixtures_postgres import Run

from adapters.bootstrap import Tallybook, open_ledger
from ledger.application.explain import explain
from ledger.application.verify import verify
from ledger.domain.holds import HoldAnswer, ReverseCharge
from ledger.domain.usage import VoidUsage

NOVEMBER = date(2026, 11, 1)
PLAN = {**TEAM, "fees": []}
"""1,000 tokens of a whole period are free; 0.01 EUR each up to 10,000 billed ones, then 0.005."""


def event(id: str, tenant: str, day: str, tokens: int, **members: Any) -> bytes:
    """Return an event of a model that has no price at all."""
    document = {
        "specversion": "1.0",
        "type": "tallybook.usage.v2",
        "source": "gateway",
        "id": id,
        "subject": tenant,
        "time": f"2026-11-{day}T10:00:00Z",
        "data": {
            "provider": "nobody",
            "model": "unheard-of",
            "quantities": {"tokens.input": tokens, "tokens.output": tokens},
            **members,
        },
    }
    return json.dumps(document).encode()


@pytest.fixture(scope="module")
def url(postgres_run: Run) -> Iterator[str]:
    """Give a database with the plan."""
    with postgres_run.database(migrated=True) as made:
        with open_ledger(made) as tallybook:
            tallybook.plans.publish(json.dumps(PLAN), by="ann")
        yield made


def charged(tallybook: Tallybook, tenant: str) -> Decimal:
    """Return what the balance says."""
    return sum((one.decimal_charge() for one in tallybook.reads.balances(tenant)), Decimal(0))


def billed(tallybook: Tallybook, tenant: str) -> Decimal:
    """Return what November's invoice would say, unrounded."""
    draft = tallybook.periods.preview(tenant, day=NOVEMBER)
    lines = draft.lines if draft is not None else ()
    return sum((line.unrounded for line in lines), Decimal(0))


def differences(tallybook: Tallybook, tenant: str) -> list[str]:
    """Return what verify finds."""
    with tallybook.audit() as view:
        found = verify(view=view, tenant=tenant, deep=True).differences
    found = [*found, *tallybook.billing_differences(tenant=tenant)]
    return [f"{one.code} {one.what} {one.expected} {one.found}" for one in found]


def subscribe(tallybook: Tallybook, tenant: str, from_day: date = NOVEMBER) -> int:
    """Open a ledger and put it on the plan; return how many events are charged otherwise now."""
    tallybook.tenants.open(tenant, currency="EUR", timezone="UTC")
    view = tallybook.subscriptions.subscribe(tenant, "team", from_day=from_day, by="ann")
    return view.rated_again


def test_two_processes_go_on_from_one_running_quantity(url: str) -> None:
    """What one recorded, the other continues and takes back; the last to know is told."""
    with open_ledger(url) as first, open_ledger(url) as second:
        assert subscribe(first, "acme") == 0
        [one] = first.ledger.record([event("a-1", "acme", "03", 400)])
        assert (one.status, one.flags) == ("accepted", ("uncosted",))
        second.ledger.record([event("a-2", "acme", "04", 3000)])
        first.ledger.record([event("a-3", "acme", "05", 4000), event("a-4", "acme", "05", 100)])
        assert charged(second, "acme") == billed(second, "acme")
        assert charged(second, "acme") == Decimal("120")
        voided = second.corrections.void(
            VoidUsage(
                tenant="acme",
                source="gateway",
                id="v-2",
                target_source="gateway",
                target_id="a-2",
                reason="test",
            )
        )
        assert voided.status == "accepted"
        assert charged(first, "acme") == billed(first, "acme") == Decimal("80")
        assert differences(first, "acme") == []


def test_each_event_says_how_its_plan_charged_it(url: str) -> None:
    """With the running quantities before and after, so that the figure can be checked by hand."""
    with open_ledger(url) as tallybook:
        subscribe(tallybook, "birch")
        tallybook.ledger.record([event("b-1", "birch", "03", 400)])
        tallybook.ledger.record([event("b-2", "birch", "04", 300)])
        told = explain(reads=tallybook.reads, event="b-2", tenant="birch", plans=tallybook.plans)
        assert told.recomputed == "equal"
        first, second = told.rating.leaves[:2]
        assert first.version == "plan/team@1#tokens:2026-11-01/2026-12-01"
        assert first.origin is not None
        assert (first.origin.source, first.origin.approver) == (
            "charge tokens of plan team version 1",
            "ann",
        )
        assert first.rounding.endswith("F(1100) = 1 less F(800) = 0")
        assert second.rounding.endswith("F(1400) = 4 less F(1100) = 1")
        assert (first.amount, second.amount) == (Decimal(1), Decimal(3))


def test_who_is_subscribed_late_is_charged_anew_and_once(url: str) -> None:
    """From the first day on, and back to list prices when the subscription never was for it."""
    with open_ledger(url) as tallybook:
        tallybook.tenants.open("cobalt", currency="EUR", timezone="UTC")
        lines = [event(f"c-{day}", "cobalt", f"{day:02d}", 300) for day in range(1, 21)]
        tallybook.ledger.record(lines)
        assert charged(tallybook, "cobalt") == 0
        assert subscribe(tallybook, "cobalt") == 20
        assert charged(tallybook, "cobalt") == billed(tallybook, "cobalt") == Decimal("105")
        assert subscribe(tallybook, "cobalt") == 0
        # Fifteen of thirty days: half of what is included.
        ended = tallybook.subscriptions.end("cobalt", from_day=date(2026, 11, 16), by="ann")
        assert ended.rated_again == 20
        assert charged(tallybook, "cobalt") == billed(tallybook, "cobalt") == Decimal("85")
        assert differences(tallybook, "cobalt") == []


def test_holds_budgets_and_credit_count_what_the_plan_charges(url: str) -> None:
    """Included usage passes a cap of nothing; what follows is stopped by what it would cost."""
    with open_ledger(url) as tallybook:
        today = datetime.now(UTC)
        tallybook.tenants.open("dune", currency="EUR", timezone="UTC")
        plan = {**PLAN, "name": "simple"}
        charge = {**TEAM["charges"][0], "model": {"tiers": [{"rate": "0.01"}]}}  # type: ignore[index] # a literal
        tallybook.plans.publish(json.dumps({**plan, "charges": [charge]}), by="ann")
        first = today.date().replace(day=1)
        tallybook.subscriptions.subscribe("dune", "simple", from_day=first, by="ann")
        tallybook.budgets.set({"cap": "5"}, tenant="dune", name="cap", by="ann")

        def ask(hold: str, tokens: int) -> HoldAnswer:
            quantities = {"tokens.input": str(tokens)}
            document = {"hold": hold, "provider": "nobody", "model": "unheard-of"}
            outcome = tallybook.holds.authorize(
                {**document, "quantities": quantities}, tenant="dune"
            )
            assert isinstance(outcome.detail, HoldAnswer)
            return outcome.detail

        assert (ask("h-1", 1000).decision, ask("h-2", 1600).decision) == ("allow", "deny")
        done = tallybook.holds.capture(
            {"capture": "k-1", "quantities": {"tokens.input": "1000"}, "final": True},
            tenant="dune",
            hold="h-1",
        )
        assert done.status == "captured"
        assert charged(tallybook, "dune") == 0
        allowed = ask("h-3", 400)
        assert (allowed.decision, allowed.amount) == ("allow", 4 * 10**18)
        [line] = allowed.estimate
        assert line.version.startswith(f"plan/simple@1#tokens:{first}/")
        assert line.amount == 4 * 10**18
        again = ask("h-3", 400)
        assert again.estimate == allowed.estimate
        assert ask("h-4", 101).decision == "deny"
        assert differences(tallybook, "dune") == []


def test_two_processes_promise_the_included_units_once(url: str) -> None:
    """What calls in flight hold is a row that either process reads, and verify compares."""
    with open_ledger(url) as first, open_ledger(url) as second:
        subscribe(first, "lark", datetime.now(UTC).date().replace(day=1))
        first.budgets.set({"cap": "5"}, tenant="lark", name="cap", by="ann")

        def ask(tallybook: Tallybook, hold: str, tokens: int) -> tuple[str, int]:
            quantities = {"tokens.input": str(tokens)}
            asked = {"hold": hold, "provider": "nobody", "model": "unheard-of"}
            outcome = tallybook.holds.authorize({**asked, "quantities": quantities}, tenant="lark")
            assert isinstance(outcome.detail, HoldAnswer)
            return outcome.detail.decision, outcome.detail.amount

        def capture(tallybook: Tallybook, hold: str, tokens: int, final: bool) -> None:
            document = {"capture": f"k-{hold}-{tokens}", "quantities": {"tokens.input": tokens}}
            tallybook.holds.capture({**document, "final": final}, tenant="lark", hold=hold)

        assert ask(first, "h-1", 500) == ("allow", 0)
        assert ask(second, "h-2", 500) == ("allow", 0)
        assert ask(first, "h-3", 500) == ("allow", 5 * 10**18)
        capture(second, "h-3", 200, False)
        assert differences(first, "lark") == []
        capture(first, "h-3", 500, True)
        assert ask(second, "h-4", 1) == ("deny", 0)
        second.holds.void({"void": "v-1"}, tenant="lark", hold="h-1")
        assert ask(first, "h-5", 500) == ("allow", 5 * 10**18)
        assert differences(second, "lark") == []
        for hold in ("h-5", "h-2"):
            capture(second, hold, 500, True)
        assert charged(first, "lark") == Decimal(5)
        assert differences(first, "lark") == []


def test_what_all_drafts_say_is_what_the_ledgers_charged(url: str) -> None:
    """Of tenants with a plan and without, with a reversal, and before anything is billed."""
    with open_ledger(url) as tallybook:
        for tenant in ("elm", "fir", "gale"):
            if tenant == "gale":
                tallybook.tenants.open(tenant, currency="EUR", timezone="UTC")
            else:
                subscribe(tallybook, tenant)
            tallybook.ledger.record(
                [event(f"{tenant}-{day}", tenant, f"{day:02d}", 700) for day in (2, 9, 16)]
            )
        [reversed_] = tallybook.ledger.run(
            [ReverseCharge("fir", "r-1", "gateway", "fir-9", 3 * 10**18, "outage")]
        )
        assert reversed_.status == "reversed"
        names = ("elm", "fir", "gale")
        assert [charged(tallybook, name) for name in names] == [32, 29, 0]
        assert [billed(tallybook, name) for name in names] == [32, 29, 0]
        assert [differences(tallybook, name) for name in names] == [[], [], []]


def test_usage_that_a_capture_moved_into_the_period_is_rated_again_too(url: str) -> None:
    """A call over the end of a month has the time of its last capture, not of its first."""
    with open_ledger(url) as tallybook:
        tallybook.tenants.open("hazel", currency="EUR", timezone="UTC")
        asked = {"hold": "h", "provider": "nobody", "model": "unheard-of"}
        tallybook.holds.authorize({**asked, "quantities": {"tokens.input": "9"}}, tenant="hazel")
        for id, tokens, at in (("k-1", 500, "10-31T23:59"), ("k-2", 2000, "11-01T00:01")):
            document = {
                "capture": id,
                "quantities": {"tokens.input": str(tokens)},
                "final": id == "k-2",
                "occurred_at": f"2026-{at}:00Z",
            }
            done = tallybook.holds.capture(document, tenant="hazel", hold="h")
            assert done.status.startswith("captured"), done
        assert subscribe(tallybook, "hazel") == 1
        assert charged(tallybook, "hazel") == billed(tallybook, "hazel") == Decimal(10)
        assert differences(tallybook, "hazel") == []


def test_other_anchors_make_other_prices_of_the_same_days(url: str) -> None:
    """Twenty days of a period of 31, and of one of 30, include another quantity."""
    with open_ledger(url) as tallybook:
        tallybook.tenants.open("iris", currency="EUR", timezone="UTC")
        first = date(2026, 9, 10)
        for anchor in (date(2026, 8, 30), date(2026, 8, 31)):
            tallybook.subscriptions.subscribe(
                "iris", "team", from_day=first, anchor=anchor, by="ann"
            )
            lines = [event(f"{anchor} {number}", "iris", "12", 500) for number in range(3)]
            tallybook.ledger.record([line.replace(b"2026-11", b"2026-09") for line in lines])
        draft = tallybook.periods.preview("iris", day=first)
        assert draft is not None
        total = sum((line.unrounded for line in draft.lines), Decimal(0))
        assert charged(tallybook, "iris") == total > 0
        assert differences(tallybook, "iris") == []


def test_the_time_of_unpriced_usage_is_that_of_its_last_capture(url: str) -> None:
    """Its row follows, so that verify finds nothing."""
    with open_ledger(url) as tallybook:
        subscribe(tallybook, "juniper")
        asked = {"hold": "h", "provider": "nobody", "model": "unheard-of"}
        tallybook.holds.authorize({**asked, "quantities": {"tokens.input": "9"}}, tenant="juniper")
        for tokens in (4, 9, 7):
            document = {
                "capture": f"k-{tokens}",
                "quantities": {"tokens.input": str(tokens)},
                "final": tokens == 7,
            }
            done = tallybook.holds.capture(document, tenant="juniper", hold="h")
            assert done.status == "captured", done
        assert differences(tallybook, "juniper") == []
