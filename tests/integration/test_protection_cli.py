"""``tallybook budgets``, ``holds``, ``credits``, ``entitlements`` and ``simulate``, really."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import typer
from fakes.building import wire
from typer.testing import CliRunner, Result

from adapters.bootstrap import Tallybook
from adapters.cli import budgets, credits, entitlements, holds, simulate
from adapters.postgres.database import Database
from adapters.postgres.protection_reads import PostgresProtectionReads
from ledger.application.budgets import Budgets, accepted
from ledger.application.credits import Credits, transferred_id
from ledger.application.verify import verify
from ledger.domain.errors import InvalidInput, LedgerError, NotFound, Refused
from ledger.domain.prices import PriceKey, PriceList, PriceRow
from ledger.domain.protection_commands import GrantCredit, WithdrawCredit

UNIT = 10**18
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Run = Callable[..., Result]


class Wired:
    """The use cases that the commands need, over one database."""

    def __init__(self, tallybook: Tallybook) -> None:
        self.tallybook = tallybook
        self.ledger = tallybook.ledger
        self.reads = tallybook.reads
        self.holds = tallybook.holds
        self.policies = tallybook.policies
        self.tenants = tallybook.tenants
        self.protection_reads = PostgresProtectionReads(tallybook.database)
        self.budgets = Budgets(self.ledger, self.reads, self.protection_reads, tallybook.audit)
        self.credits = Credits(self.ledger, self.reads, self.protection_reads)


@pytest.fixture
def wired(database_url: str) -> Iterator[Wired]:
    """Give a fresh ledger with a priced model: input 1 and output 10 USD per thousand tokens."""
    tallybook = Tallybook(Database(database_url))
    rows = tuple(
        PriceRow(
            key=PriceKey("openai", model, meter),
            effective_from=EPOCH,
            rate=Decimal(rate),
            unit_size=Decimal(1000),
            source="one",
        )
        for model, meter, rate in (
            ("gpt", "tokens.input", "1"),
            ("gpt", "tokens.output", "10"),
            ("mini", "tokens.input", "0.1"),
        )
    )
    tallybook.prices.pull([PriceList(source="one", digest="d", rows=rows)], approve=True, by="ann")
    opened = Wired(tallybook)
    opened.tenants.open("acme")
    yield opened
    opened.protection_reads.close()
    tallybook.close()


@pytest.fixture
def run(wired: Wired) -> Run:
    """Run a command; what it raises reaches the test."""
    app = typer.Typer()

    @contextmanager
    def open_services() -> Iterator[Wired]:
        yield wired

    for module in (budgets, holds, credits, entitlements, simulate):
        module.register(app, open_services)  # type: ignore[arg-type] # what the commands use

    def run(*arguments: str) -> Result:
        return CliRunner(env={"COLUMNS": "250"}).invoke(
            app, list(arguments), catch_exceptions=False
        )

    return run


@pytest.fixture
def ask(run: Run) -> Callable[..., Any]:
    """Run a command with --json and return what it printed."""

    def ask(*arguments: str, code: int = 0) -> Any:
        done = run(*arguments, "--json")
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    return ask


Ask = Callable[..., Any]
TOKENS = ("--provider", "openai", "--model", "gpt", "-q", "tokens.input=1000")


def spend(wired: Wired, id: str, tokens: int, *, tenant: str = "acme", **data: object) -> None:
    """Record usage of a thousandth of a dollar a token, now."""
    now = datetime.now(UTC).isoformat()
    body = wire(
        id,
        tenant=tenant,
        data={"quantities": {"tokens.input": tokens}, **data},
        time=now,
    )
    [outcome] = wired.ledger.record([body])
    assert outcome.status == "accepted"


def words(result: Result) -> str:
    """Return what was printed, without the frames of tables."""
    return " ".join(re.sub(r"[│┃━─┏┓┗┛├┤┼╇┡┩╋╂╴╶]", " ", result.stdout).split())


# -- budgets --------------------------------------------------------------------------


def test_a_cap_is_set_listed_and_shown(run: Run, ask: Ask) -> None:
    """Spent, held and available stand apart; the ladder says what fires when."""
    made = ask("budgets", "set", "team", "-t", "acme", "--cap", "100.50", "--by", "ann")
    assert {name: made[name] for name in ("kind", "limit", "spent", "held", "available")} == {
        "kind": "cap",
        "limit": "100.5",
        "spent": "0",
        "held": "0",
        "available": "100.5",
    }
    assert [one["step"] for one in made["steps"]] == ["inform@50%", "warn@80%", "stop@100%"]
    assert ask("budgets", "list") == [made] == ask("budgets", "list", "-t", "acme")
    shown = words(run("budgets", "show", "team", "-t", "acme"))
    assert "100.5 USD" in shown
    assert "without a price: deny; while the ledger is out: fail closed" in shown


def test_setting_the_same_again_changes_nothing(ask: Ask, wired: Wired) -> None:
    """Nothing is appended; another limit keeps the number and the counters."""
    spend(wired, "e-1", 2000)
    ask("budgets", "set", "team", "-t", "acme", "--cap", "100")
    version = wired.reads.tenant("acme").version
    assert ask("budgets", "set", "team", "-t", "acme", "--cap", "100.0")["limit"] == "100"
    assert wired.reads.tenant("acme").version == version
    raised = ask("budgets", "set", "team", "-t", "acme", "--cap", "200")
    assert (raised["number"], raised["limit"], raised["spent"]) == (0, "200", "2")


def test_a_new_budget_starts_from_what_the_ledger_has(ask: Ask, wired: Wired) -> None:
    """Usage before it counts, scope and meter respected; and what comes after it."""
    spend(wired, "e-1", 2000, user="u1")
    spend(wired, "e-2", 500, user="u2")
    for name, options in {
        "all": (),
        "u1": ("--scope", "user=u1", "--window", "lifetime"),
        "tokens": ("--measure", "tokens.input", "--window", "rolling:3d"),
    }.items():
        ask("budgets", "set", name, "-t", "acme", "--cap", "5000", *options)
    spend(wired, "e-3", 100, user="u1")
    spent = {one["budget"]: one["spent"] for one in ask("budgets", "list")}
    assert spent == {"all": "2.6", "tokens": "2600", "u1": "2.1"}
    with wired.tallybook.audit() as view:
        assert not verify(view=view).differences


def test_usage_that_comes_while_the_log_is_summed_counts_once(wired: Wired) -> None:
    """What was recorded after the snapshot is added under the lock, and nothing twice."""
    spend(wired, "e-1", 2000)

    @contextmanager
    def slow_audit() -> Iterator[Any]:
        with wired.tallybook.audit() as view:
            yield view
        spend(wired, "e-2", 300)

    slow = Budgets(wired.ledger, wired.reads, wired.protection_reads, slow_audit)
    made = slow.set({"cap": "100"}, tenant="acme", name="b", by="ann")
    assert made.spent == 23 * UNIT // 10
    spend(wired, "e-3", 1000)
    assert wired.budgets.show("b", tenant="acme").spent == 33 * UNIT // 10


def test_another_scope_is_a_new_budget_of_the_same_name(ask: Ask, wired: Wired) -> None:
    """The old one is ended and stays in the list of ended ones."""
    spend(wired, "e-1", 2000, user="u1")
    ask("budgets", "set", "team", "-t", "acme", "--cap", "100", "--scope", "user=u2")
    other = ask("budgets", "set", "team", "-t", "acme", "--cap", "100", "--scope", "user=u1")
    assert (other["number"], other["scope"], other["spent"]) == (1, "user=u1", "2")
    listed = ask("budgets", "list", "--ended")
    assert [(one["number"], one["state"]) for one in listed] == [(0, "ended"), (1, "open")]
    assert len(ask("budgets", "list")) == 1


def test_a_forecast_far_beyond_every_calendar_is_shown(run: Run, ask: Ask, wired: Wired) -> None:
    """A tiny use of a huge limit: no date, and no crash."""
    spend(wired, "e-1", 1)
    made = ask("budgets", "set", "b", "-t", "acme", "--cap", "999999999999999999")
    assert made["forecast"] is None or made["forecast"]["limit_at"] is None
    assert "999,999,999,999,999,999 USD" in words(run("budgets", "list"))


def test_steps_are_read_as_they_are_written(run: Run, ask: Ask) -> None:
    """What a budget shows of its ladder sets the same ladder again."""
    ladder = ("inform@12.5%", "warn@30", "downgrade@95%=openai/gpt=4@b", "confirm@80%", "stop@100%")
    options = [part for one in ladder for part in ("--step", one)]
    made = ask("budgets", "set", "b", "-t", "acme", "--cap", "100", *options)
    assert [one["step"] for one in made["steps"]] == list(ladder)
    assert [one["threshold"] for one in made["steps"]] == ["12.5", "30", "95", "80", "100"]
    assert made["ceiling"] == "80"
    assert "downgrade@95%=openai/gpt=4@b" in words(run("budgets", "show", "b", "-t", "acme"))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), "invalid_arguments"),
        (("--cap", "1", "--alert", "2"), "invalid_arguments"),
        (("--cap", "1", "--step", "warn"), "invalid_steps"),
        (("--alert", "1", "--step", "stop"), "invalid_steps"),
        (("--cap", "1", "--step", "halt"), "invalid_steps"),
        (("--cap", "1", "--step", "stop@"), "invalid_steps"),
        (("--cap", "1", "--step", "downgrade@95%="), "invalid_steps"),
        (("--cap", "1", "--step", "stop@-5"), "invalid_steps"),
        (("--cap", "-1"), "invalid_cap"),
        (("--cap", "1", "--window", "year"), "invalid_window"),
        (("--cap", "1", "--scope", "planet=mars"), "invalid_scope"),
        (("--cap", "1", "--measure", "smiles"), "invalid_measure"),
        (("--cap", "1", "--byok", "maybe"), "invalid_filter"),
        (("--cap", "1", "--on-outage", "lease"), "invalid_on_outage"),
        (("--cap", "1", "--currency", "EUR"), "invalid_currency"),
    ],
)
def test_a_budget_that_cannot_be_read_is_refused(
    run: Run, wired: Wired, options: tuple[str, ...], code: str
) -> None:
    """Each mistake has its code, and nothing is set."""
    with pytest.raises(InvalidInput) as caught:
        run("budgets", "set", "b", "-t", "acme", *options)
    assert caught.value.code == code
    assert not wired.budgets.list()


def test_a_misspelt_tenant_or_budget_is_not_made_by_the_way(run: Run, wired: Wired) -> None:
    """Every command names what there is not."""
    ask_for = ("-t", "acmee")
    for arguments in (
        ("budgets", "set", "b", *ask_for, "--cap", "1"),
        ("budgets", "none", *ask_for),
        ("budgets", "list", *ask_for),
        ("budgets", "steps", *ask_for),
        ("credits", "grant", "5", *ask_for),
        ("credits", "require", *ask_for),
        ("credits", "list", *ask_for),
        ("entitlements", "show", *ask_for),
        ("entitlements", "clear", *ask_for),
        ("holds", "list", *ask_for),
        ("holds", "decisions", *ask_for),
        ("simulate", *ask_for, "--amount", "1"),
    ):
        with pytest.raises(NotFound) as caught:
            run(*arguments)
        assert caught.value.code == "unknown_tenant"
    with pytest.raises(NotFound) as caught:
        run("budgets", "close", "b", "-t", "acme")
    assert caught.value.code == "unknown_budget"
    assert [one.tenant for one in wired.reads.tenants()] == ["acme"]


def test_a_closed_cap_refuses_until_it_is_reopened(run: Run, ask: Ask) -> None:
    """Another limit meanwhile does not open it; an ended one refuses nothing."""
    ask("budgets", "set", "b", "-t", "acme", "--cap", "100")
    ask("budgets", "close", "b", "-t", "acme")
    denied = ask("simulate", "-t", "acme", *TOKENS, code=3)
    assert denied["code"] == "denied_budget_closed"
    assert ask("budgets", "set", "b", "-t", "acme", "--cap", "200")["state"] == "closed"
    assert ask("budgets", "reopen", "b", "-t", "acme")["state"] == "open"
    ask("simulate", "-t", "acme", *TOKENS)
    ended = run("budgets", "end", "b", "-t", "acme").stdout
    assert ended == "cap b of acme is ended and applies to nothing\n"
    assert ask("budgets", "list") == []


def test_an_alert_cannot_be_closed(run: Run, ask: Ask) -> None:
    """It only tells; closing it would be a cap by another name."""
    ask("budgets", "set", "b", "-t", "acme", "--alert", "100")
    with pytest.raises(InvalidInput, match="alert"):
        run("budgets", "close", "b", "-t", "acme")


def test_a_confirmation_raises_the_ceiling_of_the_window(ask: Ask, run: Run) -> None:
    """A call that waits for a person exits 3 and passes afterwards; the id counts once."""
    steps = ("--step", "confirm@1", "--step", "stop")
    ask("budgets", "set", "b", "-t", "acme", "--cap", "5", *steps)
    two = ("--provider", "openai", "--model", "gpt", "-q", "tokens.input=2000")
    waiting = ask("holds", "authorize", "h-1", "-t", "acme", *two, code=3)
    assert (waiting["decision"], waiting["status"]) == ("confirm", "confirmation_required")
    confirm = ("budgets", "confirm", "b", "-t", "acme", "--id", "c-1", "--by", "ann")
    raised = ask(*confirm, "--ceiling", "3")
    assert (raised["ceiling"], raised["confirmed"]) == ("3", True)
    assert ask(*confirm, "--ceiling", "3") == raised
    with pytest.raises(Refused):
        run(*confirm, "--ceiling", "4")
    with pytest.raises(InvalidInput) as caught:
        run("budgets", "confirm", "b", "-t", "acme", "--ceiling", "6")
    assert caught.value.code == "invalid_ceiling"
    allowed = ask("holds", "authorize", "h-1", "-t", "acme", *two)
    assert allowed["decision"] == "allow"


def test_steps_that_fired_are_listed_once_a_window(run: Run, ask: Ask, wired: Wired) -> None:
    """Newest first; the budget shows which of its steps fired."""
    ask("budgets", "set", "b", "-t", "acme", "--cap", "10", "--window", "lifetime")
    ask("budgets", "set", "other", "-t", "acme", "--alert", "10", "--window", "lifetime")
    spend(wired, "e-1", 6000)
    spend(wired, "e-2", 100)
    spend(wired, "e-3", 2000)
    fired = ask("budgets", "steps", "-t", "acme", "--budget", "b")
    assert [(one["kind"], one["threshold"], one["used"]) for one in fired] == [
        ("warn", "8", "8.1"),
        ("inform", "5", "6"),
    ]
    assert len(ask("budgets", "steps", "-t", "acme")) == 4
    assert len(ask("budgets", "steps", "-t", "acme", "--limit", "3")) == 3
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    assert ask("budgets", "steps", "-t", "acme", "--since", tomorrow) == []
    shown = ask("budgets", "show", "b", "-t", "acme")["steps"]
    assert [one["fired"] for one in shown] == [True, True, False]
    assert "8.1" in words(run("budgets", "steps", "-t", "acme", "--budget", "b"))


def test_the_default_cap_is_what_was_said_of_it(run: Run, ask: Ask, wired: Wired) -> None:
    """The first authorization of a tenant without a cap brings it; "none" ends that."""
    assert ask("budgets", "default", "show")["limits"] == {}
    assert ask("budgets", "default", "set", "7.50", "--by", "ann")["limits"] == {"USD": "7.5"}
    denied = ask("holds", "authorize", "h-1", "-t", "acme", "--amount", "8", code=3)
    assert denied["reasons"][0]["limit"] == "7.5"
    [cap] = ask("budgets", "list", "-t", "acme")
    assert (cap["budget"], cap["limit"], cap["available"]) == ("default", "7.5", "7.5")

    assert ask("budgets", "none", "-t", "acme")["caps"] == []
    assert "already" in run("budgets", "none", "-t", "acme").stdout
    assert ask("holds", "authorize", "h-2", "-t", "acme", "--amount", "8")["decision"] == "allow"

    assert ask("budgets", "default", "none", "--by", "bob")["waived"] is True
    assert run("budgets", "default", "show").stdout.startswith("none: ")
    wired.tenants.open("beta")
    assert ask("holds", "authorize", "h-1", "-t", "beta", "--amount", "999")["decision"] == "allow"


# -- holds ----------------------------------------------------------------------------


def test_a_hold_lives_from_authorization_to_capture(run: Run, ask: Ask) -> None:
    """Each answer says what happened; the overrun is listed."""
    ask("budgets", "set", "b", "-t", "acme", "--cap", "10")
    created = ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS, "--user", "u1")
    assert (created["decision"], created["amount"], created["currency"]) == ("allow", "1", "USD")
    [line] = created["estimate"]
    assert (line["quantity"], line["rate"], line["amount"]) == ("1000", "0.001", "1")
    assert line["version"].startswith("default/openai@")
    assert ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS, "--user", "u1")["status"] == (
        "exists"
    )
    assert ask("holds", "extend", "h-1", "-t", "acme", "--step", "1", "--amount", "2")[
        "status"
    ] == ("extended")
    assert ask("holds", "progress", "h-1", "-t", "acme", "--step", "1", "-q", "tokens.input=500")[
        "status"
    ] == ("progressed")
    [shown] = ask("holds", "list", "--open")
    assert (shown["hold"], shown["user"], shown["reserved"]) == ("h-1", "u1", "2")
    assert shown["progress"] == {"tokens.input": "500"}
    [standing] = ask("budgets", "list")
    assert (standing["held"], standing["available"]) == ("2", "8")

    captured = ask("holds", "capture", "h-1", "-t", "acme", "-q", "tokens.input=3000")
    assert (captured["status"], captured["charge"], captured["overrun"]) == (
        "captured_over_hold",
        "3",
        "1",
    )
    assert ask("holds", "list", "--open") == []
    [over] = ask("holds", "list", "--overrun", "-t", "acme")
    assert (over["status"], over["overrun"], over["final"]) == ("captured", "1", True)
    assert "captured" in words(run("holds", "show", "h-1", "-t", "acme"))
    assert ask("holds", "reverse", "h-1", "-t", "acme", "--amount", "0.5")["status"] == "reversed"
    [standing] = ask("budgets", "list")
    assert (standing["spent"], standing["held"]) == ("2.5", "0")


def test_what_fails_exits_2_and_what_is_denied_3(run: Run, ask: Ask) -> None:
    """Programs tell a refusal from a mistake by the exit code alone."""
    ask("budgets", "set", "b", "-t", "acme", "--cap", "1.5")
    ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS)
    ask("holds", "extend", "h-1", "-t", "acme", "--step", "1", "--amount", "9", code=3)
    ask("holds", "authorize", "h-2", "-t", "acme", *TOKENS, code=3)
    ask("holds", "extend", "h-9", "-t", "acme", "--step", "1", "--amount", "9", code=2)
    ask("holds", "reverse", "h-9", "-t", "acme", "--amount", "9", code=2)
    ask("holds", "void", "h-1", "-t", "acme")
    ask("holds", "extend", "h-1", "-t", "acme", "--step", "1", "--amount", "1", code=2)
    for wrong in (("-q", "tokens.input"), ("-q", "a=1", "-q", "a=2"), ("--amount", "lots")):
        with pytest.raises(InvalidInput):
            run("holds", "authorize", "h-3", "-t", "acme", "--provider", "openai", *wrong)


def test_decisions_are_listed_with_their_reasons(run: Run, ask: Ask) -> None:
    """Newest first, by decision, by hold, and since a time."""
    ask("budgets", "set", "b", "-t", "acme", "--cap", "1.5")
    ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS, "--user", "u1")
    ask("holds", "authorize", "h-2", "-t", "acme", *TOKENS, code=3)
    both = ask("holds", "decisions", "-t", "acme")
    assert [(one["hold"], one["decision"], one["code"]) for one in both] == [
        ("h-2", "deny", "denied_exceeds_budget"),
        ("h-1", "allow", "created"),
    ]
    assert (both[1]["amount"], both[1]["user"], both[1]["model"]) == ("1", "u1", "gpt")
    [reason] = both[0]["reasons"]
    assert {name: reason[name] for name in ("name", "limit", "held", "asked", "available")} == {
        "name": "b",
        "limit": "1.5",
        "held": "1",
        "asked": "1",
        "available": "0.5",
    }
    assert ask("holds", "decisions", "-t", "acme", "--decision", "deny") == both[:1]
    assert ask("holds", "decisions", "-t", "acme", "--hold", "h-1") == both[1:]
    assert ask("holds", "decisions", "-t", "acme", "--limit", "1") == both[:1]
    assert ask("holds", "decisions", "-t", "acme", "--since", "2099-01-01") == []
    assert "limit 1.5, spent 0, held 1, asked 1" in words(run("holds", "decisions", "-t", "acme"))
    with pytest.raises(InvalidInput) as caught:
        run("holds", "decisions", "-t", "acme", "--decision", "maybe")
    assert caught.value.code == "invalid_decision"


def test_decisions_are_found_beyond_the_first_piece_of_the_log(ask: Ask, wired: Wired) -> None:
    """The log is read backwards until enough were found."""
    ask("holds", "authorize", "first", "-t", "acme", "--amount", "1")
    for place in range(230):
        spend(wired, f"e-{place}", 1)
    ask("holds", "authorize", "last", "-t", "acme", "--amount", "1")
    found = [one["hold"] for one in ask("holds", "decisions", "-t", "acme")]
    assert found == ["last", "first"]
    assert len(ask("holds", "decisions", "-t", "acme", "--hold", "first")) == 1


def test_expiring_twice_is_expiring_once(run: Run, ask: Ask, wired: Wired) -> None:
    """What is over is shown as expired before anybody has come by; other tenants' too."""
    wired.tenants.open("beta")
    for tenant in ("acme", "beta"):
        # The one that expires comes last: any command on its tenant would expire it.
        ask("holds", "authorize", "h-2", "-t", tenant, "--amount", "1")
        ask("holds", "authorize", "h-1", "-t", tenant, "--amount", "1", "--ttl", "1")
    time.sleep(1.1)
    waiting = ask("holds", "list", "--expired")
    assert [(one["hold"], one["status"], one["due"]) for one in waiting] == [
        ("h-1", "expired", True),
        ("h-1", "expired", True),
    ]
    assert [one["hold"] for one in ask("holds", "list", "--open")] == ["h-2", "h-2"]
    assert ask("holds", "expire")["expired"] == 2
    assert ask("holds", "expire")["expired"] == 0
    assert "0 holds expired" in run("holds", "expire").stdout
    expired = ask("holds", "list", "--expired", "-t", "beta")
    assert [(one["status"], one["due"], one["reserved"]) for one in expired] == [
        ("expired", False, "0")
    ]
    with wired.tallybook.audit() as view:
        assert not verify(view=view).differences


