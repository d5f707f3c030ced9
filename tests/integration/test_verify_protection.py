"""The audit compares cost protection with the log: nothing on a sound one, each changed row."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from fakes.billing_world import TEAM
from fixtures_postgres import Run
from projections_world import World, catalog, correction, usage, world

from adapters.postgres import arrays
from adapters.postgres.audit import PostgresAudit, open_audit
from ledger.application.documents.events import Filter as Lines
from ledger.application.documents.events import Listing
from ledger.application.explain import explain
from ledger.application.protection import Holds
from ledger.application.replay import Difference
from ledger.application.sequencer import Sequencer
from ledger.application.verify import VerifyReport, verify
from ledger.application.verify_protection import check_reserved
from ledger.domain.billing_calendar import Holding, Segment
from ledger.domain.budgets import BudgetTerms, Filter, Step
from ledger.domain.commands import Command
from ledger.domain.credits import Grant
from ledger.domain.entitlements import Entitlements
from ledger.domain.entries import decode_commit, stream_of
from ledger.domain.holds import HOLD_SOURCE, ExpireHolds, HoldState, SetEntitlements
from ledger.domain.periods import LATEST_US
from ledger.domain.plans import plan_from_json
from ledger.domain.protection import Protection
from ledger.domain.protection_commands import (
    ConfirmBudget,
    GrantCredit,
    SetBudget,
    SetCreditPolicy,
    WaiveCap,
    WithdrawCredit,
)
from ledger.domain.protection_entries import CreditGranted, ProtectionEntry
from ledger.domain.tenant_plans import TenantPlan

USD = 10**18
MILLION = "1000000"
"""Tokens that cost 0.35 USD."""


class Desk:
    """Runs commands against one tenant and checks their answers."""

    def __init__(self, one: World, tenant: str) -> None:
        self.world = one
        self.tenant = tenant
        self.holds = Holds(one.ledger.sequencer)

    def run(self, command: Command, status: str = "accepted") -> None:
        """Run a command."""
        outcome = self.world.ledger.run([command])[0]
        assert outcome.status == status, outcome

    def ask(self, hold: str, status: str = "created", **members: Any) -> None:
        """Authorize a hold."""
        document = {"hold": hold, "provider": "openai", "model": "chat", **members}
        if "amount" not in members:
            document.setdefault("quantities", {"tokens.input": MILLION})
        outcome = self.holds.authorize(document, tenant=self.tenant)
        assert outcome.status == status, outcome

    def do(self, operation: str, hold: str, status: str, **members: Any) -> None:
        """Do something about a hold."""
        outcome = getattr(self.holds, operation)(members, tenant=self.tenant, hold=hold)
        assert outcome.status == status, outcome

    def capture(
        self, hold: str, id: str, count: int, status: str = "captured", **more: Any
    ) -> None:
        """Capture input tokens."""
        quantities = {"tokens.input": str(count)}
        self.do("capture", hold, status, capture=id, quantities=quantities, **more)

    def reverse(
        self, id: str, capture: str, amount: str, status: str = "reversed", **more: str
    ) -> None:
        """Take charge back."""
        document = {"reversal": id, "capture": capture, "amount": amount, **more}
        outcome = self.holds.reverse(document, tenant=self.tenant)
        assert outcome.status == status, outcome


def soon() -> int:
    """Return a moment that is over once the short holds are."""
    return time.time_ns() // 1000 + 1_000_000


def set_terms(desk: Desk) -> None:
    """Set budgets of several measures, a confirmation, entitlements and credit."""
    tenant, run = desk.tenant, desk.run
    ladder = (Step("inform", 1), Step("warn", 8000), Step("stop", 10000))
    run(SetBudget(tenant, BudgetTerms("all", 50 * USD, steps=ladder), "ann"))
    run(SetBudget(tenant, BudgetTerms("all", 100 * USD, steps=ladder, lease=USD), "ann"))
    confirmed = (Step("confirm", 5000), Step("stop", 10000))
    run(
        SetBudget(
            tenant,
            BudgetTerms(
                "p1", 2 * USD, scope="project", value="p1", window="day", steps=confirmed, lease=USD
            ),
        )
    )
    run(
        SetBudget(
            tenant,
            BudgetTerms(
                "tokens",
                10**15,
                measure="tokens.input",
                filter=Filter(models=("chat",)),
                window="lifetime",
                steps=ladder,
                lease=USD,
            ),
        )
    )
    run(
        SetBudget(
            tenant,
            BudgetTerms(
                "cost", 90 * USD, measure="cost", currency="USD", filter=Filter(byok=False)
            ),
        )
    )
    run(SetBudget(tenant, BudgetTerms("gone", USD)))
    run(SetBudget(tenant, BudgetTerms("gone", USD, state="ended")))
    run(ConfirmBudget(tenant, "yes-1", "p1", 3 * USD // 2, "ann", reason="release"))
    lists = Entitlements(models=("chat", "request", "session", "mystery"))
    run(SetEntitlements(tenant, lists, "ann"))
    run(GrantCredit(tenant, "paid", 3 * USD, by="ann", reason="invoice 7"))
    run(GrantCredit(tenant, "gift", USD, kind="promotional", priority=1, expires_at=soon()))
    run(WithdrawCredit(tenant, "refund", "paid", USD // 2, by="ann", reason="asked for"))


def settle_holds(desk: Desk) -> None:
    """Let holds come to every end; what is short is over at the end."""
    desk.ask("full", user="ann", project="p1")
    desk.do("extend", "full", "extended", step=1, quantities={"tokens.input": "2000000"})
    desk.do("progress", "full", "progressed", step=1, quantities={"tokens.input": "10"})
    desk.capture("full", "c-full-1", 500_000, final=False)
    desk.capture("full", "c-full-2", 1_500_000)
    desk.capture("full", "c-full-3", 7, "capture_conflict")
    desk.ask("given-up")
    desk.do("extend", "given-up", "extended", step=1, quantities={"tokens.input": "1000000.5"})
    desk.do("void", "given-up", "voided", void="v-1", reason="not called")
    desk.do("void", "never", "voided_unmatched", void="v-2")
    desk.ask("never", "denied_voided")
    desk.capture("first", "c-first", 3_000, "captured_unmatched", provider="openai", model="chat")
    desk.ask("first", "created_resolved")
    desk.ask("greedy", "denied_exceeds_budget", quantities={"tokens.input": "900000000"})
    desk.ask("forbidden", "denied_no_entitlement", model="other")
    desk.ask("rounded", model="session", session="s1", quantities={"audio.stt.seconds": "61"})
    seconds = {"audio.stt.seconds": "61"}
    desk.do("capture", "rounded", "captured", capture="c-round", quantities=seconds)
    desk.ask("settled")
    desk.ask("lease", kind="lease", amount="0.5", model="request")
    events = [
        usage(desk.tenant, "by-usage", hold="settled"),
        usage(desk.tenant, "leased-1", hold="lease"),
        usage(desk.tenant, "leased-2", hold="lease"),
        usage(desk.tenant, "nobody", hold="not-asked"),
    ]
    assert [one.status for one in desk.world.use(*events)] == ["accepted"] * 4
    desk.ask("over", quantities={"tokens.input": "10"})
    desk.capture("over", "c-over", 1_000_000, "captured_over_hold")
    desk.ask("left", ttl=1, on_expiry="void")
    desk.ask("half", ttl=1)
    desk.do("progress", "half", "progressed", step=1, quantities={"tokens.input": "400000"})
    desk.ask("whole", ttl=1, on_expiry="capture_full")
    desk.ask("partly", ttl=1, on_expiry="capture_full")
    desk.capture("partly", "c-part", 9, final=False)
    desk.ask("open", user="bob", project="p1")


def correct_and_reverse(desk: Desk) -> None:
    """Take charge back, and correct, rate again and take back usage whose charge was reversed."""
    gateway = {"provider": "openai", "model": "chat", "source": "gateway"}
    for id in ("adjusted", "voided", "rerated"):
        desk.capture(f"hold-{id}", id, 1_000_000, "captured_unmatched", **gateway)
        desk.reverse(f"r-{id}", id, "0.3", source="gateway")
    desk.reverse("r-1", "c-full-1", "0.2")
    desk.reverse("r-2", "c-full-2", "0.1")
    desk.reverse("r-3", "c-full-2", "9", "exceeds_capture")
    changes = [
        correction(desk.tenant, "fix-1", "adjusted", {"tokens.input": "500000"}),
        correction(desk.tenant, "fix-2", "voided"),
    ]
    assert [one.status for one in desk.world.use(*changes)] == ["accepted"] * 2
    desk.world.price(catalog("chat", "request", "session", "mystery", factor=2))
    assert desk.world.rerate(desk.tenant, "rerated").status == "accepted"


def owe(desk: Desk) -> None:
    """Need credit that is not there, and get it later."""
    tenant, run = desk.tenant, desk.run
    run(SetCreditPolicy(tenant, required=True))
    desk.ask("poor", "denied_exceeds_budget")
    run(GrantCredit(tenant, "little", USD // 10))
    desk.world.use(usage(tenant, "owing", quantities={"tokens.input": MILLION}))
    run(GrantCredit(tenant, "more", USD // 10))


class OnePlan:
    """Everybody is on a plan with included tokens; a `PlanSource`."""

    def load(self, tenants: Mapping[int, str]) -> Mapping[int, TenantPlan]:
        """Return it for all of them."""
        plan = plan_from_json(json.dumps({**TEAM, "currency": "USD", "fees": []}))
        first = date(2026, 1, 1)
        held, cycles = (Holding(first, plan.name, 1),), (Segment(first, plan.cycle),)
        return {
            number: TenantPlan(held, cycles, timezone=zone, plan_of=lambda name, version: plan)
            for number, zone in tenants.items()
        }


def promise(one: World, tenant: str) -> None:
    """Leave calls in flight of a tenant with a plan: 900 and 600 of 1,000 included tokens."""
    sequencer = Sequencer(one.database.store, one.prices, plans=OnePlan())
    try:
        holds = Holds(sequencer)
        for hold, tokens in (("plan-1", "900"), ("plan-2", "600")):
            document = {"hold": hold, "provider": "openai", "model": "chat"}
            asked = {**document, "quantities": {"tokens.input": tokens}, "ttl": 86400}
            assert holds.authorize(asked, tenant=tenant).status == "created"
    finally:
        sequencer.close()


def let_expire(one: World, *tenants: str) -> None:
    """Wait for what is short, and let it expire."""
    time.sleep(1.1)
    one.ledger.run([ExpireHolds(tenant) for tenant in tenants])


@pytest.fixture(scope="module")
def full(postgres_run: Run) -> Iterator[World]:
    """Give ledgers with all of cost protection in them; tests roll back what they change."""
    with postgres_run.database(migrated=True) as url, world(url) as one:
        acme = Desk(one, "acme")
        one.use(usage("acme", "before", user="ann"))
        set_terms(acme)
        settle_holds(acme)
        owe(Desk(one, "birch"))
        Desk(one, "cobalt").run(WaiveCap("cobalt", "ann"))
        promise(one, "cobalt")
        let_expire(one, "acme")
        acme.capture("left", "c-late", 100, "captured_late")
        correct_and_reverse(acme)
        one.runner().catch_up()
        yield one


@contextmanager
def damaged(one: World) -> Iterator[psycopg.Connection[Any]]:
    """Give a transaction to do damage in; it is rolled back."""
    with one.database.connect(purpose="damage", autocommit=False) as connection:
        arrays.register(connection)
        yield connection
        connection.rollback()


def audit(one: World, sql: str) -> list[Difference]:
    """Return what a deep audit finds after a statement that changes exactly one row."""
    with damaged(one) as connection:
        assert connection.execute(sql.encode()).rowcount == 1
        report = verify(view=PostgresAudit(connection), deep=True)
    return list(report.differences)


def all_of(one: World, sql: str) -> list[Any]:
    """Return the first column of a query."""
    with one.database.connect(purpose="test") as connection:
        return [row[0] for row in connection.execute(sql.encode()).fetchall()]


@pytest.mark.parametrize("deep", [False, True])
def test_a_ledger_with_all_of_cost_protection_is_clean(full: World, deep: bool) -> None:
    """Budgets, holds of every end, credit and reversals: all compared, all equal."""
    with open_audit(full.database) as view:
        report: VerifyReport = verify(view=view, deep=deep)
    assert report.differences == []
    assert report.clean
    assert report.rollup_position == report.head > 0


def test_the_world_has_every_entry_and_every_kind_of_row(full: World) -> None:
    """Else a clean audit would prove nothing."""
    states = all_of(full, "SELECT state FROM ledger_log WHERE topic = 'tb.commit:1'")
    kinds = {type(entry) for state in states for entry in decode_commit(bytes(state)).entries}
    assert set(ProtectionEntry.__args__) <= kinds
    assert set(all_of(full, "SELECT status FROM holds")) == {0, 1, 2, 3, 4, 5}
    for table in ("protection", "budgets", "budget_counters", "credit_grants"):
        assert all_of(full, f"SELECT count(*) FROM {table}")[0] > 0
    assert all_of(full, "SELECT count(*) FROM corrections WHERE reversal IS NOT NULL")[0] >= 2
    assert all_of(full, "SELECT count(*) FROM usage_daily WHERE meter = '' AND charge < 0") != [0]


HEAD = "tenant_id = (SELECT tenant_id FROM tenants WHERE tenant = 'acme')"
COUNTER = (
    "ctid = (SELECT min(ctid) FROM budget_counters"
    f" WHERE {HEAD} AND budget = 0 AND fired <> 0 AND held > 0)"
)
OPEN = f"ctid = (SELECT min(ctid) FROM holds WHERE {HEAD} AND status = 0)"
GRANT = f"{HEAD} AND number = 0"
REVERSED = "ctid = (SELECT min(ctid) FROM corrections WHERE reversal IS NOT NULL)"
ROWS = [
    (f"UPDATE protection SET capped = NOT capped WHERE {HEAD}", "protection", "capped"),
    (
        f"UPDATE protection SET credit_required = NOT credit_required WHERE {HEAD}",
        "protection",
        "credit_required",
    ),
    (f"UPDATE protection SET owed = owed + 1e-18 WHERE {HEAD}", "protection", "owed"),
    (f"UPDATE protection SET owed = 'NaN' WHERE {HEAD}", "protection", "owed"),
    (f"UPDATE protection SET entitlements = '' WHERE {HEAD}", "protection", "entitlements"),
    (
        f"UPDATE protection SET next_expiry = {LATEST_US} WHERE {HEAD}",
        "protection",
        "next_expiry",
    ),
    (f"DELETE FROM protection WHERE {HEAD}", "protection", "protection"),
    (f"UPDATE budgets SET ladder = ladder + 1 WHERE {GRANT}", "budget", "ladder"),
    (
        f"UPDATE budgets SET terms = replace(terms, '100', '900') WHERE {GRANT}",
        "budget",
        "terms",
    ),
    (f"DELETE FROM budgets WHERE {GRANT}", "budget", "budgets 0"),
    (f"UPDATE budget_counters SET spent = spent - 1 WHERE {COUNTER}", "counter", "spent"),
    (f"UPDATE budget_counters SET held = held + 1 WHERE {COUNTER}", "counter", "held"),
    (f"UPDATE budget_counters SET fired = 0 WHERE {COUNTER}", "counter", "fired"),
    (f"UPDATE budget_counters SET ladder = ladder + 1 WHERE {COUNTER}", "counter", "ladder"),
    (f"UPDATE budget_counters SET ceiling = 1 WHERE {COUNTER}", "counter", "ceiling"),
    (f"UPDATE budget_counters SET until = 1 WHERE {COUNTER}", "counter", "until"),
    (
        f"UPDATE budget_counters SET spent = spent + 0.5 WHERE {COUNTER}",
        "row_unreadable",
        "budget_counters",
    ),
    (f"DELETE FROM budget_counters WHERE {COUNTER}", "counter", "budget_counters 0"),
    (f"UPDATE holds SET status = 1 WHERE {OPEN}", "hold", "status"),
    (f"UPDATE holds SET expires_at = expires_at + 1 WHERE {OPEN}", "hold", "expires_at"),
    (f"UPDATE holds SET body = set_byte(body, 3, 65) WHERE {OPEN}", "hold", "body"),
    (f"DELETE FROM holds WHERE {OPEN}", "hold", "holds "),
    (f"UPDATE holds SET key = gen_random_uuid() WHERE {OPEN}", "hold", "holds "),
    *(
        (f"UPDATE credit_grants SET {name} = {name} + 1e-18 WHERE {GRANT}", "grant", name)
        for name in ("amount", "held", "burned", "withdrawn", "lapsed")
    ),
    *(
        (f"UPDATE credit_grants SET {name} = {name} + 1 WHERE {GRANT}", "grant", name)
        for name in ("priority", "at", "expires_at")
    ),
    *(
        (f"UPDATE credit_grants SET {name} = {name} || 'x' WHERE {GRANT}", "grant", name)
        for name in ("id", "kind", "filter")
    ),
    (f"UPDATE credit_grants SET expired = NOT expired WHERE {GRANT}", "grant", "expired"),
    (f"UPDATE credit_grants SET held = 'NaN' WHERE {GRANT}", "grant", "held"),
    (f"DELETE FROM credit_grants WHERE {GRANT}", "grant", "credit_grants 0"),
    (f"UPDATE corrections SET reversal = NULL WHERE {REVERSED}", "correction", "corrections"),
    (
        "UPDATE accumulators SET quantity = quantity - 1 WHERE key LIKE 'promised\tplan/team%'",
        "accumulator",
        "promised plan/team@1#tokens:",
    ),
    (
        "UPDATE accumulators SET quantity = 0 WHERE key LIKE 'reserved\tplan/team%'",
        "accumulator",
        "reserved plan/team@1#tokens:",
    ),
]


@pytest.mark.parametrize(("sql", "code", "what"), ROWS)
def test_a_changed_row_is_named_and_nothing_else(
    full: World, sql: str, code: str, what: str
) -> None:
    """Each kind of row is compared, column by column, and a change shows where it is."""
    differences = audit(full, sql)
    assert differences
    expected = {code} | ({"counter"} if code == "row_unreadable" else set())
    assert {one.code for one in differences} == expected
    assert any(what in one.what for one in differences)


def test_damaged_bytes_of_a_reversal_are_reported(full: World) -> None:
    """Damage is data: the audit does not fall over a row that cannot be read."""
    differences = audit(full, f"UPDATE corrections SET reversal = '\\xc1' WHERE {REVERSED}")
    assert {one.code for one in differences} == {"row_unreadable", "correction"}


ACTS = ("HoldCaptured", "HoldVoided", "ChargeReversed", "BudgetConfirmed", "CreditGranted")


@pytest.mark.parametrize("kind", [*ACTS, "CreditWithdrawn", "ConflictKept", "UsageRecorded"])
def test_the_key_of_every_act_is_compared_with_its_fingerprint(full: World, kind: str) -> None:
    """An id that is known with another payload would be refused, or its repetition paid twice."""
    acme = all_of(full, "SELECT tenant_id FROM tenants WHERE tenant = 'acme'")[0]
    places = [
        (version, index)
        for version, state in commits_of(full, acme)
        for index, entry in enumerate(decode_commit(state).entries)
        if type(entry).__name__ == kind
    ]
    found = []
    for version, index in places:
        where = f"WHERE tenant_id = {acme} AND version = {version} AND index = {index}"
        if all_of(full, f"SELECT 1 FROM usage_keys {where}"):
            found.append(where)
    assert found
    for where in found[-2:]:
        differences = audit(full, f"UPDATE usage_keys SET fingerprint = key {where}")
        assert [one.code for one in differences] == ["fingerprint"]
        differences = audit(full, f"DELETE FROM usage_keys {where}")
        assert [one.code for one in differences] == ["key_missing"]


def commits_of(one: World, tenant_id: int) -> list[tuple[int, bytes]]:
    """Return a tenant's commits by number."""
    with one.database.connect(purpose="test") as connection:
        rows = connection.execute(
            "SELECT originator_version, state FROM ledger_log WHERE originator_id = %s",
            (stream_of(tenant_id),),
        ).fetchall()
    return [(row[0], bytes(row[1])) for row in rows]


