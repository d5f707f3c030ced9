"""``tallybook budgets``, really."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fakes.protection_wired import TOKENS, Ask, Run, Wired, spend, words

from ledger.application.budgets import Budgets
from ledger.application.verify import verify
from ledger.domain.errors import InvalidInput, NotFound, Refused

UNIT = 10**18


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
