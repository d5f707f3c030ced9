"""Documents of every kind of ask, their readers, and values that are wrong in them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec
import pytest
from fakes.asking import QUANTITIES, ask

from ledger.application.asks import (
    authorize_hold,
    budget_terms,
    capture_hold,
    confirm_budget,
    entitlements,
    extend_hold,
    grant_credit,
    progress_hold,
    reverse_charge,
    void_hold,
    withdraw_credit,
)
from ledger.domain.budgets import BudgetTerms
from ledger.domain.errors import InvalidInput
from ledger.domain.holds import (
    AuthorizeHold,
)

ONE = 10**18
CAPTURE = {"capture": "c-1", "quantities": QUANTITIES}
BUDGET = {"limit": "100", "steps": [{"kind": "stop"}]}
GRANT = {"id": "g-1", "amount": "10"}
WITHDRAW = {"id": "w-1", "grant": "g-1", "amount": "10"}
REVERSE = {"reversal": "r-1", "capture": "c-1", "amount": "1"}
CONFIRM = {"id": "k-1", "ceiling": "150", "by": "ann"}
TERMS = BudgetTerms("monthly", 100 * ONE, currency="USD")
TOKENS = BudgetTerms("tokens", 10**6, measure="tokens.*")
ABSENT = object()


class Word(StrEnum):
    """Words that are text and more."""

    LEASE = "lease"
    OPENAI = "openai"


def authorize(document: Any, **members: Any) -> AuthorizeHold:
    """Read an ask of the tenant acme."""
    return authorize_hold(document, **({"tenant": "acme"} | members))


def read_terms(document: Any, name: str = "b") -> BudgetTerms:
    """Read the terms of a budget in USD."""
    return budget_terms(document, name=name, currency="USD")


READERS: dict[str, tuple[Callable[[Any], object], dict[str, Any]]] = {
    "authorize": (authorize, ask()),
    "extend": (lambda one: extend_hold(one, tenant="acme", hold="h-1"), {"step": 1, "amount": 1}),
    "progress": (
        lambda one: progress_hold(one, tenant="acme", hold="h-1"),
        {"step": 1, "quantities": QUANTITIES},
    ),
    "capture": (lambda one: capture_hold(one, tenant="acme", hold="h-1"), CAPTURE),
    "void": (lambda one: void_hold(one, tenant="acme", hold="h-1"), {"void": "v-1"}),
    "reverse": (lambda one: reverse_charge(one, tenant="acme"), REVERSE),
    "budget": (read_terms, BUDGET),
    "confirm": (
        lambda one: confirm_budget(one, tenant="acme", budget="monthly", terms=TERMS),
        CONFIRM,
    ),
    "grant": (lambda one: grant_credit(one, tenant="acme"), GRANT),
    "withdraw": (lambda one: withdraw_credit(one, tenant="acme"), WITHDRAW),
    "entitlements": (entitlements, {}),
}


def problem(read: Callable[[], object]) -> tuple[str, str]:
    """Return code and pointer of what is wrong; both can be sent as JSON."""
    with pytest.raises(InvalidInput) as caught:
        read()
    error = caught.value
    msgspec.json.encode([error.code, error.pointer, error.message])
    return error.code, error.pointer


def changed(kind: str, /, **members: Any) -> tuple[Callable[[Any], object], dict[str, Any]]:
    """Return a reader and its document with other members; ``ABSENT`` takes one away."""
    reader, document = READERS[kind]
    merged = document | members
    return reader, {name: value for name, value in merged.items() if value is not ABSENT}


TEXTS: list[Any] = [1, None, b"a", ["a"], "a" * 257, "a\n", "a\x7f", "a\x85", "\ud800"]
FLAGS: list[Any] = [0, 1, None, "true", 1.0]
NUMBERS: list[Any] = [
    0.5,
    1.0,
    True,
    None,
    -1,
    10**18,
    10**5000,
    "-1",
    "1e3",
    "+1",
    " 1",
    "1_0",
    "1.",
    ".5",
    "",
    "٣",
    "nan",
    "1\n",
    "9" * 5000,
    "1000000000000000000",
    "0.0000000000000000001",
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("-0.1"),
    Decimal("1e18"),
    Decimal("1e999999"),
    Decimal("1e-19"),
    Decimal("1e-999999"),
    [1],
]
ZERO: list[Any] = [0, "0", "0.0", Decimal(0)]
TIMES: list[Any] = [
    "now",
    "2026-11-03",
    "2026-11-03T12:00:00",
    "1999-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
    1_700_000_000,
    None,
    datetime(2026, 11, 3),  # noqa: DTZ001 - a naive one is the mistake
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(9999, 12, 31, tzinfo=timezone(-timedelta(hours=14))),
]
STEPS: list[Any] = [0, -1, True, 1.0, "1", None, 10**9 + 1, 10**5000]
TTLS: list[Any] = [0, "0.999999", 86401, "86400.000001", "1.0000001", *NUMBERS]
MAPPINGS: list[Any] = [None, 1, "a", ["a"], [("a", 1)]]
