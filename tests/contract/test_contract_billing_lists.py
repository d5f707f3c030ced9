"""Lists of all tenants' periods and subscriptions: for the in-memory double and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from fakes.billing_world import BillingWorld, Clock, memory_world, postgres_world
from fixtures_postgres import Run
from typer.testing import CliRunner

from adapters.cli import billing_periods, plans
from ledger.application import period_lists, subscriptions
from ledger.application.period_lists import PeriodFilter, PeriodState
from ledger.domain.errors import NotFound
from ledger.domain.invoices import InvoiceStatus
from ledger.domain.periods import from_us

CLOCK = Clock()
NAMES = ("asia", "none", "paid", "reopened", "void")
NOVEMBER, DECEMBER, JANUARY = date(2026, 11, 1), date(2026, 12, 1), date(2027, 1, 1)


@pytest.fixture(scope="module", params=["memory", "postgres"])
def world(request: pytest.FixtureRequest, postgres_run: Run) -> Iterator[BillingWorld]:
    """Give tenants whose periods are everywhere on 3 January; the tests change nothing."""
    if request.param == "memory":
        with memory_world(CLOCK) as made:
            prepare(made)
            yield made
        return
    with postgres_run.database(migrated=True) as url, postgres_world(CLOCK, url) as made:
        prepare(made)
        yield made


def prepare(world: BillingWorld) -> None:
    """Close November, take two of them back, and wait until December is over."""
    CLOCK.set("2026-11-15")
    world.publish()
    world.publish(fees=[])
    world.publish(name="solo")
    world.open("asia", timezone="Pacific/Auckland")
    world.open(*NAMES[1:])
    for tenant in ("paid", "reopened", "void"):
        world.use(tenant, "2026-11-05T10:00:00Z", tool_calls=1000)
    world.use("asia", "2026-12-05T10:00:00Z", tool_calls=1000)
    take = world.subscriptions.subscribe
    take("paid", "team", version=1, from_day=NOVEMBER, by="ann")
    take("paid", "solo", from_day=date(2027, 2, 1), by="ann")
    take("void", "solo", from_day=NOVEMBER, by="ann")
    CLOCK.set("2026-12-04")
    world.periods.close(by="ann")
    world.invoicing.finalize_all(by="ann")
    world.invoicing.move("void", "2026-11-01", status=InvoiceStatus.VOID, by="ann")
    for by in ("ann", "bob"):
        world.periods.reopen("reopened", first_day=NOVEMBER, by=by, reason="r")
    world.subscriptions.end("void", from_day=DECEMBER, by="ann")
    # In Auckland the 3rd began eleven hours ago, so the grace of its December is over.
    CLOCK.at = datetime(2027, 1, 2, 12, tzinfo=UTC)


ALL = [
    ("asia", DECEMBER, "due", True),
    ("paid", NOVEMBER, "closed", False),
    ("paid", DECEMBER, "open", False),
    ("reopened", NOVEMBER, "reopened", True),
    ("void", NOVEMBER, "closed", False),
    ("void", DECEMBER, "open", False),
]


def rows(world: BillingWorld, limit: int = 100, **only: Any) -> list[tuple[str, date, str, bool]]:
    """Return all periods, page by page."""
    found = []
    after = None
    while True:
        page = world.periods.page(PeriodFilter(**only), after=after, limit=limit)
        assert len(page.rows) <= limit
        found += [(one.tenant, one.first_day, one.state.value, one.overdue) for one in page.rows]
        after = page.following
        if after is None:
            return found


def test_periods_of_all_tenants_come_in_order_whatever_the_pages(world: BillingWorld) -> None:
    """Of tenants that have anything to bill; state, grace and what is overdue told."""
    assert [rows(world, limit) for limit in (1, 2, 4, 100)] == [ALL] * 4
    [asia, *_] = world.periods.page(PeriodFilter(tenant="asia"), limit=9).rows
    assert from_us(asia.closes_at) == datetime(2027, 1, 2, 11, tzinfo=UTC)


def test_a_state_or_what_is_overdue_is_asked_for(world: BillingWorld) -> None:
    """Of one tenant too; a page looks on until it is full."""
    for limit in (1, 2, 100):
        for state in PeriodState:
            wanted = [one for one in ALL if one[2] == state]
            assert rows(world, limit, state=state) == wanted
        assert rows(world, limit, overdue=True) == [ALL[0], ALL[3]]
        assert rows(world, limit, overdue=True, state=PeriodState.DUE) == ALL[:1]
        assert rows(world, limit, tenant="paid") == ALL[1:3]
        assert rows(world, limit, tenant="none") == []
    with pytest.raises(NotFound):
        rows(world, tenant="nobody")


def test_a_page_warns_of_the_tenants_that_are_on_it(world: BillingWorld) -> None:
    """Once each, and of no others."""
    whole = world.periods.page(PeriodFilter(), limit=100)
    assert [(one.tenant, one.code) for one in whole.warnings] == [
        ("void", "unbilled_voided_invoice")
    ]
    assert world.periods.page(PeriodFilter(), limit=3).warnings == []
    assert world.periods.page(PeriodFilter(overdue=True), limit=100).warnings == []


def test_subscriptions_of_all_tenants_say_what_holds_today(world: BillingWorld) -> None:
    """Also of those at list prices; by plan those that are on it, or come to it."""
    page = world.subscriptions.page(limit=100)
    held = [
        (one.tenant, None if one.current is None else (one.current.plan, one.current.version))
        for one in page.rows
    ]
    assert held == [
        ("asia", None),
        ("none", None),
        ("paid", ("team", 1)),
        ("reopened", None),
        ("void", ("", 0)),
    ]
    assert page.following is None
    for limit in (1, 2, 3):
        found = []
        after: int | None = 0
        while after is not None:
            one = world.subscriptions.page(after=after, limit=limit)
            found += one.rows
            after = one.following
        assert found == list(page.rows)

    def on(plan: str) -> list[str]:
        return [one.tenant for one in world.subscriptions.page(plan=plan, limit=9).rows]

    assert [on("team"), on("solo"), on("other")] == [["paid"], ["paid"], []]
    assert world.subscriptions.show("paid") == page.rows[2]


def test_a_page_looks_at_a_bounded_number_of_tenants(
    world: BillingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be empty then, and all pages together are the whole still."""
    for module in (period_lists, subscriptions):
        monkeypatch.setattr(module, "MOST_TENANTS", 2)
        monkeypatch.setattr(module, "_PIECE", 2)
    assert rows(world) == ALL
    assert rows(world, state=PeriodState.REOPENED) == [ALL[3]]
    first = world.periods.page(PeriodFilter(state=PeriodState.REOPENED), limit=5)
    assert (first.rows, first.following is not None) == ([], True)
    found = []
    after: int | None = 0
    while after is not None:
        page = world.subscriptions.page(plan="solo", after=after, limit=5)
        found.append([one.tenant for one in page.rows])
        after = page.following
    assert found == [[], ["paid"], []]