def test_only_one_kind_of_holds_is_listed_at_a_time(run: Run) -> None:
    """Two filters would say something that nobody asked for."""
    with pytest.raises(InvalidInput) as caught:
        run("holds", "list", "--open", "--expired")
    assert caught.value.code == "invalid_arguments"
    with pytest.raises(NotFound) as missing:
        run("holds", "show", "h-9", "-t", "acme")
    assert missing.value.code == "hold_not_found"


# -- simulate -------------------------------------------------------------------------


def test_a_simulation_shows_every_budget_and_the_price_and_keeps_nothing(
    run: Run, ask: Ask, wired: Wired
) -> None:
    """Allowed or denied, the numbers are those of an authorization."""
    ask("budgets", "set", "wide", "-t", "acme", "--cap", "100")
    ask("budgets", "set", "u1", "-t", "acme", "--cap", "1.5", "--scope", "user=u1")
    ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS, "--user", "u1")
    version = wired.reads.tenant("acme").version

    denied = ask("simulate", "-t", "acme", *TOKENS, "--user", "u1", code=3)
    assert (denied["decision"], denied["code"]) == ("deny", "denied_exceeds_budget")
    told = {one["name"]: (one["held"], one["available"]) for one in denied["reasons"]}
    assert told == {"u1": ("1", "0.5"), "wide": ("1", "99")}
    assert denied["estimate"][0]["amount"] == "1"
    allowed = ask("simulate", "-t", "acme", *TOKENS, "--user", "u2")
    assert (allowed["decision"], [one["name"] for one in allowed["reasons"]]) == (
        "allow",
        ["wide"],
    )
    shown = words(run("simulate", "-t", "acme", *TOKENS, "--user", "u1"))
    assert "deny (denied_exceeds_budget)" in shown
    month = f"month {datetime.now(UTC):%Y-%m}"
    assert f"applies wide; USD; {month} 100 0 1 1 99" in shown
    assert "tokens.input 1,000 0.001 1 default/openai@" in shown
    assert wired.reads.tenant("acme").version == version


