"""Reading budgets, credit and entitlements: what documents become, and mistakes inside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from fakes.ask_documents import (
    CONFIRM,
    GRANT,
    NUMBERS,
    ONE,
    TERMS,
    TOKENS,
    WITHDRAW,
    changed,
    problem,
    read_terms,
)
from fakes.building import us

from ledger.application.asks import (
    confirm_budget,
    entitlements,
    grant_credit,
    withdraw_credit,
)
from ledger.domain.budgets import BudgetTerms, Filter, Step, terms_body
from ledger.domain.default_cap import DefaultCap
from ledger.domain.entitlements import Entitlements, entitlements_body
from ledger.domain.holds import (
    AVAILABLE,
)
from ledger.domain.protection_commands import ConfirmBudget, GrantCredit, WithdrawCredit


def test_a_budget_becomes_its_terms() -> None:
    """Amounts in the measure, percentages x 100, lists sorted."""
    document = {
        "limit": "100",
        "scope": "label:team=blue=1",
        "filter": {"models": ["gpt*", "a", "gpt*"], "meters": ["tokens.*"], "byok": "exclude"},
        "measure": "cost",
        "currency": "EUR",
        "window": "day",
        "steps": [
            {"kind": "warn"},
            {"kind": "projected", "percent": "120.5"},
            {"kind": "downgrade", "model": "mini", "amount": "90"},
            {"kind": "stop", "percent": 1000},
        ],
        "on_unpriced": "allow",
        "on_outage": "lease:2.5",
        "state": "closed",
    }
    assert read_terms(document) == BudgetTerms(
        name="b",
        limit=100 * ONE,
        scope="label",
        value="team=blue=1",
        filter=Filter(models=("a", "gpt*"), meters=("tokens.*",), byok=False),
        measure="cost",
        currency="EUR",
        window="day",
        steps=(
            Step("warn", 8000),
            Step("projected", 12050),
            Step("downgrade", 0, 90 * ONE, "mini"),
            Step("stop", 100_000),
        ),
        on_unpriced="allow",
        lease=25 * 10**17,
        state="closed",
    )


def test_a_budget_of_a_meter_is_in_its_quantity() -> None:
    """Six decimals, no currency, one meter or all below one."""
    for measure in ("tokens.*", "tokens.input.*", "audio.stt.seconds"):
        terms = read_terms({"measure": measure, "cap": "1.5", "scope": "user=u1"})
        assert (terms.measure, terms.limit, terms.currency) == (measure, 1_500_000, "")
        assert (terms.scope, terms.value) == ("user", "u1")
    step = {"kind": "stop", "amount": "0.000001"}
    assert read_terms({"measure": "requests", "limit": 5, "steps": [step]}).steps[0].amount == 1


def test_cap_and_alert_have_the_ladders_of_the_spec() -> None:
    """An alert lets pass what has no price: it only tells."""
    cap, alert = read_terms({"cap": "100"}), read_terms({"alert": "100"})
    assert [(one.kind, one.percent) for one in cap.steps] == [
        ("inform", 5000),
        ("warn", 8000),
        ("stop", 10000),
    ]
    assert [(one.kind, one.percent) for one in alert.steps] == [
        ("inform", 5000),
        ("warn", 8000),
        ("inform", 10000),
    ]
    assert (cap.cap, cap.limit, cap.on_unpriced) == (True, 100 * ONE, "deny")
    assert (alert.cap, alert.limit, alert.on_unpriced) == (False, 100 * ONE, "allow")


def test_terms_that_spell_out_defaults_have_the_same_stored_form() -> None:
    """So setting a budget to what it is changes nothing."""
    spelled = {
        "cap": 100,
        "scope": "".join(["ten", "ant"]),
        "filter": {"providers": [], "byok": "include"},
        "measure": "".join(["char", "ge"]),
        "currency": "USD",
        "window": "".join(["mon", "th"]),
        "on_unpriced": "".join(["de", "ny"]),
        "on_outage": "fail_closed",
        "state": "".join(["op", "en"]),
    }
    default = DefaultCap().terms("USD")
    assert default is not None
    assert terms_body(read_terms(spelled, "default")) == terms_body(default)
    assert terms_body(read_terms({"cap": "100"}, "default")) == terms_body(default)


def test_a_confirmation_is_in_the_measure_of_its_budget() -> None:
    """Money for money, a quantity for a meter."""
    at = {"until": "2026-11-30T00:00:00Z", "reason": "launch"}
    members = {"tenant": "acme", "budget": "monthly"}
    assert confirm_budget(CONFIRM | at, terms=TERMS, **members) == ConfirmBudget(
        "acme", "k-1", "monthly", 150 * ONE, "ann", us("2026-11-30T00:00:00Z"), "launch"
    )
    tokens = confirm_budget(CONFIRM, terms=TOKENS, **members)
    assert tokens.ceiling == 150 * 10**6


def test_credit_documents_become_their_commands() -> None:
    """Grants, refunds, transfers."""
    assert grant_credit(GRANT, tenant="acme") == GrantCredit("acme", "g-1", 10 * ONE)
    full = GRANT | {
        "currency": "USD",
        "kind": "promotional",
        "priority": 0,
        "expires_at": datetime(2027, 1, 1, tzinfo=UTC),
        "filter": {"providers": ["openai"]},
        "by": "ann",
        "reason": "trial",
    }
    assert grant_credit(full, tenant="acme") == GrantCredit(
        "acme",
        "g-1",
        10 * ONE,
        "USD",
        "promotional",
        0,
        us("2027-01-01T00:00:00Z"),
        Filter(providers=("openai",)),
        "ann",
        "trial",
    )
    assert withdraw_credit(WITHDRAW, tenant="acme") == WithdrawCredit(
        "acme", "w-1", "g-1", 10 * ONE
    )
    all_of_it = WITHDRAW | {"amount": "available", "to": "other", "by": "ann", "reason": "moved"}
    assert withdraw_credit(all_of_it, tenant="acme") == WithdrawCredit(
        "acme", "w-1", "g-1", AVAILABLE, "other", "ann", "moved"
    )


def test_entitlements_tell_no_list_from_an_empty_one() -> None:
    """No list follows the default, an empty one allows nothing."""
    assert entitlements({}) == Entitlements()
    listed = entitlements({"default": "deny", "models": ["gpt*", "a"], "tools": []})
    assert listed == Entitlements("deny", models=("a", "gpt*"), tools=())
    spelled = entitlements({"default": "".join(["al", "low"])})
    assert entitlements_body(spelled) == entitlements_body(Entitlements())


def _budget(**members: Any) -> dict[str, Any]:
    return changed("budget", **members)[1]


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({}, ("invalid_limit", "/limit")),
        ({"cap": 1, "limit": 1}, ("invalid_cap", "/cap")),
        ({"cap": 1, "steps": []}, ("invalid_cap", "/cap")),
        ({"cap": 1, "alert": 1}, ("invalid_cap", "/cap")),
        ({"alert": 1, "limit": 1}, ("invalid_alert", "/alert")),
        ({"cap": "x"}, ("invalid_cap", "/cap")),
        ({"alert": 0.5}, ("invalid_alert", "/alert")),
        ({"alert": 1, "on_unpriced": "deny"}, ("invalid_on_unpriced", "/on_unpriced")),
        (_budget(steps=["stop"]), ("invalid_steps", "/steps/0")),
        (_budget(steps=[{}]), ("invalid_steps", "/steps/0/kind")),
        (_budget(steps=[{"kind": "halt"}]), ("invalid_steps", "/steps/0/kind")),
        (_budget(steps=[{"kind": "stop", "at": 1}]), ("unknown_member", "/steps/0/at")),
        (
            _budget(steps=[{"kind": "stop"}, {"kind": "stop", "percent": 1, "amount": 1}]),
            ("invalid_steps", "/steps/1"),
        ),
        *(
            (
                _budget(steps=[{"kind": "stop", "percent": value}]),
                ("invalid_steps", "/steps/0/percent"),
            )
            for value in (0, "0.009", "0.001", "1000.01", 1001, "100.001", 50.0, True, "x", None)
        ),
        *(
            (
                _budget(steps=[{"kind": "stop", "amount": value}]),
                ("invalid_steps", "/steps/0/amount"),
            )
            for value in NUMBERS
        ),
        (_budget(steps=[{"kind": "downgrade"}]), ("invalid_steps", "/steps/0/model")),
        (
            _budget(steps=[{"kind": "downgrade", "model": ""}]),
            ("invalid_steps", "/steps/0/model"),
        ),
        (
            _budget(steps=[{"kind": "stop", "model": "mini"}]),
            ("invalid_steps", "/steps/0/model"),
        ),
        *(
            (
                _budget(steps=[{"kind": "stop"}, {"kind": "projected"}], window=window),
                ("invalid_steps", "/steps/1"),
            )
            for window in ("lifetime", "rolling:24h")
        ),
        (_budget(filter={"colour": 1}), ("unknown_member", "/filter/colour")),
        (_budget(filter={"models": "gpt"}), ("invalid_filter", "/filter/models")),
        (_budget(filter={"models": ["a", 1]}), ("invalid_filter", "/filter/models/1")),
        (_budget(filter={"models": ["a*b"]}), ("invalid_filter", "/filter/models")),
        (_budget(filter={"models": ["a"] * 101}), ("invalid_filter", "/filter/models")),
        (_budget(filter={"meters": ["gold"]}), ("invalid_filter", "/filter/meters")),
        (_budget(filter={"meters": ["gold*"]}), ("invalid_filter", "/filter/meters")),
        (_budget(filter={"byok": True}), ("invalid_filter", "/filter/byok")),
        (_budget(measure="tokens.*", limit="0.0000001"), ("invalid_limit", "/limit")),
        (_budget(measure="tokens.*", currency="USD"), ("invalid_currency", "/currency")),
        (
            _budget(measure="tokens.*", steps=[{"kind": "stop", "amount": "0.0000001"}]),
            ("invalid_steps", "/steps/0/amount"),
        ),
    ],
)
def test_what_is_wrong_inside_a_budget_is_pointed_at(document: Any, found: tuple[str, str]) -> None:
    """The code names the budget's member, the pointer goes on inside."""
    assert problem(lambda: read_terms(document)) == found


def test_what_is_wrong_inside_entitlements_is_pointed_at() -> None:
    """Patterns end in their only star; meters exist."""
    for document, pointer in (
        ({"tools": ["a", ""]}, "/tools/1"),
        ({"models": ["*a"]}, "/models"),
        ({"meters": ["gold"]}, "/meters"),
    ):
        found = problem(lambda: entitlements(document))  # noqa: B023 - called at once
        assert found == (f"invalid_{pointer.split('/')[1]}", pointer)