def test_the_command_line_lists_all_tenants(
    world: BillingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For people as a table, for programs with what there is more of."""
    monkeypatch.setenv("COLUMNS", "120")

    @contextmanager
    def open_services() -> Iterator[Any]:
        yield SimpleNamespace(
            periods=world.periods, subscriptions=world.subscriptions, plans=world.plans
        )

    app = typer.Typer()
    billing_periods.register(app, open_services)
    plans.register(app, open_services)

    def run(*command: str) -> Any:
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 0, answer.output
        return answer

    def told(*command: str) -> Any:
        return json.loads(run(*command, "--json").stdout)

    people = run("period", "status")
    assert [name for name in NAMES if name in people.stdout] == ["asia", "paid", "reopened", "void"]
    assert "due, overdue" in people.stdout
    assert "warning [unbilled_voided_invoice]" in people.stderr
    assert "there are more" in run("period", "list", "--limit", "1").stdout
    assert [one["tenant"] for one in told("period", "list", "--overdue")["periods"]] == [
        "asia",
        "reopened",
    ]
    closed = told("period", "list", "--state", "closed", "-n", "1")
    assert (len(closed["periods"]), closed["more"]) == (1, True)
    assert closed["periods"][0]["closes_at"] == "2026-12-03T00:00:00Z"
    table = run("subscription", "list").stdout
    for words in ("team 1", "solo 1 from 2027-02-01", "list prices", "2026-12-01"):
        assert words in table
    mine = told("subscription", "list", "--plan", "team")
    assert (len(mine["subscriptions"]), mine["more"]) == (1, False)
    assert mine["subscriptions"][0]["current"] == {
        "from_day": "2026-11-01",
        "plan": "team",
        "version": 1,
    }
    assert told("subscription", "list", "-n", "2")["more"]