# -- credit and entitlements ----------------------------------------------------------


def test_credit_is_granted_required_burned_and_listed(run: Run, ask: Ask, wired: Wired) -> None:
    """A hold needs it for its whole amount; usage burns it."""
    given = ask("credits", "grant", "2.50", "-t", "acme", "--id", "g-1", "--reason", "hello")
    assert (given["status"], given["free"]) == ("accepted", "2.5")
    again = ask("credits", "grant", "2.50", "-t", "acme", "--id", "g-1", "--reason", "hello")
    assert (again["status"], len(again["grants"])) == ("duplicate", 1)
    assert ask("credits", "require", "-t", "acme")["required"] is True
    assert "already" in run("credits", "require", "-t", "acme").stdout
    ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS)
    ask("holds", "authorize", "h-2", "-t", "acme", "--amount", "2", code=3)
    spend(wired, "e-1", 1000)
    listed = ask("credits", "list", "-t", "acme")
    [grant] = listed["grants"]
    assert (grant["burned"], grant["held"], grant["free"], listed["owed"]) == (
        "1",
        "1",
        "0.5",
        "0",
    )
    assert "0.5 USD free, 1 USD held; credit is required" in words(
        run("credits", "list", "-t", "acme")
    )
    assert ask("credits", "optional", "-t", "acme")["required"] is False