def test_an_event_s_explanation_counts_what_was_reversed(full: World) -> None:
    """Reversals stand in the timeline, and what the event counts for is less by them."""
    first = explain(reads=full.reads, event="c-full-1", tenant="acme")
    assert [(one.kind, one.amount) for one in first.timeline if one.amount is not None] == [
        ("reversal", Decimal("0.2")),
        ("reversal", Decimal("0.1")),
    ]
    assert first.charge == Decimal("1.5") * Decimal("0.35") - Decimal("0.3")
    assert first.recomputed == "equal"
    assert explain(reads=full.reads, event="c-full-1", source=HOLD_SOURCE, tenant="acme") == first
    for other in ("c-full-2", "c-full-3", "r-1"):
        assert explain(reads=full.reads, event=other, tenant="acme") == first
    for id, charge in (("adjusted", "0"), ("voided", "0"), ("rerated", "0.4")):
        found = explain(reads=full.reads, event=id, tenant="acme")
        assert found.charge == Decimal(charge), id


def test_the_lines_of_all_entries_add_up_to_the_balance(full: World) -> None:
    """The listing passes over what moves no money and counts reversals."""
    for tenant in ("acme", "birch"):
        listing = Listing(full.reads, full.reads.tenant(tenant))
        lines = list(listing.lines(Lines(), before=None))
        balances = full.reads.balances(tenant)
        total = sum((one.decimal_charge() for one in balances), Decimal(0))
        assert sum((line.charge for line in lines), Decimal(0)) == total
        reversals = [line for line in lines if line.kind == "reversal"]
        assert bool(reversals) == (tenant == "acme")


