"""``tallybook credits`` and ``entitlements``, really."""

from __future__ import annotations

import pytest
from fakes.protection_wired import TOKENS, Ask, Run, Wired, spend, words

from ledger.application.budgets import accepted
from ledger.application.credits import transferred_id
from ledger.domain.errors import InvalidInput, LedgerError, Refused
from ledger.domain.protection_commands import GrantCredit, WithdrawCredit

UNIT = 10**18


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