def test_a_refund_takes_free_paid_credit_once(run: Run, ask: Ask) -> None:
    """All that is left is the word available; promotional credit nobody paid."""
    ask("credits", "grant", "5", "-t", "acme", "--id", "g-1")
    ask("credits", "grant", "5", "-t", "acme", "--id", "gift", "--kind", "promotional")
    refund = ("credits", "refund", "available", "-t", "acme", "--grant", "g-1", "--id", "r-1")
    assert ask(*refund)["amount"] == "5"
    assert ask(*refund)["amount"] == "5"
    assert ask("credits", "list", "-t", "acme")["free"] == "5"
    for grant, code in (("gift", "not_refundable"), ("g-1", "exceeds_credit")):
        with pytest.raises(InvalidInput) as caught:
            run("credits", "refund", "1", "-t", "acme", "--grant", grant)
        assert caught.value.code == code


def test_a_transfer_is_in_one_ledger_or_the_other(run: Run, ask: Ask, wired: Wired) -> None:
    """Kind, priority and expiry go with it; the same again changes nothing."""
    wired.tenants.open("beta")
    grant = ("credits", "grant", "5", "-t", "acme", "--id", "g-1", "--priority", "3")
    ask(*grant, "--kind", "promotional", "--expires", "2099-01-01T00:00:00Z")
    transfer = ("-t", "acme", "--grant", "g-1", "--to", "beta", "--id", "t-1")
    assert ask("credits", "transfer", "2", *transfer)["amount"] == "2"
    assert ask("credits", "transfer", "2", *transfer)["amount"] == "2"
    assert ask("credits", "list", "-t", "acme")["free"] == "3"
    came = ask("credits", "list", "-t", "beta")
    [one] = came["grants"]
    assert came["free"] == "2"
    assert (one["kind"], one["priority"], one["expires_at"]) == (
        "promotional",
        3,
        "2099-01-01T00:00:00Z",
    )
    with pytest.raises(InvalidInput) as caught:
        run("credits", "transfer", "9", *transfer[:-1], "t-2")
    assert caught.value.code == "exceeds_credit"


