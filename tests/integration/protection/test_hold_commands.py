"""``tallybook holds`` and ``simulate``, really."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from fakes.protection_wired import TOKENS, Ask, Run, Wired, spend, words

from ledger.application.verify import verify
from ledger.domain.errors import InvalidInput, NotFound


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


# -- leases ---------------------------------------------------------------------------


def test_a_settled_lease_says_what_was_recorded_of_it(run: Run, ask: Ask, wired: Wired) -> None:
    """More than it was, too: that is an overrun as any other."""
    ask("budgets", "set", "cap", "-t", "acme", "--cap", "9", "--on-outage", "lease:2")
    lease = ("holds", "lease", "issue", "l-1", "-t", "acme")
    shown = run(*lease, "--amount", "2", "--provider", "openai", "--model", "gpt").stdout
    token = shown.splitlines()[-1]
    assert run("holds", "lease", "verify", token).exit_code == 0
    spend(wired, "e-1", 1500, hold="l-1")
    spend(wired, "e-2", 900, hold="l-1")
    assert ask("holds", "lease", "settle", "l-1", "-t", "acme") == {
        "status": "voided",
        "lease": "l-1",
        "state": "voided",
        "leased": "2",
        "released": "0",
        "overrun": "0.4",
        "currency": "USD",
        "recorded": "2.4",
    }
    again = run("holds", "lease", "settle", "l-1", "-t", "acme")
    assert again.stdout.splitlines() == [
        "exists, 0 USD released",
        "0.4 USD more than leased was recorded",
    ]


def test_no_lease_without_a_budget_that_allows_one(run: Run, ask: Ask) -> None:
    """Nor above what it allows; nothing is printed that looks like a token."""
    about = ("-t", "acme", "--provider", "openai", "--model", "gpt")
    ask("budgets", "set", "cap", "-t", "acme", "--cap", "1")
    with pytest.raises(InvalidInput) as refused:
        run("holds", "lease", "issue", "l-1", *about, "--amount", "0.5")
    assert refused.value.code == "invalid_amount"
    ask("budgets", "set", "cap", "-t", "acme", "--cap", "1", "--on-outage", "lease:5")
    denied = ask("holds", "lease", "issue", "l-2", *about, "--amount", "3", code=3)
    assert (denied["decision"], denied["token"]) == ("deny", None)


def test_only_leases_are_settled_and_one_that_is_over_is_settled(run: Run, ask: Ask) -> None:
    """A hold of one call is captured or voided; what expired reserves nothing any more."""
    ask("budgets", "set", "cap", "-t", "acme", "--cap", "9", "--on-outage", "lease:2")
    ask("holds", "authorize", "h-1", "-t", "acme", *TOKENS)
    with pytest.raises(InvalidInput) as refused:
        run("holds", "lease", "settle", "h-1", "-t", "acme")
    assert refused.value.code == "invalid_lease"
    ask("holds", "lease", "issue", "l-1", "-t", "acme", "--amount", "1", "--ttl", "1")
    time.sleep(1.1)
    settled = ask("holds", "lease", "settle", "l-1", "-t", "acme")
    assert (settled["status"], settled["state"]) == ("hold_already_expired", "expired")