def test_the_daily_rollups_add_up_to_the_balance_with_reversals(full: World) -> None:
    """A reversal is in the rollups once, on the day of its usage."""
    sums = """
        SELECT count(*) FROM (
            SELECT tenant_id, to_char(day, 'YYYY-MM') AS period, sum(charge) AS charge
            FROM usage_daily GROUP BY 1, 2
        ) AS days
        FULL JOIN balances AS b USING (tenant_id, period)
        WHERE coalesce(days.charge, 0) <> coalesce(b.charge, 0)
    """
    assert all_of(full, sums) == [0]
    reversed_ = all_of(full, "SELECT sum(charge) FROM usage_daily WHERE meter = ''")[0]
    # 0.2 and 0.1 stay; of 0.3 each, what a void left is nothing and what half left is 0.175.
    assert reversed_ == -(Decimal("0.3") + Decimal("0.175") + Decimal("0.3"))


def told(guard: Protection) -> set[tuple[str, str]]:
    """Return codes and places of what does not hold of folded protection."""
    said: set[tuple[str, str]] = set()

    def add(code: str, what: str, expected: object, found: object) -> None:
        assert expected != found
        said.add((code, what))

    check_reserved(guard=guard, running={}, add=add)
    return said


def folded() -> Protection:
    """Return the protection of a ledger whose open hold reserves 7 of a budget and of a grant."""
    guard = Protection("UTC")
    guard.holds[b"h"] = HoldState("h", bindings=((0, 60, 7),), allocations=((0, 7),))
    guard.counter((0, 60)).held = 7
    given = CreditGranted(0, "g", "paid", 10, 100, 1, 0, b"", "", "", b"")
    guard.credit.add(Grant.given(given))
    guard.credit.grants[0].held = 7
    return guard


def test_what_is_reserved_is_what_open_holds_reserve() -> None:
    """A log whose entries let go of too much, or too little, is damage of the log itself."""
    assert told(folded()) == set()
    guard = folded()
    guard.counter((0, 60)).held = 8
    assert [code for code, _ in told(guard)] == ["held"]
    guard = folded()
    guard.credit.grants[0].held = 6
    assert told(guard) == {("held", "held of grant 0, by its open holds")}
    guard = folded()
    guard.holds[b"h"].status = "voided"
    assert {code for code, _ in told(guard)} == {"held"}
    assert len(told(guard)) == 3


def test_no_grant_gives_more_than_it_has() -> None:
    """Credit that is spent twice shows, though every row says what the log says."""
    guard = folded()
    guard.credit.grants[0].burned = 4
    assert told(guard) == {("credit", "free of grant 0")}
    guard.credit.grants[0].burned = -1
    assert told(guard) == {("credit", "burned of grant 0")}