def test_the_same_transfer_completes_a_half_done_one(wired: Wired) -> None:
    """Credit had left and not come; who repeats it need not be who began it."""
    wired.tenants.open("beta")
    wired.credits.grant({"id": "g-1", "amount": "5"}, tenant="acme")
    asked = {"id": "t-1", "grant": "g-1", "amount": "2", "to": "beta", "by": "ann"}
    accepted(wired.ledger, WithdrawCredit("acme", "t-1", "g-1", 2 * UNIT, to="beta", by="ann"))
    assert wired.credits.list(tenant="beta").free == 0
    wired.credits.transfer(asked, tenant="acme")
    wired.credits.transfer(asked, tenant="acme")
    assert wired.credits.list(tenant="beta").free == 2 * UNIT
    assert wired.credits.list(tenant="acme").free == 3 * UNIT


def test_two_givers_may_use_the_same_transfer_id(wired: Wired) -> None:
    """An id is one tenant's own; both amounts arrive."""
    for name in ("beta", "a:b"):
        wired.tenants.open(name)
    for giver in ("acme", "a:b"):
        wired.credits.grant({"id": "g-1", "amount": "5"}, tenant=giver)
        asked = {"id": "t-1", "grant": "g-1", "amount": "2", "to": "beta"}
        wired.credits.transfer(asked, tenant=giver)
    assert wired.credits.list(tenant="beta").free == 4 * UNIT
    assert transferred_id("a:b", "c") != transferred_id("a", "b:c")


def test_a_transfer_that_cannot_arrive_says_so(wired: Wired) -> None:
    """The credit has left; the answer names that, and how it is completed."""
    wired.tenants.open("beta")
    wired.credits.grant({"id": "g-1", "amount": "5"}, tenant="acme")
    taken = transferred_id("acme", "t-1")
    accepted(wired.ledger, GrantCredit("beta", taken, UNIT))
    with pytest.raises(Refused) as caught:
        wired.credits.transfer(
            {"id": "t-1", "grant": "g-1", "amount": "2", "to": "beta"}, tenant="acme"
        )
    assert caught.value.code == "transfer_incomplete"


@pytest.mark.parametrize(
    ("to", "code"),
    [("euros", "invalid_currency"), ("nobody", "unknown_tenant"), ("acme", "invalid_to")],
)
def test_credit_that_cannot_arrive_does_not_leave(wired: Wired, to: str, code: str) -> None:
    """Another currency, nobody, or oneself: the grant stays as it is."""
    wired.tenants.open("euros", currency="EUR")
    wired.credits.grant({"id": "g-1", "amount": "5"}, tenant="acme")
    with pytest.raises(LedgerError) as caught:
        wired.credits.transfer(
            {"id": "t-1", "grant": "g-1", "amount": "2", "to": to}, tenant="acme"
        )
    assert caught.value.code == code
    assert wired.credits.list(tenant="acme").free == 5 * UNIT


def test_ids_of_transfers_are_not_given_by_hand(run: Run) -> None:
    """A grant must not stand where a transfer will want to be."""
    with pytest.raises(InvalidInput) as caught:
        run("credits", "grant", "5", "-t", "acme", "--id", "transfer:beta:t-1")
    assert caught.value.code == "invalid_id"


def test_entitlements_refuse_what_is_not_on_the_list(run: Run, ask: Ask) -> None:
    """The decision names what was missing; clearing them lets everything pass."""
    said = ask("entitlements", "set", "-t", "acme", "--model", "mini*", "--tool", "nothing")
    assert said == {"tenant": "acme", "default": "allow", "models": ["mini*"], "tools": []}
    assert ask("entitlements", "show", "-t", "acme") == said
    denied = ask("simulate", "-t", "acme", *TOKENS, "--tool", "shell", code=3)
    assert denied["code"] == "denied_no_entitlement"
    assert [one["name"] for one in denied["reasons"] if one["code"] == "entitlement"] == [
        "model:gpt",
        "tool:shell",
    ]
    assert "mini*" in words(run("entitlements", "show", "-t", "acme"))
    assert run("entitlements", "clear", "-t", "acme").stdout == "acme may use everything\n"
    ask("simulate", "-t", "acme", *TOKENS)


def test_entitlements_come_from_options_or_a_file(
    run: Run, ask: Ask, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One of them, and one that can be read."""
    folder = tmp_path_factory.mktemp("entitlements")
    good, bad = folder / "good.json", folder / "bad.json"
    good.write_text('{"default": "deny", "models": ["gpt"]}')
    bad.write_text("[]")
    said = ask("entitlements", "set", "-t", "acme", "--file", str(good))
    assert said == {"tenant": "acme", "default": "deny", "models": ["gpt"]}
    for options, code in (
        ((), "invalid_arguments"),
        (("--default", "deny", "--file", str(good)), "invalid_arguments"),
        (("--file", str(bad)), "invalid_json"),
        (("--file", str(folder / "none.json")), "unreadable_file"),
        (("--default", "perhaps"), "invalid_default"),
    ):
        with pytest.raises(InvalidInput) as caught:
            run("entitlements", "set", "-t", "acme", *options)
        assert caught.value.code == code
